"""The study's answer as one sentence, computed from the summary's numbers."""

import math
from collections.abc import Mapping
from typing import Any

SHARPNESS = "ratio/sharpness/full/1e-3/running"
ACCURACY = "gap/test_accuracy"
LEVEL = 0.05  # of the one-sided Welch test
MODE = "φ at ε = 1e-3 in the full space, running-average batch norm"


def answer(
    comparison: tuple[str, str] | None,
    groups: Mapping[str, Any],
    pairs: Mapping[str, Any],
    *,
    finished: bool,
) -> str:
    """Say whether the compared group is sharper and generalises worse, and what the seeds allow to conclude."""
    if comparison is None:
        return "This study names no two groups to compare; the table gives the numbers of each."
    names = [_name(group, groups) for group in comparison]
    pair = pairs["/".join(reversed(comparison))]
    ratio, gap = (_measured(pair, measure) for measure in (SHARPNESS, ACCURACY))
    if not ratio and not gap:
        return (
            f"The question cannot be answered{'' if finished else ' yet'}: no seed has a finite sharpness or "
            f"test accuracy in both {names[0]} and {names[1]}."
        )
    start = "" if finished else "So far, with the study unfinished, "
    return f"{start}{_sharpness(ratio, *names)}; {_accuracy(gap, comparison[1])}."


def _name(group: str, groups: Mapping[str, Any]) -> str:
    return (
        f"{group} (batch size {groups[group]['batch_size']})"
        if group in groups
        else group
    )


def _measured(pair: Mapping[str, Any], measure: str) -> Mapping[str, Any] | None:
    return pair[measure] if measure in pair and pair[measure]["n"] else None


def _sharpness(ratio: Mapping[str, Any] | None, baseline: str, compared: str) -> str:
    if ratio is None:
        return f"whether {compared} is sharper than {baseline} is not known, for no seed has {MODE}, in both"
    values = [value for value in ratio["values"] if math.isfinite(value)]
    low, high = min(values), max(values)
    if low < 1 < high:
        verdict = f"the seeds disagree on whether {compared} is sharper than {baseline}"
        return f"{verdict}: {MODE}, has ratios from {_times(low)} to {_times(high)} over {len(values)} seeds"
    verdict = (
        "sharper than" if high > 1 else "flatter than" if low < 1 else "as sharp as"
    )
    how = f"{_times(ratio['mean'])} times as large"
    if len(values) == 1:
        return f"{compared} is {verdict} {baseline} in the only seed ({MODE}, is {how}), and one seed cannot tell"
    spread = f"from {_times(low)} to {_times(high)} over {len(values)} seeds"
    return (
        f"{compared} is {verdict} {baseline} at every seed: {MODE}, is {how} ({spread})"
    )


def _accuracy(gap: Mapping[str, Any] | None, compared: str) -> str:
    if gap is None:
        return "no seed has a test accuracy in both groups, so nothing can be said about generalisation"
    points, single = 100 * gap["mean"], gap["n"] == 1
    if abs(points) < 1e-9:  # rounding of equal fractions
        return f"the test accuracy of {compared} is the same on average, so no loss of generalisation was seen"
    size = (
        f"{abs(points):.2f} points"
        if single
        else f"{abs(points):.2f} ± {100 * gap['std']:.2f} points"
    )
    if points < 0:
        tail = (
            ", and one seed cannot tell"
            if single
            else ", so no loss of generalisation was seen"
        )
        return (
            f"the test accuracy of {compared} is not lower but higher by {size}{tail}"
        )
    return f"the test accuracy of {compared} is lower by {size}{_verdict(gap['p_value'], single)}"


def _verdict(p_value: float, single: bool) -> str:
    if single:
        return " in the only seed, and one seed cannot tell a difference from noise"
    if math.isnan(p_value):
        return ", but the seeds show no spread to test it against"
    p = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    test = f"one-sided Welch test at {100 * LEVEL:.0f} %, {p}"
    return f", which {'exceeds' if p_value < LEVEL else 'does not exceed'} the noise between seeds ({test})"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.2g}"
