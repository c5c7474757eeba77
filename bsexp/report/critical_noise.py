"""The gradient noise scale along training beside the critical batch size that it is to tell: arXiv:1812.06162."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bsexp.report import noise_scale
from bsexp.report.folder import Run, Study, number
from bsexp.report.law import Law
from bsexp.report.look import (
    COLOURS,
    LINES,
    legend_below,
    plain_ticks,
    styled,
    with_gaps,
)
from bsexp.report.measures import describe
from bsexp.report.steps_to_target import found_in


@styled
def critical_noise(study: Study) -> Figure | None:
    """Both noise scales against the epochs, a line per batch size, of the fastest group, and B_crit of the updates to the target.

    The seeds of a group together; where training ends a star, at the mean of their epochs. None where there is no B_crit
    with two ends, or no noise scale was measured along training.
    """
    found = found_in(study)
    if found is None or not found.law.bounded:
        return None
    names = [*reversed(noise_scale.NAMES.values())]
    if not any(
        noise_scale.along(runs, name)
        for runs in found.fastest.values()
        for name in names
    ):
        return None
    figure = Figure(figsize=(9.0, 4.1), layout="constrained")
    figure.set_label("Gradient noise scale along training, beside B_crit.")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, names, strict=True):
        _draw(axes, name, found.fastest, found.law)
    handles, _ = panels[0].get_legend_handles_labels()
    legend_below(figure, handles)
    return figure


def _draw(axes: Axes, name: str, fastest: dict[int, list[Run]], law: Law) -> None:
    axes.set(yscale="log", xlabel="epochs before the point")
    for i, (size, runs) in enumerate(fastest.items()):
        colour, line = COLOURS[i % len(COLOURS)], LINES[i % len(LINES)]
        points = noise_scale.along(runs, name)
        # Infinite where noise hides the gradient.
        shown = with_gaps(points.values())
        look = {"color": colour, "linestyle": line, "marker": "o", "markersize": 3}
        axes.plot(list(points), shown, label=f"B = {size:,}", **look)
        end = noise_scale.at_the_end(runs, name)
        if math.isfinite(end):
            epochs = [number(run.rows[-1].get("epoch")) for run in runs if run.rows]
            axes.plot(np.mean(epochs), end, "*", color=colour, markersize=9)
    axes.axhline(law.critical, color="0.3", linewidth=1, label="B_crit")
    axes.axhspan(
        law.low, law.high, color="0.3", alpha=0.15, linewidth=0, label="B_crit at 95 %"
    )
    axes.set_ylabel(f"{describe(name).label}, examples")
    plain_ticks(axes.yaxis)
