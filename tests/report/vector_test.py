"""Figures as files: the same bytes on every processor."""

import re

from matplotlib.figure import Figure

from bsexp.report import vector


def test_what_two_processors_lay_out_differently_in_the_sixth_decimal_is_the_same_file():
    one, other = (
        f'<path d="M 50.697701 239.098538 L 50.697701 {top}" transform="scale(0.015625)"/>'
        for top in ("30.598678", "30.598677")
    )
    assert vector.rounded(one) == vector.rounded(other)
    assert (
        vector.rounded(one)
        == '<path d="M 50.698 239.099 L 50.698 30.599" transform="scale(0.015625)"/>'
    ), "only coordinates are rounded: the scale of a glyph is not one"


def test_a_saved_figure_has_three_decimals_and_is_drawn_where_it_was(tmp_path):
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot([0, 1, 2], [1 / 3, 2 / 3, 1 / 7])
    figure.set_label("three points")
    vector.save(figure, tmp_path, "points")
    figure.savefig(tmp_path / "exact.svg", metadata={"Date": None})
    saved, exact = (
        re.search(
            r'id="line2d_\d+">\s*<path d="([^"]*)" clip-path',
            (tmp_path / f"{name}.svg").read_text(encoding="utf-8"),
        )[1]
        for name in ("points", "exact")
    )
    pairs = zip(re.findall(r"[\d.]+", saved), re.findall(r"[\d.]+", exact), strict=True)
    for ours, theirs in pairs:
        assert len(ours.partition(".")[2]) <= 3
        assert abs(float(ours) - float(theirs)) <= 5.1e-4
