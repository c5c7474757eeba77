"""Accuracy and sharpness against the batch size, and from which size on they change: Figure 4 of arXiv:1609.04836."""

import itertools
import math
from collections.abc import Collection, Iterator
from statistics import fmean, stdev

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bsexp.report.certainty import certainty, doubt
from bsexp.report.folder import Study
from bsexp.report.look import COLOURS, LINES, legend_below, plain_ticks, styled
from bsexp.report.measures import MODES, describe, full_sharpness, in_mode
from bsexp.report.sizes import (
    differ_in_size_alone,
    listed,
    one_group_a_size,
    tuned_for_size,
)
from bsexp.report.tables import times
from bsexp.report.welch import LEVEL, welch

BESIDE = ("hessian/trace", "hessian/lambda_max")
UNKNOWN = "one seed, or seeds without any spread, cannot tell"
Curve = dict[int, list[float]]  # batch size -> finite values, one a seed


@styled
def batch_sizes(study: Study) -> Figure | None:
    """Accuracy held out, and sharpness for each radius, against the batch size: mean with standard deviation, a dot per run.

    A line per batch-norm mode; None where the groups do not differ in the batch size, with what is chosen for it, alone,
    or are fewer than three.
    """
    panels = list(_panels(study))
    if not panels:
        return None
    figure = Figure(figsize=(4.4 * len(panels) + 0.2, 3.9), layout="constrained")
    figure.set_label("Accuracy and sharpness against the batch size.")
    drawn = np.ravel(figure.subplots(1, len(panels)))
    for axes, (label, curves) in zip(drawn, panels, strict=True):
        _draw(axes, label, curves)
    handles, _ = drawn[0].get_legend_handles_labels()
    legend_below(figure, handles, columns=2)
    return figure


def thresholds(study: Study, modes: Collection[str] = tuple(MODES)) -> Iterator[str]:
    """Say in a sentence per measure and mode from which batch size on it changes; nothing where there is no figure."""
    panels, tuned = list(_panels(study)), tuned_for_size(study)
    if panels and tuned:
        yield f"The batch sizes also differ in {', '.join(tuned)}."
    for label, curves in panels:
        for mode, curve in curves.items():
            if mode not in modes:
                continue
            lost = _lost(study, curve)
            found = (
                _accuracy(curve)
                if "accuracy" in label
                else _sharpness(curve, all_there=not lost)
            )
            yield f"{label}, batch norm: {MODES[mode]}: {found}{_without(lost)}."
    if panels:
        yield from _beside(study, modes)


def _beside(study: Study, modes: Collection[str]) -> Iterator[str]:
    """Yield at which batch sizes other measures of curvature, which need not follow sharpness, are lowest and highest."""
    for kind, mode in itertools.product(BESIDE, modes):
        curve = _curve(study, in_mode(kind, mode))
        means = {size: fmean(values) for size, values in curve.items()}
        if len(means) > 1:
            low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)  # fmt: skip
            lowest, highest = (
                f"{means[size]:.3g}, at {size:,}{_doubt(study, size, in_mode(kind, mode), means[size])}"
                for size in (low, high)
            )
            yield (
                f"Beside φ, {describe(in_mode(kind, mode)).label}, batch norm: {MODES[mode]}: lowest, {lowest}; highest, {highest}"
                f"{_without(_lost(study, curve))}."
            )


def _lost(study: Study, curve: Curve) -> set[int]:
    """Return the batch sizes of which no run has a value."""
    return {run.batch_size for run in study.runs} - curve.keys()


def _without(lost: set[int]) -> str:
    return f"; without a value at {listed(sorted(lost))}" if lost else ""


def _doubt(study: Study, size: int, measure: str, mean: float) -> str:
    points = [run.measurements for run in study.runs if run.batch_size == size]
    found = doubt({"mean": mean, **certainty(points, measure)})
    return f" ({found})" if found else ""


def largest_without_loss(curve: Curve) -> int | None:
    """Return the largest batch size whose values are not significantly below those of the best; None: it cannot be told.

    The best has the highest mean; the test is Welch's, one-sided, at 5 %, and not corrected for the number of sizes.
    """
    told = [(size, p) for size, p in _losses(curve) if not math.isnan(p)]
    not_lower = (size for size, p in told if p >= LEVEL)
    return max([_best(curve), *not_lower]) if told else None


def smallest_above_first(curve: Curve) -> int | None:
    """Return the smallest batch size whose values are significantly above those of the smallest; None: there is none.

    The test is Welch's, one-sided, at 5 %, of the logarithms where all values are above 0: sharpness spans orders of
    magnitude, as does its spread between seeds.
    """
    return min((size for size, p in _rises(curve) if p < LEVEL), default=None)


def _losses(curve: Curve) -> list[tuple[int, float]]:
    """Return (size, p-value) of being below the best, of all others; NaN where it cannot be told."""
    best = _best(curve)
    return [(size, welch(curve[best], curve[size])) for size in curve if size != best]


def _best(curve: Curve) -> int:
    return max(curve, key=lambda size: fmean(curve[size]))


