"""What a report makes of measures at other scales of the parameters."""

import pytest

from bsexp import report, results
from bsexp.report import folder, invariance, summary

PHI, KEPT = "sharpness/full/1e-3/running", "flatness/adaptive/running"
# LB's value at the scales 1, 2 and 4, in units of SB's as trained.
CURVES = {
    PHI: (5.0, 1.2, 0.5),
    KEPT: (5.0, 5.0, 5.1),
    "hessian/trace/running": (5.0, 4.0, 3.0),
    "train_loss": (1.0, 1.0, 1.0),
}


def scaled(group, seed, factor, index):
    share = 1 + seed / 10
    measures = {
        name: share * (curve[index] if group == "LB" else 1.0)
        for name, curve in CURVES.items()
    }
    measures[f"{PHI}/lbfgsb"] = 77.0
    detail = {"factor": factor, "measures": measures}
    return {"settings": {}, "values": {}, "detail": detail, "seconds": 1.0}


@pytest.fixture
def measured(study):
    for group, seed in study.runs:
        place = study.run(group, seed)
        points = results.points(place)
        for index, factor in enumerate((1, 2, 4) if group == "LB" else (1,)):
            points[None][f"invariance/{factor}"] = scaled(group, seed, factor, index)
        results.write_points(place, points)
    return study


def table(study):
    return {row.label: row for row in invariance.rescalings(folder.read(study.path))}


def test_the_baseline_as_trained_is_all_that_is_asked_for(measured):
    assert folder.missing(folder.read(measured.path)) == []


def test_the_answer_says_what_is_fooled_and_what_is_not(measured):
    said = summary.summarise(measured.path)["answer"]
    assert said.endswith(
        "Where the layers in front of batch norm are scaled up 4 times, which leaves the function the same, φ, full space, "
        "ε = 1e-3 of LB falls from 5.50 ± 0.50 to 0.550 ± 0.050; that of SB, as trained, is 1.10 ± 0.10 (mode running). Fooled: "
        "φ, full space, ε = 1e-3. Unchanged: rise of the loss, largest in the ball relative to |x| (adaptive), nats."
    )


def test_phi_that_no_scale_brings_below_is_not_said_to_fall(measured):
    for seed in range(3):
        place = measured.run("LB", seed)
        points = results.points(place)
        points[None]["invariance/4"]["detail"]["measures"][PHI] = 6.0 + seed
        results.write_points(place, points)
    said = summary.summarise(measured.path)["answer"]
    assert "scaled up 4 times" in said
    assert (
        "of LB goes from 5.50 ± 0.50 to 7.0 ± 1.0; that of SB, as trained, is 1.10"
        in said
    )
    assert "Fooled" not in said


def test_fooled_is_what_calls_it_flatter_at_every_seed(measured):
    place = measured.run("LB", 1)
    points = results.points(place)
    points[None]["invariance/4"]["detail"]["measures"]["hessian/trace/running"] = 1.0
    results.write_points(place, points)
    assert table(measured)["trace of the Hessian"].verdict == "changed"


def test_the_table_is_at_the_smallest_scale_at_which_phi_calls_lb_flatter_at_every_seed(
    measured,
):
    rows = table(measured)
    phi = rows["φ, full space, ε = 1e-3"]
    assert (phi.baseline, phi.compared, phi.rescaled) == (
        "1.10 ± 0.10", "5.50 ± 0.50", "0.550 ± 0.050",
    )  # fmt: skip
    assert {row.factor for row in rows.values()} == {"4"}
    assert {label.split(",")[0]: row.verdict for label, row in rows.items()} == {
        "φ": "fooled",
        "largest in the ball relative to |x| (adaptive)": "unchanged",
        "trace of the Hessian": "changed",
        "Training loss": "unchanged",
    }


def trained(study, **values):
    """Replace SB's φ as trained by one of each seed: seed0=1.0 and so on."""
    for name, value in values.items():
        place = study.run("SB", int(name.removeprefix("seed")))
        points = results.points(place)
        points[None]["invariance/1"]["detail"]["measures"][PHI] = value
        results.write_points(place, points)


def test_a_scale_at_which_one_seed_is_not_below_is_too_small(measured):
    trained(measured, seed0=2.0, seed1=2.0, seed2=2.0)
    assert {row.factor for row in table(measured).values()} == {"2"}
    trained(measured, seed1=1.0)
    assert {row.factor for row in table(measured).values()} == {"4"}


def test_where_phi_is_never_below_at_every_seed_it_is_the_largest_scale(measured):
    trained(measured, seed1=0.1)
    assert {row.factor for row in table(measured).values()} == {"4"}


def test_where_phi_is_below_already_as_trained_it_is_the_next_scale(measured):
    trained(measured, seed0=9.0, seed1=9.0, seed2=9.0)
    rows = table(measured)
    assert {row.factor for row in rows.values()} == {"2"}
    assert rows["φ, full space, ε = 1e-3"].verdict == "changed"


def test_the_page_has_the_figure_and_the_table(measured):
    report.build(measured.path)
    assert (measured.path / "figures" / "invariance.svg").exists()
    page = (measured.path / "report.html").read_text()
    assert "Which measures a change of scale fools" in page
    assert ">fooled<" in page


def test_a_curve_is_the_mean_over_seeds_relative_to_the_value_as_trained(measured):
    figure = invariance.invariance(folder.read(measured.path))
    (panel,) = figure.axes
    lines = {tuple(line.get_xdata()): [] for line in panel.lines}
    for line in panel.lines:
        lines[tuple(line.get_xdata())].append(list(line.get_ydata()))
    curves = lines[1, 2, 4]
    assert pytest.approx([1, 0.24, 0.1]) in curves
    assert pytest.approx([1, 1, 1.02]) in curves
    levels = [y for x, ys in lines.items() if x != (1, 2, 4) for y in ys]
    assert levels == [pytest.approx([0.2, 0.2])]


def test_nothing_is_said_where_nothing_was_measured_or_a_record_is_damaged(study):
    assert table(study) == {}
    assert invariance.invariance(folder.read(study.path)) is None
    place = study.run("LB", 0)
    points = results.points(place)
    points[None]["invariance/2"] = {"detail": {"factor": None, "measures": [1]}}
    results.write_points(place, points)
    assert table(study) == {}
    assert invariance.invariance(folder.read(study.path)) is None
