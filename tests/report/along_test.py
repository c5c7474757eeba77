"""What a report makes of measurements along training."""

import math

import numpy as np
import pytest

from bsexp import report, results
from bsexp.report import along, folder, measures, summary

EPOCHS = (0, 1, 4)
LIMIT = 50.0


def records(seed, epoch, loss):
    """A point whose numbers tell where they come from: 100 x seed + epoch."""
    value = 100.0 * seed + epoch
    sharp = "sharpness/full/1e-3/batch"
    found = {
        "update/learning_rate": {
            "update/learning_rate": 0.1,
            "update/stability_limit": LIMIT,
        },
        "update/batch": {"update/gradient_norm/batch": value},
        "hessian/lambda_max/batch": {"hessian/lambda_max/batch": value + 1},
        sharp: {sharp: 10 * (value + 1), f"{sharp}/lbfgsb": 1.0},
    }
    return {
        name: {
            "settings": {},
            "values": values,
            "detail": {"loss_at_point": loss},
            "seconds": 1.0,
        }
        for name, values in found.items()
    }


@pytest.fixture
def measured(study):
    """The artificial study, measured along training; LB, seed 2, ended after 3 epochs."""
    for group, seed in study.runs:
        place = study.run(group, seed)
        points = results.points(place)
        short = (group, seed) == ("LB", 2)
        for epoch in EPOCHS[: 2 if short else 3]:
            points[epoch] = records(seed, epoch, 2.0 / (1 + epoch))
        results.write_points(place, points)
        if short:
            rows = results.read_rows(place / "metrics.jsonl")
            results.write_rows(place / "metrics.jsonl", rows[:3])
    study.study(config={"measure": {"along": {"epochs": list(EPOCHS)}}})
    return study


def test_the_summary_has_a_section_of_its_own_and_the_end_stays_as_it_is(
    measured,
):
    found = summary.summarise(measured.path)
    assert list(found["along"]) == ["SB", "LB"]
    assert list(found["along"]["SB"]) == ["0", "1", "4"]
    entry = found["along"]["SB"]["4"]["update/gradient_norm/batch"]
    assert (entry["mean"], entry["std"], entry["n"]) == (104.0, 100.0, 3)
    assert (entry["values"], entry["seeds"]) == ([4.0, 104.0, 204.0], [0, 1, 2])
    assert found["along"]["LB"]["4"]["update/gradient_norm/batch"]["n"] == 2
    assert "update/gradient_norm/batch" not in found["groups"]["SB"]
    assert "along" not in summary.summarise(untouched(measured))


def test_the_answer_names_the_epoch_from_which_the_compared_group_stays_sharper(study):
    sharp = "sharpness/full/1e-3/batch"
    # Of seed 1, LB is the flatter one after 2 epochs.
    values = {"SB": (9.0, 1.0, 3.0, 1.0), "LB": (9.0, 2.0, 2.5, 8.0)}
    for group, seed in study.runs:
        place = study.run(group, seed)
        points = results.points(place)
        for epoch, value in enumerate(values[group]):
            factor = 2.0 if seed != 1 and group == "LB" else 1.0
            points[epoch] = records(seed, epoch, 1.0)
            points[epoch][sharp]["values"][sharp] = factor * value
        results.write_points(place, points)
    assert (
        "Along training, φ, full space, ε = 1e-3 of LB is above SB's at every one of 3 seeds from epoch 3 on (of 0, 1, 2, 3; "
        "mode batch)." in summary.summarise(study.path)["answer"]
    )
    # Without a seed in both there is nothing to say of every one of them.
    study.study(comparison=["SB", "XL"])
    assert "Along training" not in summary.summarise(study.path)["answer"]


def untouched(study):
    for group, seed in study.runs:
        place = study.run(group, seed)
        results.write_points(place, {None: results.measurements(place)})
    return study.path


def test_the_frame_tells_the_epoch_of_each_row(measured):
    frame = results.load(measured.path)
    name = "hessian/lambda_max/batch"
    rows = frame[(frame["measure"] == name) & (frame["group"] == "SB")]
    assert rows[rows["seed"] == 1].set_index("epoch")["value"].to_dict() == {
        0: 101.0,
        1: 102.0,
        4: 105.0,
    }
    end = frame[frame["epoch"].isna()]
    assert len(end) == sum(
        len(record["values"])
        for group, seed in measured.runs
        for record in results.measurements(measured.run(group, seed)).values()
    )


def test_a_run_that_ended_early_is_said_to_lack_the_epoch(measured):
    found = folder.read(measured.path)
    assert folder.missing(found) == [
        "LB: ended before epoch 4, the last after which it was to be measured: seed 2 after 3."
    ]
    assert folder.absent(found) == [], "no further run could bring it"


def test_a_point_that_a_run_passed_without_being_measured_is_absent(measured):
    place = measured.run("LB", 1)
    points = results.points(place)
    del points[1]
    results.write_points(place, points)
    assert folder.absent(folder.read(measured.path)) == [
        "LB, seed 1: not measured after epoch 1."
    ]


