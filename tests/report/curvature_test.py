import io
import math

import numpy as np
import pytest
from rich.console import Console

from bsexp import results
from bsexp.report import curvature, page, summary, tables
from bsexp.report.folder import read
from bsexp.report.noise_scale import noise_scales


def density(outliers=()):
    grid = np.linspace(-1, 3, 50)
    mean = np.exp(-(grid**2))
    return {
        "settings": {},
        "values": {"hessian/negative_share/running": 0.25},
        "detail": {
            "grid": grid.tolist(),
            "mean": mean.tolist(),
            "lower": (mean - 0.1).tolist(),
            "upper": (mean + 0.1).tolist(),
            "outliers": list(outliers),
        },
        "seconds": 1.0,
    }


def add(study, name, record):
    for file in study.path.glob("runs/*/measurements.json"):
        content = results.read_json(file)
        content["measurements"][name] = record
        results.write_json(file, content)


def test_layers_stand_with_their_standard_errors(study):
    rows = [row for row in curvature.layers(read(study.path)) if row.mode == "running"]
    assert len(rows) == 6 * 2
    assert (rows[0].name, rows[0].value) == ("a/kernel", "70.00 ± 0.50")
    assert (rows[1].name, rows[1].value) == ("b", "30.00 ± 0.10")


def test_eigenvalues_stand_with_their_residuals_and_say_which_did_not_converge(study):
    rows = list(curvature.eigenvalues(read(study.path)))
    assert len(rows) == 6 * 2
    assert (rows[0].name, float(rows[0].value)) == ("λ1", 20.0)
    assert float(rows[0].known) == 0.01
    assert rows[1].known.endswith("not converged")


def test_both_tables_are_printed(study):
    console = Console(file=io.StringIO(), width=120)
    curvature.print_details(read(study.path), console)
    printed = console.file.getvalue()
    assert "a/kernel" in printed
    assert "70.00 ± 0.50" in printed
    assert "not converged" in printed


def test_dots_are_the_means_over_a_group_with_the_spread_between_its_runs(study):
    groups = dict(curvature._groups_of_layers(read(study.path), "running"))
    assert list(groups) == ["SB", "LB"]
    np.testing.assert_allclose(groups["SB"]["a/kernel"], (71.0, 1.0))
    np.testing.assert_allclose(groups["SB"]["b"], (30.0, 0.0))


def test_one_run_has_its_standard_error_for_its_spread(make):
    groups = dict(curvature._groups_of_layers(read(make(1).path), "running"))
    np.testing.assert_allclose(groups["LB"]["a/kernel"], (70.0, 0.5))


def test_a_trace_below_zero_is_seen_left_of_zero_and_small_ones_apart_from_large(study):
    for file in study.path.glob("runs/*/measurements.json"):
        content = results.read_json(file)
        detail = content["measurements"]["hessian/trace/running"]["detail"]
        detail["layers"]["b"]["trace"] = -0.5
        results.write_json(file, content)
    panel, _ = curvature.trace_by_layer(read(study.path)).axes
    drawn = {x for container in panel.containers for x in container[0].get_xdata()}
    assert drawn == {-0.5, 71.0}
    places = panel.transData.transform([(x, 0) for x in (-0.5, 0, 0.5, 5, 71)])[:, 0]
    assert (np.diff(places) > 0.05 * panel.bbox.width).all()
    assert panel.bbox.x0 <= places.min()


def test_groups_of_different_networks_have_rows_of_their_own(study):
    for file in study.path.glob("runs/*B1000*/measurements.json"):
        content = results.read_json(file)
        layers = content["measurements"]["hessian/trace/running"]["detail"]["layers"]
        layers["c"] = layers.pop("b")
        results.write_json(file, content)
    panel, _ = curvature.trace_by_layer(read(study.path)).axes
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names == ["a/kernel", "b", "c"]
    drawn = [container[0].get_xdata() for container in panel.containers]
    np.testing.assert_array_equal(
        np.isnan(np.array(drawn, float)), [[0, 0, 1], [0, 1, 0]]
    )


