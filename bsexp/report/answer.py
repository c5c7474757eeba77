"""The study's answer in a few sentences, computed from the summary's numbers."""

import math
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from bsexp.report.certainty import doubt
from bsexp.report.measures import describe
from bsexp.report.tables import times
from bsexp.report.welch import LEVEL, welch, written

PREFERRED = (
    "1e-3"  # the half-width that the paper's text speaks of, where it was measured
)
MODES_IN_A_SENTENCE = {
    "running": "running-average batch norm",
    "batch": "batch norm by the statistics of the batch",
}
ACCURACIES = ("gap/test_accuracy", "gap/test_accuracy/batch")
LOSSES = ("test_loss", "test_loss/batch")
# Other measures of curvature and sharpness, which need not say what φ says; without their modes.
BESIDE = (
    "hessian/trace",
    "hessian/lambda_max",
    "flatness/adaptive",
    "flatness/adaptive_noise",
)


def answer(
    comparison: tuple[str, str] | None,
    groups: Mapping[str, Any],
    pairs: Mapping[str, Any],
    *,
    finished: bool,
) -> str:
    """Say whether the compared group is sharper and generalises worse, and what the seeds allow to conclude."""
    if comparison is None and len(groups) == 1:
        return "One group was measured; the table gives its numbers."
    if comparison is None:
        return "This study names no two groups to compare; the table gives the numbers of each."
    names = [_name(group, groups) for group in comparison]
    pair = pairs["/".join(reversed(comparison))]
    chosen = next((measure for measure in _sharpnesses(pair) if pair[measure]["n"]), "")
    ratio = pair[chosen] if chosen else None
    gap = next(
        (
            pair[measure]
            for measure in ACCURACIES
            if measure in pair and pair[measure]["n"]
        ),
        None,
    )
    if not ratio and not gap:
        return (
            f"The question cannot be answered{'' if finished else ' yet'}: no seed has a finite sharpness or "
            f"test accuracy in both {names[0]} and {names[1]}."
        )
    start = "" if finished else "So far, with the study unfinished, "
    factor = _of_pairs(chosen, ratio, comparison, groups)
    measured = any(
        name.startswith("sharpness/") and entry["values"]
        for group in groups.values()
        for name, entry in group.items()
    )
    sharpness = (
        _sharpness(ratio, factor, _words(chosen), *names)
        if measured
        else "sharpness was not measured"
    )
    first = f"{start}{sharpness}; {_accuracy(gap, comparison[1])}."
    sentences = [
        first[0].upper() + first[1:],
        *_loss(comparison, groups),
        *_beside(comparison, groups),
        *_others(comparison, groups, chosen.removeprefix("ratio/")),
    ]
    return " ".join(sentences)


def _of_means(
    measure: str, comparison: tuple[str, str], groups: Mapping[str, Any]
) -> float:
    """Return the ratio of the means, compared / baseline, as the tables have them; NaN where one is missing or not above 0."""
    baseline, compared = (
        groups.get(name, {}).get(measure, {}).get("mean", math.nan)
        for name in comparison
    )
    return compared / baseline if baseline > 0 and compared > 0 else math.nan


def _of_pairs(
    chosen: str,
    ratio: Mapping[str, Any] | None,
    comparison: tuple[str, str],
    groups: Mapping[str, Any],
) -> float:
    """Return the ratio of the means over the seeds that have a finite ratio: it lies between the smallest and the largest."""
    if ratio is None:
        return math.nan
    paired = {
        seed
        for seed, value in zip(ratio["seeds"], ratio["values"], strict=True)
        if math.isfinite(value)
    }
    entries = [groups[name][chosen.removeprefix("ratio/")] for name in comparison]
    baseline, compared = (
        fmean(
            value
            for seed, value in zip(entry["seeds"], entry["values"], strict=True)
            if seed in paired
        )
        for entry in entries
    )
    return compared / baseline


def _beside(comparison: tuple[str, str], groups: Mapping[str, Any]) -> Iterator[str]:
    told = []
    for kind in BESIDE:
        ratios = {
            mode: _of_means(f"{kind}/{mode}", comparison, groups)
            for mode in MODES_IN_A_SENTENCE
        }
        known = [
            f"{times(ratio)} ({', '.join([mode, *_doubts(f'{kind}/{mode}', comparison, groups)])})"
            for mode, ratio in ratios.items()
            if math.isfinite(ratio)
        ]
        if known:
            measure = describe(f"{kind}/running")
            of = "rise of the loss, " if kind.startswith("flatness/") else ""
            told.append(f"{of}{measure.label} {', '.join(known)}")
    if told:
        pair = " / ".join(reversed(comparison))
        yield f"Other measures, {pair}: {'; '.join(told)}."


def _doubts(
    measure: str, comparison: tuple[str, str], groups: Mapping[str, Any]
) -> Iterator[str]:
    for name in comparison:
        if found := doubt(groups[name][measure]):
            yield f"{name} {found}"


