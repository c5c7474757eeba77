"""The report's figures: each function takes a study's folder as read, and returns a Figure or None.

A figure's label is its description for readers who cannot see it.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bsexp.report.folder import Run, Study, number, numbers, section
from bsexp.report.look import COLOURS, legend_below, looks, plain_ticks, styled, title
from bsexp.report.measures import MODES

PATH = {"train": "-", "test": "--"}
CURVES = [f"{part}_{kind}" for part in PATH for kind in ("loss", "accuracy")]


@styled
def training_curves(study: Study) -> Figure | None:
    """Training and test accuracy against epochs: a thin line per run, a thick one for the group's mean.

    The mean is over the group's longest runs only, so that it does not jump where a run was interrupted.
    None where no run has a curve.
    """
    if not any(run.rows for run in study.runs):
        return None
    figure = Figure(figsize=(8.6, 3.7), layout="constrained")
    figure.set_label("Training and test accuracy against epochs, per group and seed.")
    panels = figure.subplots(1, 2, sharey=True)
    shown: list[float] = []
    for panel, part in zip(panels, ("train", "test"), strict=True):
        curves = [_curves(panel, runs, part, *look) for runs, look in looks(study)]
        panel.set_title(
            {"train": "Training (running mean over the epoch)", "test": "Test"}[part]
        )
        panel.set_xlabel("epoch")
        shown += [value for group in curves for curve in group for value in curve]
    _focus(panels[0], shown)
    panels[0].set_ylabel("accuracy, %")
    handles = [
        Line2D([], [], color=colour, linestyle=line, linewidth=2, label=title(runs))
        for runs, (colour, line) in looks(study)
    ]
    legend_below(figure, handles)
    return figure


@styled
def linear_path(study: Study) -> Figure | None:
    """Loss and accuracy along the line through both minima, f(alpha x_LB + (1 - alpha) x_SB).

    One panel per batch-norm mode; None where no run has measured the line.
    """
    label = "Loss and accuracy along the straight line through both minima."
    return _path_figure(study, "linear", label)


@styled
def arc_path(study: Study) -> Figure | None:
    """Loss and accuracy along the arc through both minima, f(sin(alpha pi/2) x_LB + cos(alpha pi/2) x_SB).

    One panel per batch-norm mode; None where no run has measured the arc.
    """
    label = "Loss and accuracy along an arc through both minima."
    return _path_figure(study, "arc", label)


def _path_figure(study: Study, shape: str, label: str) -> Figure | None:
    found = {mode: list(_paths(study, shape, mode)) for mode in MODES}
    found = {mode: paths for mode, paths in found.items() if paths}
    if not found or study.comparison is None:
        return None
    figure = Figure(figsize=(4.9 * len(found) + 0.4, 4.1), layout="constrained")
    figure.set_label(label)
    for panel, (mode, paths) in zip(
        np.ravel(figure.subplots(1, len(found))), found.items(), strict=True
    ):
        _path_panel(panel, paths)
        panel.set_title(f"batch norm: {MODES[mode]}", pad=20)
        for alpha, name in zip((0, 1), study.comparison, strict=True):
            panel.axvline(alpha, color="0.6", linewidth=0.8)
            panel.annotate(
                name,
                (alpha, 1.01),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
            )
    handles = [
        Line2D(
            [], [], color=colour, linestyle=line, marker=marker, label=f"{part} {kind}"
        )
        for kind, colour, marker in (
            ("loss (left)", COLOURS[0], ""),
            ("accuracy (right)", COLOURS[1], "o"),
        )
        for part, line in PATH.items()
    ]
    legend_below(figure, handles)
    return figure


def _curves(
    panel: Axes, runs: list[Run], part: str, colour: str, line: str
) -> list[list[float]]:
    curves = [
        [100 * number(row.get(f"{part}_accuracy")) for row in run.rows]
        for run in runs
        if run.rows
    ]
    epochs = [
        [number(row.get("epoch")) for row in run.rows] for run in runs if run.rows
    ]
    for x, curve in zip(epochs, curves, strict=True):
        panel.plot(x, curve, color=colour, linestyle=line, linewidth=0.7, alpha=0.5)
    if curves:
        longest = max(epochs, key=len)
        mean = np.mean(
            [curve for curve in curves if len(curve) == len(longest)], axis=0
        )
        panel.plot(longest, mean, color=colour, linestyle=line, linewidth=2)
    return curves


def _focus(panel: Axes, values: Iterable[float]) -> None:
    """Leave the lowest tenth of all values out of the frame: what the groups differ in lies above it."""
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        low, high = np.quantile(finite, 0.1), max(finite)
        margin = 0.06 * (high - low) + 0.01  # not zero where all values are equal
        panel.set_ylim(low - margin, high + margin)


def _paths(study: Study, shape: str, mode: str) -> Iterator[dict[str, np.ndarray]]:
    for run in study.runs:
        detail = section(run.measurements.get(f"path/{shape}/{mode}"), "detail")
        alpha = numbers(detail.get("alpha"))
        if alpha:
            curves = {key: _curve(detail.get(key), len(alpha)) for key in CURVES}
            yield {"alpha": np.array(alpha), **curves}


def _curve(values: object, length: int) -> np.ndarray:
    found = numbers(values)
    return np.array(found if len(found) == length else [math.nan] * length)


def _path_panel(panel: Axes, paths: list[dict[str, np.ndarray]]) -> None:
    right = panel.twinx()
    alpha = paths[0]["alpha"]
    same = [path for path in paths if np.array_equal(path["alpha"], alpha)]
    for axes, kind, scale, colour in (
        (panel, "loss", 1, COLOURS[0]),
        (right, "accuracy", 100, COLOURS[1]),
    ):
        for part, line in PATH.items():
            curves = [scale * path[f"{part}_{kind}"] for path in same]
            for curve in curves:
                axes.plot(
                    alpha, curve, color=colour, linestyle=line, linewidth=0.6, alpha=0.5
                )
            marker = "o" if kind == "accuracy" else ""
            axes.plot(
                alpha,
                np.mean(curves, axis=0),
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=3,
            )
        axes.tick_params(axis="y", colors=colour)
    panel.set_yscale("log", nonpositive="mask")
    plain_ticks(panel.yaxis)
    panel.set_xlabel("\N{GREEK SMALL LETTER ALPHA}")
    panel.set_ylabel("cross-entropy loss", color=COLOURS[0])
    right.set_ylabel("accuracy, %", color=COLOURS[1])
    right.set_ylim(0, 105)
