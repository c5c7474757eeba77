"""Which measures call a minimum flatter when only the scale of its parameters changes: Dinh et al. 2017."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bsexp.report import tables
from bsexp.report.folder import Run, Study, number, section
from bsexp.report.look import (
    COLOURS,
    LINES,
    legend_below,
    plain_number,
    plain_ticks,
    styled,
)
from bsexp.report.measures import MODES, SEARCHES, Measure, describe

KEPT = 0.05  # relative change up to which a measure counts as unchanged; rounding changes the adaptive ones by 1e-4
SECTIONS = ("Sharpness φ", "Hessian", "Rise of the loss")


@dataclass(frozen=True)
class Rescaled:
    """One measure of the compared group as trained and scaled up, beside the baseline as trained, as text."""

    section: str
    label: str
    mode: str
    baseline: str
    compared: str
    rescaled: str
    factor: str
    verdict: str


@styled
def invariance(study: Study) -> Figure | None:
    """Every measure of the compared group against the scale, relative to its value as trained; both axes logarithmic.

    A panel per batch-norm mode; None where nothing was measured at other scales.
    """
    runs = [run for run in _compared(study) if _scales(run)]
    names = _names(runs, SECTIONS)
    modes = [mode for mode in MODES if any(each.mode == mode for each in names)]
    if not modes:
        return None
    figure = Figure(figsize=(8.6, 4.9), layout="constrained")  # the width of its legend
    figure.set_label(
        f"Every measure of {runs[0].group} against the scale of its parameters, relative to its value as trained."
    )
    labels = list(dict.fromkeys(each.label for each in names))
    looks = dict(
        zip(
            labels,
            zip(itertools.cycle(COLOURS), itertools.cycle(LINES), strict=False),
            strict=False,
        )
    )
    panels = np.ravel(figure.subplots(1, len(modes), sharey=True))
    for panel, mode in zip(panels, modes, strict=True):
        for each in names:
            if each.mode == mode:
                _curve(panel, runs, each, *looks[each.label])
        _mark(panel, study, runs, mode, looks)
        panel.set_title(f"batch norm: {MODES[mode]}")
        _axes(panel)
    panels[0].set_ylabel(f"measure of {runs[0].group}, relative to as trained")
    handles = [
        Line2D([], [], color=colour, linestyle=line, linewidth=2, label=label)
        for label, (colour, line) in looks.items()
    ]
    legend_below(figure, handles, columns=2)
    return figure


def rescalings(study: Study) -> Iterator[Rescaled]:
    """Every measure of both groups as trained, and of the compared one at the scale where φ calls it the flatter.

    That is the smallest scale at which its φ is below the baseline's at every seed, or else the largest one measured.
    """
    if study.comparison is None:
        return
    before, after = (
        [run for run in study.groups.get(name, []) if _scales(run)]
        for name in study.comparison
    )
    if not (before and after):
        return
    for measure in _names(after, (*SECTIONS, "Loss", "Accuracy")):
        factor = _fooling(before, after, measure.mode)
        yield _row(measure, factor, *_values(before, after, measure.name, factor))


def answer(study: Study) -> Iterator[str]:
    """Yield, of the first mode that was measured, what scaling up does to φ and which measures it fools."""
    rows = [row for row in rescalings(study) if row.section in SECTIONS]
    if not rows or study.comparison is None:
        return
    (phi, *_) = rows
    baseline, compared = study.comparison
    how = "falls" if phi.verdict == "fooled" else "goes"
    yield (
        f"Where the layers in front of batch norm are scaled up {phi.factor} times, which leaves the function the same, {phi.label} of {compared} "
        f"{how} from {phi.compared} to {phi.rescaled}; that of {baseline}, as trained, is {phi.baseline} (mode {phi.mode})."
    )
    for verdict in ("fooled", "unchanged"):
        found = [
            f"rise of the loss, {row.label}"
            if row.section == "Rise of the loss"
            else row.label
            for row in rows
            if (row.mode, row.verdict) == (phi.mode, verdict)
        ]
        if found:
            yield f"{verdict.capitalize()}: {'; '.join(found)}."


def _compared(study: Study) -> list[Run]:
    """Return the runs of the compared group, of the last group where there is no comparison."""
    groups = study.groups
    name = study.comparison[1] if study.comparison else next(reversed(groups), "")
    return groups.get(name, [])


def _scales(run: Run) -> dict[int, dict[str, float]]:
    """Return factor -> measure -> value, by rising factor; the point as trained has the factor 1."""
    details = [
        section(record, "detail")
        for name, record in run.measurements.items()
        if name.startswith("invariance/")
    ]
    found = {
        int(number(detail.get("factor"))): {
            name: number(value) for name, value in section(detail, "measures").items()
        }
        for detail in details
        if number(detail.get("factor")) >= 1
    }
    return dict(sorted(found.items()))


def _names(runs: list[Run], sections: tuple[str, ...]) -> list[Measure]:
    found = {
        name for run in runs for values in _scales(run).values() for name in values
    }
    listed = [
        describe(name) for name in found if not name.endswith((*SEARCHES, "_flag"))
    ]
    known = [each for each in listed if each.section in sections]
    return sorted(
        known, key=lambda each: (sections.index(each.section), *each.order[1:])
    )


def _curve(
    panel: Axes, runs: list[Run], measure: Measure, colour: str, line: str
) -> None:
    found: dict[int, list[float]] = {}
    for run in runs:
        scales = _scales(run)
        trained = scales.get(1, {}).get(measure.name, math.nan)
        for factor, values in scales.items():
            value = values.get(measure.name, math.nan)
            if trained > 0 and value > 0:
                found.setdefault(factor, []).append(value / trained)
    means = [float(np.mean(found[factor])) for factor in found]
    panel.plot(list(found), means, color=colour, linestyle=line, linewidth=2)


def _mark(
    panel: Axes,
    study: Study,
    runs: list[Run],
    mode: str,
    looks: dict[str, tuple[str, str]],
) -> None:
    """Mark the baseline's φ, in units of the compared group's as trained."""
    before = study.groups.get(study.comparison[0], []) if study.comparison else []
    names = [each for each in _names(runs, SECTIONS[:1]) if each.mode == mode]
    if not before or not names:
        return
    baseline, compared, _ = _values(before, runs, names[0].name, 1)
    level = np.mean(baseline) / np.mean(compared)
    if math.isfinite(level):
        colour = looks[names[0].label][0]
        panel.axhline(level, color=colour, linestyle=(0, (1, 1)), linewidth=1)
        panel.annotate(
            f"φ of {study.comparison[0]} as trained",
            (max(factor for run in runs for factor in _scales(run)), level),
            xytext=(0, 2),
            textcoords="offset points",
            horizontalalignment="right",
            fontsize=8,
            color=colour,
        )


def _axes(panel: Axes) -> None:
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(plain_number)
    panel.set_yscale("log")
    plain_ticks(panel.yaxis)
    panel.set_xlabel("scale of the layers in front of batch norm")


def _values(
    before: list[Run], after: list[Run], name: str, factor: int
) -> tuple[list[float], list[float], list[float]]:
    """Return a measure of the baseline, of the compared group, and of it scaled up, seed by seed where all three are finite."""
    baselines = {
        run.seed: _scales(run).get(1, {}).get(name, math.nan) for run in before
    }
    rows = []
    for run in after:
        scales = _scales(run)
        trained, scaled = (
            scales.get(each, {}).get(name, math.nan) for each in (1, factor)
        )
        rows.append((baselines.get(run.seed, math.nan), trained, scaled))
    whole = [row for row in rows if all(map(math.isfinite, row))]
    baseline, compared, scaled = (
        (list(column) for column in zip(*whole, strict=True)) if whole else ([], [], [])
    )
    return baseline, compared, scaled


def _fooling(before: list[Run], after: list[Run], mode: str) -> int:
    phi = next(
        (each.name for each in _names(after, SECTIONS[:1]) if each.mode == mode), ""
    )
    factors = sorted({factor for run in after for factor in _scales(run)})
    for factor in factors[1:]:
        baseline, _, scaled = _values(before, after, phi, factor)
        if scaled and all(map(float.__lt__, scaled, baseline)):
            return factor
    return factors[-1]


def _row(
    measure: Measure,
    factor: int,
    baseline: list[float],
    compared: list[float],
    scaled: list[float],
) -> Rescaled:
    unit = f", {measure.unit}" if measure.unit else ""
    texts = (
        _spread([measure.scale * value for value in values])
        for values in (baseline, compared, scaled)
    )
    verdict = _verdict(baseline, compared, scaled)
    return Rescaled(
        measure.section,
        measure.label + unit,
        measure.mode,
        *texts,
        str(factor),
        verdict,
    )


def _spread(values: list[float]) -> str:
    if not values:
        return tables.ABSENT
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return tables.spread(float(np.mean(values)), std)


def _verdict(baseline: list[float], compared: list[float], scaled: list[float]) -> str:
    if not scaled:
        return tables.ABSENT
    if np.allclose(scaled, compared, rtol=KEPT, atol=0):
        return "unchanged"
    rows = zip(compared, baseline, scaled, strict=True)
    if all(trained > before > after for trained, before, after in rows):
        return "fooled"
    return "changed"
