"""What was measured along training: every measure against the epoch, and sharpness against the loss."""

import math
import textwrap
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bsexp.report import noise_scale
from bsexp.report.folder import Run, Study, number, section, values
from bsexp.report.look import (
    legend_below,
    looks,
    plain_ticks,
    styled,
    title,
    with_gaps,
)
from bsexp.report.measures import (
    MODES,
    SEARCHES,
    Measure,
    describe,
    full_sharpness,
)

# Measure without its mode -> that of the limit which stands in its panel, dashed.
LIMITS = {
    "hessian/lambda_max": "update/stability_limit",
    "hessian/preconditioned": "update/preconditioned_limit",
}
LABEL = 26  # characters of a line of a panel's label
SPREAD = 100.0  # largest over smallest value from which on an axis is logarithmic


@styled
def along_training(study: Study) -> Figure | None:
    """Every measure against the epochs before it: a thin line per run, a thick one for the group's mean (of a noise scale: of all runs together).

    A panel per measure and batch-norm mode; None where nothing was measured along training.
    """
    measures = _measures(study)
    if not measures:
        return None
    rows = math.ceil(len(measures) / 2)
    figure = Figure(figsize=(8.6, 2.3 * rows + 0.6), layout="constrained")
    figure.set_label("Every measure against the epoch, by group and batch-norm mode.")
    panels = np.ravel(figure.subplots(rows, 2, sharex=True, squeeze=False))
    for panel, measure in zip(panels, measures, strict=False):
        _panel(panel, study, measure)
    for panel in panels[len(measures) :]:
        panel.set_visible(False)
    for panel in panels[: len(measures)][-2:]:
        panel.set_xlabel("epochs before the point")
        panel.tick_params(labelbottom=True)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, list(_legend(study, measures)))
    return figure


@styled
def sharpness_and_loss(study: Study) -> Figure | None:
    """Sharpness against the training loss at the same point, a line per run through its epochs, both axes logarithmic.

    A panel per radius and batch-norm mode; None where sharpness was not measured along training.
    """
    names = sorted(
        {
            name
            for run in study.runs
            for records in run.along.values()
            for name in records
            if name.startswith("sharpness/full/")
        },
        key=lambda name: describe(name).order,
    )
    if not names:
        return None
    rows = math.ceil(len(names) / 2)
    figure = Figure(figsize=(8.6, 3.3 * rows + 0.6), layout="constrained")
    figure.set_label("Sharpness against training loss along training, by group.")
    panels = np.ravel(figure.subplots(rows, 2, squeeze=False))
    for panel, name in zip(panels, names, strict=False):
        _loss_panel(panel, study, name)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    handles = [
        Line2D([], [], color=colour, linestyle=line, marker="o", label=title(runs))
        for runs, (colour, line) in looks(study)
    ]
    legend_below(figure, handles)
    return figure


def answer(study: Study) -> Iterator[str]:
    """Yield from which measured epoch on the compared group is the sharper one at every seed, by its largest box."""
    names = full_sharpness(
        name for run in study.runs for point in run.along.values() for name in point
    )
    if study.comparison is None or not names:
        return
    baseline, compared = (
        {run.seed: run for run in study.groups.get(name, [])}
        for name in study.comparison
    )
    seeds = baseline.keys() & compared.keys()
    for mode in MODES if seeds else ():
        name = f"{names[0]}/{mode}"
        found = {
            epoch: all(
                _value(compared[seed], epoch, name)
                > _value(baseline[seed], epoch, name)
                for seed in seeds
            )
            for epoch in sorted({e for run in study.runs for e in run.along})
        }
        since = [
            epoch
            for epoch, sharper in found.items()
            if sharper and all(found[later] for later in found if later > epoch)
        ]
        if since:
            epochs = ", ".join(map(str, found))
            yield (
                f"Along training, {describe(name).label} of {study.comparison[1]} is above {study.comparison[0]}'s at every one of {len(seeds)} seeds "
                f"from epoch {since[0]} on (of {epochs}; mode {mode})."
            )


def _value(run: Run, epoch: int, name: str) -> float:
    return values(run.along.get(epoch, {})).get(name, math.nan)


def _measures(study: Study) -> list[Measure]:
    """Return the measures to draw, the two modes of one side by side; limits stand in other measures' panels."""
    found = {
        name
        for run in study.runs
        for each in run.along.values()
        for name in values(each)
    }
    listed = sorted(map(describe, found), key=lambda measure: measure.order)
    by_name: dict[str, list[Measure]] = {}
    for measure in listed:
        if measure.name not in LIMITS.values() and not measure.name.endswith(
            tuple(SEARCHES)
        ):
            by_name.setdefault(_plain_name(measure), []).append(measure)
    rows = sorted(by_name.values(), key=len, reverse=True)
    return [measure for row in rows for measure in row]