def _rises(curve: Curve) -> list[tuple[int, float]]:
    """Return (size, p-value) of being above the smallest size, of all others; NaN where it cannot be told."""
    positive = min(itertools.chain(*curve.values())) > 0
    tested = {
        size: [math.log(value) for value in values] if positive else values
        for size, values in curve.items()
    }
    first = tested.pop(min(curve))
    return [(size, welch(values, first)) for size, values in tested.items()]


def _panels(study: Study) -> Iterator[tuple[str, dict[str, Curve]]]:
    """Yield (label, mode -> curve) of every panel that has values."""
    if not (differ_in_size_alone(study) and one_group_a_size(study)):
        return
    names = {name for run in study.runs for name in run.values}
    accuracies = "validation_accuracy", "test_accuracy"
    for measure in (*accuracies, *full_sharpness(names)):
        by_mode = {mode: in_mode(measure, mode) for mode in MODES}
        curves = {mode: _curve(study, name) for mode, name in by_mode.items()}
        curves = {mode: curve for mode, curve in curves.items() if len(curve) > 1}
        if curves:
            told = describe(by_mode[next(iter(curves))])
            unit = f", {told.unit}" if told.unit else ""
            yield told.label + unit, curves


def _curve(study: Study, name: str) -> Curve:
    scale = describe(name).scale
    by_size = sorted(study.groups.values(), key=lambda runs: runs[0].batch_size)
    found = {
        runs[0].batch_size: [
            scale * run.values[name]
            for run in runs
            if math.isfinite(run.values.get(name, math.nan))
        ]
        for runs in by_size
    }
    return {size: values for size, values in found.items() if values}


def _draw(axes: Axes, label: str, curves: dict[str, Curve]) -> None:
    accuracy = "accuracy" in label
    for mode, colour, line in zip(MODES, COLOURS, LINES, strict=False):
        curve = curves.get(mode, {})
        means = [fmean(values) for values in curve.values()]
        spreads = [stdev(v) if len(v) > 1 else 0 for v in curve.values()]
        # On a logarithmic axis a bar that reaches zero ends where the frame cuts it.
        lower = spreads if accuracy else np.minimum(spreads, 0.999 * np.array(means))
        axes.errorbar(
            list(curve),
            means,
            yerr=[lower, spreads],
            color=colour,
            linestyle=line,
            marker="o",
            markersize=4,
            capsize=2,
            label=f"batch norm: {MODES[mode]}",
        )
        for size, values in curve.items():
            axes.plot([size] * len(values), values, ".", color=colour, alpha=0.35)
        find = largest_without_loss if accuracy else smallest_above_first
        threshold = find(curve) if curve else None
        if threshold is not None:
            axes.axvline(threshold, color=colour, linestyle=":", linewidth=1.2)
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
    axes.set_xlabel("batch size")
    axes.set_ylabel(label)
    if not accuracy:
        axes.set_yscale("log", nonpositive="mask")
        plain_ticks(axes.yaxis)


def _accuracy(curve: Curve) -> str:
    others = _losses(curve)
    if all(math.isnan(p) for _, p in others):
        return f"{UNKNOWN} where it falls"
    best = _best(curve)
    parts = {
        "not significantly lower at": [size for size, p in others if p >= LEVEL],
        "significantly lower at": [size for size, p in others if p < LEVEL],
        "of one seed, or of seeds without any spread, at": [
            size for size, p in others if math.isnan(p)
        ],
    }
    told = [f"{words} {listed(sizes)}" for words, sizes in parts.items() if sizes]
    return "; ".join([f"highest, {fmean(curve[best]):.4g}, at {best:,}", *told])


def _sharpness(curve: Curve, *, all_there: bool) -> str:
    """Say where a curve rises, and of all larger sizes only where all sizes of the study have values."""
    if all(math.isnan(p) for _, p in _rises(curve)):
        return f"{UNKNOWN} where it rises"
    found = smallest_above_first(curve)
    if found is None:
        return f"at no batch size significantly above that of {min(curve):,}"
    not_above = [size for size, p in _rises(curve) if p >= LEVEL and size > found]
    untold = [size for size, p in _rises(curve) if math.isnan(p)]
    said = f"{found:,} is the smallest batch size significantly above {min(curve):,}"
    if not_above:
        verb = "is" if len(not_above) == 1 else "are"
        said += f"; of the larger ones {listed(not_above)} {verb} not"
    elif found < max(curve) and not untold and all_there:
        said += ", and all larger ones are"
    if untold:
        said += f"; of one seed, or of seeds without any spread, at {listed(untold)}"
    low, high, factor = _steepest(curve)
    if not factor > 1:
        return said
    return f"{said}; the rise is steepest from {low:,} to {high:,}, {times(factor)} times a doubling"


def _steepest(curve: Curve) -> tuple[int, int, float]:
    """Return the neighbouring sizes between whose means the curve rises most a doubling, and the factor; NaN without any above 0."""
    rises = [
        (
            low,
            high,
            (fmean(curve[high]) / fmean(curve[low])) ** (1 / math.log2(high / low)),
        )
        for low, high in itertools.pairwise(sorted(curve))
        if fmean(curve[low]) > 0
    ]
    return max(rises, key=lambda rise: rise[2], default=(0, 0, math.nan))
