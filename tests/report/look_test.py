"""How the figures look."""

import io

import pytest
from matplotlib import style
from matplotlib.figure import Figure

from bsexp.report import look


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ((0.15, 4), ["0.2", "0.5", "1", "2"]),
        ((30, 900), ["50", "100", "200", "500"]),
        ((0.5, 12_000), ["1", "10", "100", "1000", "10000"]),
    ],
    ids=["within two decades", "between the decades", "wide"],
)
def test_a_logarithmic_axis_has_plain_labels_however_short_it_is(limits, wanted):
    with style.context(["default", look.STYLE]):
        figure = Figure()
        axes = figure.subplots()
        axes.set_yscale("log")
        axes.set_ylim(*limits)
        look.plain_ticks(axes.yaxis)
        figure.savefig(io.BytesIO(), format="svg")
        labels = {
            label.get_text(): label.get_position()[1]
            for minor in (False, True)
            for label in axes.get_yticklabels(minor=minor)
            if label.get_text()
        }
    low, high = limits
    assert [text for text, y in labels.items() if low <= y <= high] == wanted


@pytest.mark.parametrize(
    ("name", "columns"), [("SB (B = 256)", 4), ("square_root (B = 60000)", 3)]
)
def test_a_legend_has_as_many_columns_as_the_figure_is_wide(name, columns):
    with style.context(["default", look.STYLE]):
        figure = Figure(figsize=(7.5, 4), layout="constrained")
        lines = figure.subplots().plot(*[[0, 1]] * 18)
        for line in lines:
            line.set_label(name)
        look.legend_below(figure, lines)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        places = {round(text.get_window_extent().x0) for text in legend.get_texts()}
        drawn = legend.get_window_extent()
    assert len(places) == columns
    assert 0 <= drawn.x0 < drawn.x1 <= figure.bbox.width


def test_panels_keep_their_height_above_a_legend_of_many_lines():
    def height(handles):
        with style.context(["default", look.STYLE]):
            figure = Figure(figsize=(7.5, 4), layout="constrained")
            axes = figure.subplots()
            lines = axes.plot(*[[0, 1]] * handles)
            for line in lines:
                line.set_label("square_root (B = 60000)")
            look.legend_below(figure, lines)
            figure.draw_without_rendering()
            return axes.get_window_extent().height / figure.dpi, figure.get_figheight()

    (few, low), (many, high) = height(9), height(60)
    assert low == 4
    assert few - many < look.LOW < high - low
