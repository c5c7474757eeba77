"""How much the batch-norm mode changes sharpness, accuracy and the verdicts, said from the numbers of some studies."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bsexp.report import verdicts
from bsexp.report.caveats import mean
from bsexp.report.measures import MODES, in_mode
from bsexp.report.tables import times


def of_numbers(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Say, from the numbers of some networks, how much the mode changes φ, its ratio and the test accuracy."""
    parts, ratios = [], []
    for network, summary in summaries.items():
        pairs = list(_in_both_modes(summary))
        if not pairs:
            continue
        factors = [
            f"{_range([running[i] / batch[i] for running, batch in pairs])} at {group}"
            for i, group in enumerate(verdicts.GROUPS)
        ]
        parts.append(f"{', '.join(factors)} of {network}")
        contrasts = [
            f"{_range([each[at][1] / each[at][0] for each in pairs])} with {words}"
            for at, words in enumerate(MODES.values())
        ]
        ratios.append(f"{', '.join(contrasts)} of {network}")
    if not parts:
        return "No φ has been measured in both batch-norm modes yet."
    return (
        "Measured with running averages, φ is so many times what it is with the statistics of the batch, over spaces and ε, "
        f"of the larger of both searches: {'; '.join(parts)}. LB / SB is {'; '.join(ratios)}. {_accuracies(summaries)}"
    )


def of_verdicts(found: Sequence[verdicts.Row]) -> str:
    """Say how many verdicts depend on the mode."""
    by_pair: dict[tuple[str, int, str, str], dict[str, str]] = {}
    for row in found:
        if row.verdict != verdicts.NOT_RUN:
            pair = row.network, row.table, row.label, row.search
            by_pair.setdefault(pair, {})[row.mode] = row.verdict
    both = [each for each in by_pair.values() if len(each) == len(MODES)]
    if not both:
        return ""
    differ = sum(len(set(each.values())) > 1 for each in both)
    return f"The verdict depends on the mode in {differ} of {len(both)} pairs of cells and ways of searching."


def _in_both_modes(
    summary: Mapping[str, Any],
) -> Iterator[tuple[list[float], list[float]]]:
    """Yield ([SB, LB] in mode running, [SB, LB] in mode batch) of the means of each φ that is above zero in all four."""
    for cell in verdicts.CELLS:
        names = {mode: name for mode, search, name in cell.ours if search == "best"}
        found = [
            [mean(summary, group, names[mode]) for group in verdicts.GROUPS]
            for mode in MODES
            if names
        ]
        if found and all(value > 0 for values in found for value in values):
            yield found[0], found[1]


def _accuracies(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    gaps = [
        100 * abs(running - batch)
        for summary in summaries.values()
        for group in verdicts.GROUPS
        for running, batch in [
            [mean(summary, group, in_mode("test_accuracy", mode)) for mode in MODES]
        ]
        if math.isfinite(running - batch)
    ]
    if not gaps:
        return "No test accuracy was measured in both modes."
    return f"The mean test accuracy changes by at most {max(gaps):.2f} points."


def _range(values: list[float]) -> str:
    low, high = times(min(values)), times(max(values))
    return low if low == high else f"{low} to {high}"