def _plain_name(measure: Measure) -> str:
    return measure.name.removesuffix(f"/{measure.mode}")


def _panel(panel: Axes, study: Study, measure: Measure) -> None:
    limit = LIMITS.get(_plain_name(measure), "")
    shown: list[float] = []
    for runs, (colour, line) in looks(study):
        curves = [_curve(run, measure.name, measure.scale) for run in runs]
        for x, y in curves:
            panel.plot(x, y, color=colour, linestyle=line, linewidth=0.7, alpha=0.5)
            shown += y
        panel.plot(
            *_centre(runs, measure, curves),
            color=colour,
            linestyle=line,
            linewidth=2,
            marker="o",
            markersize=3,
        )
        bound = _mean([_curve(run, limit, 1.0) for run in runs])
        panel.plot(*bound, color=colour, linestyle=(0, (1, 1)), linewidth=1.2)
        shown += bound[1]
    finite = [value for value in shown if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > SPREAD * min(finite):
        panel.set_yscale("log")
        plain_ticks(panel.yaxis)
    elif finite and min(finite) >= 0:
        panel.set_ylim(bottom=0)
    unit = f", {measure.unit}" if measure.unit else ""
    panel.set_ylabel(textwrap.fill(measure.label + unit, LABEL))
    if measure.mode:
        panel.set_title(f"batch norm: {MODES[measure.mode]}")


def _curve(run: Run, name: str, scale: float) -> tuple[list[int], list[float]]:
    found = {epoch: values(run.along[epoch]) for epoch in sorted(run.along)}
    known = {epoch: each[name] for epoch, each in found.items() if name in each}
    return list(known), [scale * value for value in known.values()]


def _centre(
    runs: list[Run], measure: Measure, curves: list[tuple[list[int], list[float]]]
) -> tuple[list[int], list[float]]:
    """Return the group's line: the mean of its runs, of a noise scale the one of all runs together."""
    if not measure.name.startswith(noise_scale.MEASURE):
        return _mean(curves)
    found = noise_scale.along(runs, measure.name)
    return list(found), with_gaps(found.values())


def _mean(
    curves: list[tuple[list[int], list[float]]],
) -> tuple[list[int], list[float]]:
    """Average over the runs, epoch by epoch; NaN where one has no finite value: the others are not its mean."""
    found: dict[int, list[float]] = {}
    for epochs, curve in curves:
        for epoch, value in zip(epochs, curve, strict=True):
            found.setdefault(epoch, []).append(value)
    epochs = sorted(found)
    return epochs, with_gaps(float(np.mean(found[epoch])) for epoch in epochs)


def _loss_panel(panel: Axes, study: Study, name: str) -> None:
    for runs, (colour, line) in looks(study):
        for run in runs:
            points = list(_losses(run, name))
            if not points:
                continue
            _, losses, found = zip(*points, strict=True)
            panel.plot(
                losses,
                found,
                color=colour,
                linestyle=line,
                marker="o",
                markersize=3,
                linewidth=0.9,
            )
            for epoch, loss, value in (points[0], points[-1]):
                panel.annotate(
                    str(epoch),
                    (loss, value),
                    xytext=(3, 3),
                    textcoords="offset points",
                    fontsize=7.5,
                    color=colour,
                )
    measure = describe(name)
    panel.set_title(
        f"{measure.label.split(', ')[-1]}, batch norm: {MODES[measure.mode]}"
    )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.margins(0.12)
    plain_ticks(panel.xaxis)
    plain_ticks(panel.yaxis)
    panel.set_xlabel("training loss, nats")
    panel.set_ylabel("sharpness φ")


def _losses(run: Run, name: str) -> Iterator[tuple[int, float, float]]:
    """Yield (epoch, f(x), φ) of a run; a logarithmic axis has no place for zero."""
    for epoch in sorted(run.along):
        record = run.along[epoch].get(name)
        loss = number(section(record, "detail").get("loss_at_point"))
        value = number(section(record, "values").get(name))
        if loss > 0 and value > 0:
            yield epoch, loss, value


def _legend(study: Study, measures: list[Measure]) -> Iterator[Line2D]:
    for runs, (colour, line) in looks(study):
        yield Line2D(
            [], [], color=colour, linestyle=line, linewidth=2, label=title(runs)
        )
    limits = [LIMITS.get(_plain_name(measure), "") for measure in measures]
    if any(_curve(run, limit, 1.0)[0] for run in study.runs for limit in limits):
        dots = {"color": "0.35", "linestyle": (0, (1, 1))}
        yield Line2D([], [], label="stable up to here, full batches", **dots)