def _loss(comparison: tuple[str, str], groups: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the test losses compare: a test accuracy may fall while they do too."""
    for name in LOSSES:
        baseline, compared = (
            groups.get(group, {}).get(name, {}).get("mean", math.nan)
            for group in comparison
        )
        if baseline == compared:
            yield f"The mean test loss of both is {compared:.3g} nats."
        elif math.isfinite(baseline - compared):
            how = "higher" if compared > baseline else "lower"
            yield f"The mean test loss of {comparison[1]} is {how}: {compared:.3g} nats, that of {comparison[0]} {baseline:.3g}."
        if math.isfinite(baseline - compared):
            return


def _others(
    comparison: tuple[str, str], groups: Mapping[str, Any], sharpness: str
) -> Iterator[str]:
    """Yield how every other group compares with the compared one."""
    compared = comparison[1]
    told, tested = [], False
    for name in groups:
        if name in comparison:
            continue
        parts = []
        gain, p_value = _gain(compared, name, groups)
        if math.isfinite(gain):
            p = "" if math.isnan(p_value) else f" (p {written(p_value)})"
            # NOTE: adding 0 makes a zero of a negative one.
            parts.append(f"{round(gain, 2) + 0:+.2f}{p}")
            tested = tested or bool(p)
        factor = _of_means(sharpness, (compared, name), groups)
        if math.isfinite(factor):
            parts.append(f"φ {times(factor)} times")
        if parts:
            told.append(f"{name} {', '.join(parts)}")
    if told:
        test = " (p of the one-sided Welch test that it is higher, not corrected for their number)"
        yield (
            f"Against {compared}, in points of test accuracy{test if tested else ''} and by the same φ: {'; '.join(told)}."
        )


def _gain(compared: str, name: str, groups: Mapping[str, Any]) -> tuple[float, float]:
    """Return by how many points the test accuracy of a group is higher, and p; NaN where one of the two has none."""
    for accuracy in ACCURACIES:
        ours, theirs = (
            _finite(groups[each], accuracy.removeprefix("gap/"))
            for each in (name, compared)
        )
        if ours and theirs:
            return 100 * (fmean(ours) - fmean(theirs)), welch(ours, theirs)
    return math.nan, math.nan


def _finite(group: Mapping[str, Any], measure: str) -> list[float]:
    values = group.get(measure, {}).get("values", [])
    return [value for value in values if math.isfinite(value)]


def _sharpnesses(pair: Mapping[str, Any]) -> list[str]:
    """List the ratios of φ in the order in which they are to be quoted: running before batch, 1e-3 before others."""
    found = [
        measure
        for measure in pair
        if measure.startswith("ratio/sharpness/full/") and measure.count("/") == 4
    ]

    def rank(measure: str) -> tuple[int, bool, float]:
        *_, epsilon, mode = measure.split("/")
        return (
            [*MODES_IN_A_SENTENCE, mode].index(mode),
            epsilon != PREFERRED,
            -float(epsilon),
        )

    return sorted(found, key=rank)


def _words(measure: str) -> str:
    if not measure:
        return "a finite φ"
    *_, space, epsilon, mode = measure.split("/")
    return f"φ at ε = {epsilon} in the {space} space, {MODES_IN_A_SENTENCE.get(mode, mode)}"


def _name(group: str, groups: Mapping[str, Any]) -> str:
    return (
        f"{group} (batch size {groups[group]['batch_size']})"
        if group in groups
        else group
    )


def _sharpness(
    ratio: Mapping[str, Any] | None,
    factor: float,
    what: str,
    baseline: str,
    compared: str,
) -> str:
    if ratio is None:
        return f"whether {compared} is sharper than {baseline} is not known, for no seed has {what} in both"
    values = [value for value in ratio["values"] if math.isfinite(value)]
    low, high = min(values), max(values)
    seeds, everywhere, only = f"{len(values)} seeds", "at every seed", "the only seed"
    if len(values) < len(ratio["values"]):
        seeds = f"the {len(values)} of {len(ratio['values'])} seeds that have it"
        everywhere, only = "wherever it has a value", f"{only} that has it"
    if low <= 1 <= high and low < high:
        verdict = f"the seeds disagree on whether {compared} is sharper than {baseline}"
        return f"{verdict}: {what}, has ratios from {times(low)} to {times(high)} over {seeds}"
    verdict = (
        "sharper than" if high > 1 else "flatter than" if low < 1 else "as sharp as"
    )
    how = f"{times(factor)} times as large"
    if len(values) == 1:
        return f"{compared} is {verdict} {baseline} in {only} ({what}, is {how}), and one seed cannot tell"
    spread = f"from {times(low)} to {times(high)} over {seeds}"
    return (
        f"{compared} is {verdict} {baseline} {everywhere}: {what}, is {how} ({spread})"
    )


def _accuracy(gap: Mapping[str, Any] | None, compared: str) -> str:
    if gap is None:
        return "no seed has a test accuracy in both groups, so nothing can be said about generalisation"
    points, single = 100 * gap["mean"], gap["n"] == 1
    if abs(points) < 1e-9:  # rounding of equal fractions
        return f"the test accuracy of {compared} is the same on average, so no loss of generalisation was seen"
    error = "" if single else f" (standard error {100 * gap['stderr']:.2f})"
    size = f"{abs(points):.2f} points{error}"
    of = "the only seed" + " that has it" * (len(gap["values"]) > 1)
    if points < 0:
        tail = (
            f" in {of}, and one seed cannot tell"
            if single
            else ", so no loss of generalisation was seen"
        )
        return (
            f"the test accuracy of {compared} is not lower but higher by {size}{tail}"
        )
    return f"the test accuracy of {compared} is lower by {size}{_verdict(gap['p_value'], of if single else '')}"


def _verdict(p_value: float, only: str) -> str:
    if only:
        return f" in {only}, and one seed cannot tell a difference from noise"
    if math.isnan(p_value):
        return ", but the seeds show no spread to test it against"
    test = f"one-sided Welch test at {100 * LEVEL:.0f} %, p {written(p_value)}"
    return f", which {'exceeds' if p_value < LEVEL else 'does not exceed'} the noise between seeds ({test})"