def test_the_density_has_a_line_a_band_and_triangles_for_each_run(study):
    assert curvature.density(read(study.path)) is None
    add(study, "hessian/density/running", density(outliers=(2.0, 2.5)))
    figure = curvature.density(read(study.path))
    (panel,) = figure.axes
    assert len(panel.lines) == 2 * 6
    assert len(panel.collections) == 6
    assert list(panel.lines[1].get_xdata()) == [2.0, 2.5]
    # A band that reaches below zero ends at the frame of the logarithmic axis.
    assert min(panel.lines[0].get_ydata()) > 0


def test_noise_scales_stand_with_their_intervals_and_infinity_is_written(study):
    simple = {"value": 900.0, "low": 500.0, "high": float("inf")}
    detail = {"examples": 64, "group_size": 4, "simple": simple}
    record = {"settings": {}, "values": {}, "detail": detail, "seconds": 1.0}
    add(study, "noise_scale/running", record)
    rows = list(noise_scales(read(study.path)))
    assert len(rows) == 6
    assert (float(rows[0].value), float(rows[0].low)) == (900.0, 500.0)
    assert rows[0].high == "∞"
    assert rows[0].sample == "64 examples in groups of 4"


def with_noise_scales(study, group, estimates):
    """Give each seed of a group a noise scale of these estimates of the trace and the squared gradient."""
    for seed, (trace, squared) in enumerate(estimates):
        file = study.run(group, seed) / "measurements.json"
        content = results.read_json(file)
        value = trace / squared if squared > 0 else math.inf
        simple = {"trace_covariance": trace, "squared_gradient": squared}
        content["measurements"]["noise_scale/running"] = {
            "settings": {},
            "values": {"noise_scale/simple/running": value},
            "detail": {"simple": {"value": value, **simple}},
            "seconds": 1.0,
        }
        results.write_json(file, content)


@pytest.mark.parametrize(
    ("estimates", "pooled", "cell"),
    [
        # The mean of the finite ones, 20, would be too low: it is 60 / 1.5.
        ([(10.0, 1.0), (20.0, -0.5), (30.0, 1.0)], 40.0, "40.00"),
        ([(10.0, 1.0), (20.0, -2.5), (30.0, 1.0)], math.inf, "∞"),
        ([(-10.0, 1.0), (-20.0, -2.5), (-30.0, 1.0)], -math.inf, "\N{MINUS SIGN}∞"),
    ],
)
def test_the_noise_scale_of_a_group_leaves_out_no_run(study, estimates, pooled, cell):
    with_noise_scales(study, "LB", estimates)
    found = summary.summarise(study.path)
    assert found["groups"]["LB"]["noise_scale/simple/running"]["pooled"] == pooled
    (row,) = [each for each in tables.rows(found) if "B_simple" in each.label]
    assert (row.cells["LB"].value, row.cells["LB"].n) == (cell, "3 pooled")


def test_a_noise_scale_without_its_estimates_is_not_pooled(study):
    with_noise_scales(study, "LB", [(10.0, 1.0), (20.0, 1.0), (30.0, 1.0)])
    file = study.run("LB", 0) / "measurements.json"
    content = results.read_json(file)
    content["measurements"]["noise_scale/running"]["detail"] = {}
    results.write_json(file, content)
    groups = summary.summarise(study.path)["groups"]
    assert math.isnan(groups["LB"]["noise_scale/simple/running"]["pooled"])


def test_the_page_holds_both_tables(study):
    folder = read(study.path)
    html = page.render(folder, summary.summarise(study.path), {})
    assert "The largest eigenvalues" in html
    assert "The gradient noise scale" not in html


def test_a_density_without_finite_values_is_not_drawn_and_stops_no_report(study):
    def measured(group, seed, mean):
        file = study.run(group, seed) / "measurements.json"
        content = results.read_json(file)
        detail = {"grid": [0.0, 1.0, 2.0], "lower": [0.0] * 3, "upper": [2.0] * 3, "mean": mean}  # fmt: skip
        name = "hessian/density/running"
        content["measurements"][name] = {"settings": {}, "values": {}, "detail": detail}
        results.write_json(file, content)

    measured("SB", 0, [math.inf] * 3)
    assert curvature.density(read(study.path)) is None
    measured("LB", 0, [0.5, 1.0, 0.5])
    (panel,) = curvature.density(read(study.path)).axes
    drawn = [list(line.get_ydata()) for line in panel.get_lines()]
    assert [0.5, 1.0, 0.5] in drawn
    assert panel.get_ylim()[1] == pytest.approx(3.0)
