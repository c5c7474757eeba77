"""How the figures look: one style, and colour, line and label of each group.

Groups differ by colour (Okabe-Ito, safe for the colour blind) and by line style, marker or place, so that
greyscale keeps them apart.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps

from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bsexp.report.folder import Run, Study

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")
LOW = 0.8  # inches of a legend for which the figures have room: four lines
WIDE = 1e3  # largest over smallest value from which on a logarithmic axis is labelled at powers of ten alone
# Text becomes paths, so that it looks the same without the font. Labels come from configs: no dollar maths in them.
STYLE = {
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9.5,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "bsexp",
    "text.parse_math": False,
}


def styled(draw: Callable[[Study], Figure | None]) -> Callable[[Study], Figure | None]:
    """Draw in the report's style, whatever the reader's own matplotlib settings are."""

    @wraps(draw)
    def inside(study: Study) -> Figure | None:
        with style.context(["default", STYLE]):
            return draw(study)

    return inside


def looks(study: Study) -> Iterator[tuple[list[Run], tuple[str, str]]]:
    """Each group's runs with its (colour, line style)."""
    for i, runs in enumerate(study.groups.values()):
        yield runs, (COLOURS[i % len(COLOURS)], LINES[i % len(LINES)])


def title(runs: list[Run]) -> str:
    """A group's name with its batch size."""
    return f"{runs[0].group} (B = {runs[0].batch_size})"


def legend_below(
    figure: Figure, handles: Sequence[Artist | Container], columns: int = 4
) -> None:
    """Put a figure's legend below its panels, in as many columns, up to ``columns``, as its width holds.

    The figure grows by what the legend is higher than `LOW`: the panels keep their height.
    """
    for ncols in range(columns, 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=ncols)
        extent = legend.get_window_extent()
        if ncols == 1 or extent.width <= figure.bbox.width:
            break
        legend.remove()
    height = extent.height / figure.dpi
    figure.set_figheight(figure.get_figheight() + max(0.0, height - LOW))


def with_gaps(values: Iterable[float]) -> list[float]:
    """Return what a line is drawn through: NaN, a gap, where a value is not finite."""
    return [value if math.isfinite(value) else math.nan for value in values]


def plain_number(value: float, _: int | None = None) -> str:
    """A tick's label without mathematical notation, which hostile names must not reach."""
    return f"{value:.0f}" if 1e6 <= value < 1e7 else f"{value:g}"


def plain_ticks(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers, at its limits as they are: at 1, 2 and 5 of each decade where it has few.

    Matplotlib's own labels between the decades are mathematical notation, which STYLE does not set.
    """
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < WIDE * low else (1,)))
    axis.set_major_formatter(plain_number)
    axis.set_minor_formatter(NullFormatter())
