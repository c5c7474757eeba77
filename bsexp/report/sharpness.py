"""The sharpness figure: every run's two searches beside the paper's value."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bsexp.report.folder import Run, Study, number, section
from bsexp.report.look import legend_below, looks, plain_ticks, styled, title
from bsexp.report.measures import MODES, PAPERS_SEARCH, SEARCHES

SEARCH_MARKERS = {"lbfgsb": "v", "sign_ascent": "^"}
NAMES_IN_A_ROW = 40  # letters below a panel
LONGEST_NAME = 16  # letters; of group names, below a column


@styled
def sharpness(study: Study) -> Figure | None:
    """Sharpness per group, radius and batch-norm mode, on a log axis, with both searches and the paper's value.

    Filled: the larger of the two searches, which is the reported value. None where nothing was measured.
    """
    names = dict.fromkeys(
        m for run in study.runs for m in run.values if m.startswith("sharpness/")
    )
    modes = {mode: sorted(m for m in names if m.endswith(f"/{mode}")) for mode in MODES}
    modes = {mode: measures for mode, measures in modes.items() if measures}
    if not modes:
        return None
    figure = Figure(
        figsize=(max(4.3 * len(modes) + 0.6, 7.5), 4.3), layout="constrained"
    )
    figure.set_label(
        "Sharpness of every run, by group, radius and batch-norm mode, on a logarithmic axis."
    )
    panels = np.ravel(figure.subplots(1, len(modes), sharey=True))
    shown: list[float] = []
    for panel, (mode, measures) in zip(panels, modes.items(), strict=True):
        shown += _panel(panel, study, measures)
        panel.set_title(f"batch norm: {MODES[mode]}")
    _frame(panels[0], shown)
    panels[0].set_ylabel("sharpness φ")
    legend_below(figure, list(_legend(study)), columns=3)
    return figure


def _panel(panel: Axes, study: Study, measures: list[str]) -> list[float]:
    columns = [
        (measure, runs, look) for measure in measures for runs, look in looks(study)
    ]
    shown: list[float] = []
    most = max(len(runs) for _, runs, _ in columns)
    step = min(
        0.12, 0.4 / most
    )  # seeds side by side, so that equal values do not hide each other
    for x, (measure, runs, (colour, _)) in enumerate(columns):
        for i, run in enumerate(runs):
            place = x - 0.1 + step * (i - (len(runs) - 1) / 2)
            shown += _points(panel, place, run, measure, colour)
        shown += _paper_point(
            panel, x + 0.3, study.paper(runs[0].group).get(f"{measure}/{PAPERS_SEARCH}")
        )
    names = [_short(runs[0].group) for _, runs, _ in columns]
    crowded = sum(map(len, names)) > NAMES_IN_A_ROW
    panel.set_xticks(range(len(columns)), names, rotation=90 if crowded else 0)
    panel.set_xlim(-0.6, len(columns) - 0.4)
    _name_blocks(panel, measures, len(columns) // len(measures))
    return shown


def _short(name: str) -> str:
    """Cut a long name, which the legend has in full."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _name_blocks(panel: Axes, measures: list[str], width: int) -> None:
    """Say above the columns of each measure, as many as there are groups, which radius and space they are of."""
    above = panel.secondary_xaxis("top")
    middles = [i * width + (width - 1) / 2 for i in range(len(measures))]
    above.set_xticks(middles, map(_block, measures))
    above.tick_params(length=0)
    for i in range(1, len(measures)):
        panel.axvline(i * width - 0.5, color="0.8", linewidth=0.8)


def _block(measure: str) -> str:
    _, space, epsilon, *_ = measure.split("/")
    return f"ε = {epsilon}" + ("\nsubspace" if space == "subspace" else "")


def _points(panel: Axes, x: float, run: Run, measure: str, colour: str) -> list[float]:
    record = run.measurements.get(measure)
    searches, best = (
        section(section(record, "detail"), "searches"),
        section(record, "detail").get("best"),
    )
    drawn = []
    for name, marker in SEARCH_MARKERS.items():
        value = number(section(searches, name).get("value"))
        face = colour if name == best else "none"
        panel.plot(
            x,
            value,
            marker,
            color=colour,
            markerfacecolor=face,
            markersize=6,
            alpha=0.9,
        )
        drawn.append(value)
    if best not in SEARCH_MARKERS:
        drawn.append(run.values.get(measure, math.nan))
        panel.plot(x, drawn[-1], "o", color=colour, markersize=6)
    return drawn


def _paper_point(
    panel: Axes, x: float, paper: tuple[float, float] | None
) -> list[float]:
    if paper is None:
        return []
    mean, std = paper
    # on a log axis a bar that reaches zero or less ends where the frame cuts it
    lower = min(std, mean * (1 - 1e-9)) if math.isfinite(std) else 0.0
    bars = [[lower], [std if math.isfinite(std) else 0.0]]
    panel.errorbar(x, mean, yerr=bars, fmt="D", color="black", markersize=5, capsize=3)
    return [mean, mean - std, mean + std] if std < mean else [mean]


def _frame(panel: Axes, values: list[float]) -> None:
    panel.set_yscale("log", nonpositive="mask")
    positive = [value for value in values if value > 0]
    if positive:
        panel.set_ylim(min(positive) / 2, max(positive) * 2)
    plain_ticks(panel.yaxis)


def _legend(study: Study) -> Iterator[Line2D]:
    plain: dict[str, Any] = {"linestyle": "", "color": "0.35"}
    for runs, (colour, _) in looks(study):
        yield Line2D([], [], marker="s", linestyle="", color=colour, label=title(runs))
    for name, marker in SEARCH_MARKERS.items():
        yield Line2D(
            [],
            [],
            marker=marker,
            markerfacecolor="none",
            label=f"{SEARCHES[name]} (filled: the larger)",
            **plain,
        )
    if any(study.paper(group) for group in study.groups):
        yield Line2D(
            [], [], marker="D", linestyle="", color="black", label="paper, mean ± std"
        )
