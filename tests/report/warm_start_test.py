"""What a report makes of runs that begin with another run's weights."""

import pytest

from bsexp import report
from bsexp.report import folder, warm_start


@pytest.fixture
def warm(study):
    """The artificial study, its two groups taken for runs that begin with SB's weights."""
    starts = {"SB": {"group": "SB", "epoch": 7}, "LB": {"group": "SB"}}
    groups = {name: {"start": start} for name, start in starts.items()}
    study.study(config={"groups": groups})
    return study


def test_a_curve_goes_through_the_mean_of_each_group_at_its_epoch(warm):
    figure = warm_start.warm_start(folder.read(warm.path))
    accuracy, _, phi, *_ = figure.axes
    curve = next(line for line in accuracy.lines if line.get_linestyle() == "-")
    assert list(curve.get_xdata()) == [0, 7]
    assert list(curve.get_ydata()) == pytest.approx([97.1, 98.1])
    level = next(line for line in accuracy.lines if line.get_linestyle() == "--")
    assert list(level.get_ydata()) == pytest.approx([98.1, 98.1])
    curve = next(line for line in phi.lines if line.get_linestyle() == "-")
    assert list(curve.get_ydata()) == pytest.approx([4400, 44])


def test_each_curve_is_of_the_runs_that_begin_with_one_groups_weights(warm):
    starts = {"SB": {"group": "SB", "epoch": 7}, "LB": {"group": "LB", "epoch": 3}}
    groups = {name: {"start": start} for name, start in starts.items()}
    warm.study(config={"groups": groups})
    accuracy, *_ = warm_start.warm_start(folder.read(warm.path)).axes
    curves = [line for line in accuracy.lines if line.get_linewidth() == 2]
    assert [list(line.get_xdata()) for line in curves] == [[3], [7]]
    means = [float(line.get_ydata()[0]) for line in curves]
    assert means == pytest.approx([97.1, 98.1])


def test_the_page_shows_it(warm):
    report.build(warm.path)
    assert (warm.path / "figures" / "warm_start.svg").exists()
    assert "begins anew" in (warm.path / "report.html").read_text()


@pytest.mark.parametrize("groups", [{}, {"LB": {"start": {"group": "gone"}}}, [1]])
def test_nothing_is_drawn_where_no_two_groups_begin_so(study, groups):
    study.study(config={"groups": groups})
    assert warm_start.warm_start(folder.read(study.path)) is None