def test_lines_are_means_over_the_seeds_that_have_the_point(measured):
    drawn = along.along_training(folder.read(measured.path))
    panels = [panel for panel in drawn.axes if panel.get_visible()]
    assert [panel.get_ylabel().replace("\n", " ") for panel in panels] == [
        "φ, full space, ε = 1e-3",
        "λ_max of the Hessian",
        "norm of the gradient ‖∇f‖",
        "learning rate η",
    ]
    lines = panels[1].get_lines()
    thick = [line.get_ydata() for line in lines if line.get_linewidth() == 2]
    np.testing.assert_array_equal(thick[0], [101.0, 102.0, 105.0])  # SB
    np.testing.assert_array_equal(thick[1], [101.0, 102.0, 55.0])  # LB: two seeds
    limits = [line for line in lines if set(line.get_ydata()) == {LIMIT}]
    assert len(limits) == 2


def test_the_eigenvalue_as_adam_sees_it_has_the_limit_of_adam(measured):
    name = "hessian/preconditioned/batch"
    for group, seed in measured.runs:
        points = results.points(measured.run(group, seed))
        for epoch in points.keys() - {None}:
            points[epoch][name] = {"settings": {}, "values": {name: 7.0}}
            points[epoch]["update/learning_rate"]["values"][
                "update/preconditioned_limit"
            ] = 380.0
        results.write_points(measured.run(group, seed), points)
    panels = along.along_training(folder.read(measured.path)).axes
    (panel,) = [each for each in panels if "Adam" in each.get_ylabel()]
    dashed = [each for each in panel.get_lines() if each.get_linewidth() == 1.2]
    assert [set(line.get_ydata()) for line in dashed] == [{380.0}] * 2


def test_a_seed_without_a_finite_value_leaves_no_mean_and_is_told(measured):
    """An infinite noise scale, say: the mean of the others would be no mean."""
    place = measured.run("SB", 0)
    points = results.points(place)
    (record,) = [
        each
        for name, each in points[1].items()
        if name.startswith("hessian/lambda_max")
    ]
    (name,) = record["values"]
    record["values"][name] = math.inf
    results.write_points(place, points)
    study = folder.read(measured.path)
    assert f"SB, seed 0 after epoch 1: no finite value of {name}." in folder.missing(
        study
    )
    panels = [each for each in along.along_training(study).axes if each.get_visible()]
    lines = panels[1].get_lines()
    thick = next(line.get_ydata() for line in lines if line.get_linewidth() == 2)
    np.testing.assert_array_equal(thick, [101.0, np.nan, 105.0])


def test_the_line_of_a_noise_scale_is_that_of_all_seeds_together(measured):
    for seed, (trace, squared) in enumerate([(10.0, 1.0), (20.0, -0.5)]):
        place = measured.run("SB", seed)
        points = results.points(place)
        value = trace / squared if squared > 0 else math.inf
        points[1]["noise_scale/running"] = {
            "settings": {},
            "values": {"noise_scale/simple/running": value},
            "detail": {
                "simple": {"trace_covariance": trace, "squared_gradient": squared}
            },
            "seconds": 1.0,
        }
        results.write_points(place, points)
    study = folder.read(measured.path)
    (panel,) = (
        each
        for each in along.along_training(study).axes
        if "B_simple" in each.get_ylabel()
    )
    thick = next(x for x in panel.get_lines() if x.get_linewidth() == 2)
    assert dict(zip(thick.get_xdata(), thick.get_ydata(), strict=True))[1] == 60.0


def test_sharpness_stands_over_the_loss_of_the_same_point(measured):
    drawn = along.sharpness_and_loss(folder.read(measured.path))
    (panel,) = [each for each in drawn.axes if each.get_visible()]
    first = panel.get_lines()[0]
    np.testing.assert_allclose(first.get_xdata(), [2.0, 1.0, 0.4])
    np.testing.assert_allclose(first.get_ydata(), [10, 20, 50])
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")


def test_points_without_sharpness_are_left_out_of_the_logarithm(measured):
    place = measured.run("SB", 0)
    points = results.points(place)
    points[1]["sharpness/full/1e-3/batch"]["values"]["sharpness/full/1e-3/batch"] = 0.0
    results.write_points(place, points)
    drawn = along.sharpness_and_loss(folder.read(measured.path))
    np.testing.assert_allclose(drawn.axes[0].get_lines()[0].get_ydata(), [10, 50])


def test_both_figures_stand_on_the_page(measured):
    report.build(measured.path)
    page = (measured.path / "report.html").read_text(encoding="utf-8")
    assert 'id="figure-along_training"' in page
    assert 'id="figure-sharpness_and_loss"' in page
    report.build(untouched(measured))
    page = (measured.path / "report.html").read_text(encoding="utf-8")
    assert "along_training" not in page
    assert not (measured.path / "figures" / "along_training.svg").exists()


def test_every_measure_of_the_next_update_is_explained():
    for name in (
        "update/learning_rate",
        "update/stability_limit",
        "update/preconditioned_limit",
        "update/gradient_norm/batch",
        "update/update_norm/running",
    ):
        assert measures.describe(name).section != "Other", name
