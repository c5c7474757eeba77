"""What the figures draw, read off their axes: numbers that are known, on the right axis, under the right name."""

import numpy as np
import pytest

from bsexp import results
from bsexp.report import figures, folder, sharpness

ALPHA = [-1 + i / 8 for i in range(25)]


def thick(axes):
    """The lines that are no run's own."""
    return [line for line in axes.get_lines() if line.get_linewidth() > 1]


def test_the_line_between_the_minima_has_the_baseline_at_0_and_each_curve_on_its_axis(
    study,
):
    drawn = figures.linear_path(folder.read(study.path))
    left, _, right, _ = drawn.axes
    assert {text.get_text(): text.xy[0] for text in left.texts} == {"SB": 0, "LB": 1}
    # The same in all three runs.
    known = results.measurements(study.run("LB", 0))["path/linear/running"]["detail"]
    for axes, kind, scale in ((left, "loss", 1), (right, "accuracy", 100)):
        of_training, of_test = thick(axes)[:2]
        for line, part, style in ((of_training, "train", "-"), (of_test, "test", "--")):
            assert line.get_linestyle() == style
            np.testing.assert_allclose(line.get_xdata(), ALPHA)
            expected = scale * np.array(known[f"{part}_{kind}"])
            np.testing.assert_allclose(line.get_ydata(), expected)
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")
    assert "loss" in left.get_ylabel()
    assert "accuracy" in right.get_ylabel()


def test_a_training_curve_is_the_mean_of_the_runs_of_its_group(study):
    drawn = figures.training_curves(folder.read(study.path))
    for panel, shift in zip(drawn.axes, (0.01, 0.0), strict=True):
        for line, end in zip(thick(panel), (0.98, 0.97), strict=True):
            epochs = np.arange(1, 7)
            expected = 100 * (end + shift - 0.5 * np.exp(-epochs))
            np.testing.assert_array_equal(line.get_xdata(), epochs)
            np.testing.assert_allclose(line.get_ydata(), expected)


def test_a_mean_of_curves_that_differ_lies_between_them(study):
    (study.run("SB", 0) / "metrics.jsonl").write_text(
        "".join(
            f'{{"epoch": {i}, "step": {i}, "train_accuracy": 0.5, "test_accuracy": 0.2}}\n'
            for i in range(1, 7)
        )
    )
    drawn = figures.training_curves(folder.read(study.path))
    test = drawn.axes[1]
    expected = (20 + 2 * 100 * (0.98 - 0.5 * np.exp(-np.arange(1, 7)))) / 3
    np.testing.assert_allclose(thick(test)[0].get_ydata(), expected)


@pytest.mark.parametrize("best", sharpness.SEARCH_MARKERS)
def test_both_searches_stand_at_their_values_and_the_larger_is_filled(study, best):
    name = "sharpness/full/1e-3/running"
    study.study(reference={"LB": {f"{name}/lbfgsb": [500.0, 20.0]}})
    found = {}
    for group, seed in study.runs:
        points = results.points(study.run(group, seed))
        detail = points[None][name]["detail"]
        detail["best"] = best
        results.write_points(study.run(group, seed), points)
        for search, each in detail["searches"].items():
            marker = sharpness.SEARCH_MARKERS[search]
            found[marker, each["value"]] = search == best
    running, _ = (
        panel
        for panel in sharpness.sharpness(folder.read(study.path)).axes
        if panel.get_lines()
    )
    first, last = running.get_xlim()
    of_larger_radius = [
        line
        for line in running.get_lines()
        if line.get_xdata()[0] < (first + last) / 2 and line.get_marker() in "v^"
    ]
    drawn = {
        (line.get_marker(), line.get_ydata()[0]): line.get_markerfacecolor() != "none"
        for line in of_larger_radius
    }
    assert drawn == found
    (paper,) = [line for line in running.get_lines() if line.get_marker() == "D"]
    assert list(paper.get_ydata()) == [500.0]
