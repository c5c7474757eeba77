"""Runs that begin with another run's weights: what becomes of them, against how long that run had trained."""

import itertools
import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bsexp.report.folder import Run, Study, number, section
from bsexp.report.look import COLOURS, legend_below, plain_ticks, styled
from bsexp.report.measures import (
    MODES,
    Measure,
    describe,
    full_sharpness,
    in_mode,
)


@styled
def warm_start(study: Study) -> Figure | None:
    """Test accuracy and sharpness against the epochs before the start, a column per batch-norm mode.

    As Figure 5 of arXiv:1609.04836. None where no two groups begin with the weights of other groups.
    """
    started = _started(study)
    donors = {donor for donor, _ in started.values()}
    columns = {mode: _measures(study, mode) for mode in MODES}
    columns = {mode: found for mode, found in columns.items() if found}
    if len(started) < 2 or not columns:
        return None
    rows = max(map(len, columns.values()))
    figure = Figure(figsize=(8.6, 2.7 * rows + 0.6), layout="constrained")
    figure.set_label(
        "Test accuracy and sharpness of runs that begin with another run's weights, against its epochs until then."
    )
    panels = figure.subplots(rows, len(columns), sharex=True, squeeze=False)
    colours = dict(zip(sorted(donors), itertools.cycle(COLOURS), strict=False))
    for column, (mode, measures) in enumerate(columns.items()):
        for panel, measure in zip(panels[:, column], measures, strict=False):
            for donor, colour in colours.items():
                _curve(panel, study, started, donor, measure, colour)
            _axes(panel, measure)
        panels[0, column].set_title(f"batch norm: {MODES[mode]}")
        panels[-1, column].set_xlabel("epochs before the start")
    legend_below(figure, _legend(colours))
    return figure


def _started(study: Study) -> dict[str, tuple[str, int]]:
    """Return group -> (group of the runs that it begins with, their epochs until then)."""
    settings = section(section(study.record, "config"), "groups")
    found = {name: section(section(settings, name), "start") for name in study.groups}
    return {
        name: (str(start.get("group")), int(number(start.get("epoch", 0))))
        for name, start in found.items()
        if str(start.get("group")) in study.groups
        and math.isfinite(number(start.get("epoch", 0)))
    }


def _measures(study: Study, mode: str) -> list[Measure]:
    """Return test accuracy, then φ by falling radius, as far as they were measured."""
    known = {name for run in study.runs for name in run.values}
    measures = ("test_accuracy", *full_sharpness(known))
    names = [in_mode(measure, mode) for measure in measures]
    return [describe(name) for name in names if name in known]


def _curve(
    panel: Axes,
    study: Study,
    started: dict[str, tuple[str, int]],
    donor: str,
    measure: Measure,
    colour: str,
) -> None:
    """Draw the runs that begin with a group's weights, and that group itself as a level."""
    points = sorted(
        (epoch, _values(study.groups[name], measure))
        for name, (other, epoch) in started.items()
        if other == donor
    )
    for epoch, values in points:
        panel.plot(
            [epoch] * len(values),
            values,
            color=colour,
            linestyle="",
            marker="o",
            markersize=3,
            alpha=0.5,
        )
    means = [(epoch, float(np.mean(values))) for epoch, values in points if values]
    if means:
        panel.plot(*zip(*means, strict=True), color=colour, linewidth=2)
    level = _values(study.groups[donor], measure)
    if level:
        panel.axhline(float(np.mean(level)), color=colour, linestyle="--", linewidth=1)


def _values(runs: list[Run], measure: Measure) -> list[float]:
    """Return the finite values of a measure in its unit; none of φ that a logarithmic axis cannot show."""
    found = [measure.scale * run.values.get(measure.name, math.nan) for run in runs]
    least = 0.0 if measure.name.startswith("sharpness/") else -math.inf
    return [value for value in found if math.isfinite(value) and value > least]


def _axes(panel: Axes, measure: Measure) -> None:
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    unit = f", {measure.unit}" if measure.unit else ""
    panel.set_ylabel(f"{measure.label}{unit}")
    if measure.name.startswith("sharpness/"):
        panel.set_yscale("log")
        plain_ticks(panel.yaxis)


def _legend(colours: dict[str, str]) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, linestyle=line, label=label)
        for donor, colour in colours.items()
        for line, label in (
            ("-", f"begun with {donor}'s weights"),
            ("--", f"{donor} at its end"),
        )
    ]
