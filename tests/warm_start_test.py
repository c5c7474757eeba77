"""Runs that begin with another run's weights, from the configuration to the results, on few examples."""

import shutil

import jax
import numpy as np
import pytest
import studies

from bsexp import door, models, results, study
from bsexp.training import checkpoint, optim, recipe, snapshots, step, warm_start

SETTINGS = {
    "batch": {"size": 100},
    "train": {"epochs": 2, "checkpoint_every": 1},
    "seeds": 1,
    "groups": {
        "SB": {},
        "cold": {"batch": {"size": 200}},
        "warm0": {"batch": {"size": 200}, "start": {"group": "SB", "epoch": 0}},
        "warm1": {"batch": {"size": 200}, "start": {"group": "SB", "epoch": 1}},
    },
    "measure": {"probes": ("evaluation", "distance"), "modes": ("running",)},
}


def opened(mnist_dir, **changes):
    data = {"train_size": 400, "dir": str(mnist_dir)}
    return door.open_study({**SETTINGS, "data": data, **changes}, [], study.catalogue())


def runs(plan):
    return {run.group: run for run in plan.runs if run.seed == 0}


@pytest.fixture(scope="module")
def trained(mnist_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm") / "study"
    plan = opened(mnist_dir)
    assert studies.computed(plan, folder)[0] == 0
    return plan, folder


def rows(folder, run):
    found = results.read_rows(folder / "runs" / run.name / results.CURVES)
    return [
        {k: v for k, v in row.items() if "loss" in k or "accuracy" in k}
        for row in found
    ]


@pytest.mark.slow
def test_begun_after_no_epoch_it_is_the_run_that_begins_cold(trained):
    plan, folder = trained
    found = runs(plan)
    assert rows(folder, found["warm0"]) == rows(folder, found["cold"])
    assert found["warm0"].name != found["cold"].name


@pytest.mark.slow
def test_begun_later_it_goes_on_from_the_weights_that_were_kept(trained):
    """Distance from its start, and first epoch, computed from the snapshot of SB."""
    plan, folder = trained
    run = runs(plan)["warm1"]
    model = models.build("F1", (28, 28, 1), 10, 0.9)
    made = recipe.build(run, model, 400)
    fresh = step.init(made, optim.rates(run.base.optimizer), 0)
    donor = snapshots.restore(folder / "runs" / run.donor.name, 1, fresh)
    begun = warm_start.begun(made, optim.rates(run.base.optimizer), donor)
    with checkpoint.Checkpoints(folder / "runs" / run.name / "checkpoints") as kept:
        end = kept.restore(fresh)
    assert (end.step, end.examples) == (4, 800)
    moved = jax.tree.map(
        lambda a, b: np.square(np.asarray(a) - np.asarray(b)).sum(),
        end.parameters,
        begun.parameters,
    )
    frame = results.load(folder)
    distance = frame[(frame.run == run.name) & (frame.measure == "distance_from_start")]
    np.testing.assert_allclose(
        distance["value"], np.sqrt(sum(jax.tree.leaves(moved))), rtol=1e-4
    )
    losses = {
        name: rows(folder, each)[0]["train_loss"] for name, each in runs(plan).items()
    }
    assert losses["warm1"] < 0.7 * losses["cold"]


@pytest.mark.slow
def test_weights_and_statistics_are_taken_over_and_the_optimizer_begins_anew(trained):
    plan, folder = trained
    run = runs(plan)["warm1"]
    made = recipe.build(run, models.build("F1", (28, 28, 1), 10, 0.9), 400)
    rates = optim.rates(run.base.optimizer)
    fresh = step.init(made, rates, 0)
    donor = snapshots.restore(folder / "runs" / run.donor.name, 1, fresh)
    begun = warm_start.begun(made, rates, donor)
    same = jax.tree_util.Partial(jax.tree.map, np.testing.assert_array_equal)
    same((begun.parameters, begun.statistics), (donor.parameters, donor.statistics))
    same((begun.optimizer, begun.step, begun.examples), (fresh.optimizer, 0, 0))
    assert donor.step == 4


@pytest.mark.slow
def test_the_same_command_finds_nothing_to_compute_and_a_lost_run_comes_back_as_it_was(
    trained, mnist_dir, tmp_path
):
    plan, folder = trained
    copy = shutil.copytree(folder, tmp_path / "study")
    assert "nothing to compute" in studies.computed(plan, copy)[1]
    run = runs(plan)["warm1"]
    before = rows(copy, run)
    shutil.rmtree(copy / "runs" / run.name)
    assert studies.computed(opened(mnist_dir), copy)[0] == 0
    assert rows(copy, run) == before


@pytest.mark.slow
def test_a_start_after_an_epoch_that_was_not_kept_trains_the_other_run_again(
    trained, mnist_dir, tmp_path
):
    plan_of, folder = trained
    copy = shutil.copytree(folder, tmp_path / "study")
    late = {"batch": {"size": 200}, "start": {"group": "SB", "epoch": 2}}
    plan = opened(mnist_dir, groups={**SETTINGS["groups"], "warm2": late})
    code, said = studies.computed(plan, copy)
    assert code == 0
    found = runs(plan)
    # What began with the old weights would stand beside a run that may end at other bits.
    for name in ("SB", "warm1"):
        assert f"{found[name].name}: weights that are needed" in said
        assert (copy / "runs" / f"{found[name].name}.before-0").exists()
    assert "warm0: " not in said
    assert not (copy / "runs" / f"{found['warm0'].name}.before-0").exists()
    assert len(rows(copy, found["warm2"])) == 2
    assert rows(copy, found["warm1"]) == rows(folder, runs(plan_of)["warm1"])


def test_the_name_follows_the_other_run_and_not_what_its_group_is_called(mnist_dir):
    plain = runs(opened(mnist_dir))
    groups = {**SETTINGS["groups"], "small": {}}
    del groups["SB"]
    groups["warm0"] = {"batch": {"size": 200}, "start": {"group": "small", "epoch": 0}}
    groups["warm1"] = {"batch": {"size": 200}, "start": {"group": "small", "epoch": 1}}
    assert runs(opened(mnist_dir, groups=groups))["warm1"].name == plain["warm1"].name
    groups["small"] = {"optimizer": {"learning_rate": 2e-3}}
    assert runs(opened(mnist_dir, groups=groups))["warm1"].name != plain["warm1"].name
    assert plain["warm0"].name != plain["warm1"].name


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"group": "SBB"}, "start.group=SBB: unknown group; did you mean SB"),
        ({"group": "warm1"}, "begins with the weights of another group itself"),
        ({"group": "other"}, "has another network or other data"),
        ({"group": "SB", "epoch": 3}, "the runs of SB train 2 whole epochs"),
        (
            {"group": "large", "epoch": 1},
            "groups.large.batch.size=500: is 500 examples",
        ),
        ({"epoch": 3}, "counts the epochs of config.start.group, which is empty"),
    ],
)
def test_a_start_that_cannot_be_is_refused(mnist_dir, start, message):
    other = {"model": {"batch_norm_momentum": 0.5}}
    large = {"batch": {"size": 500}} if start.get("group") == "large" else {}
    groups = {
        **SETTINGS["groups"],
        "other": other,
        "large": large,
        "bad": {"start": start},
    }
    with pytest.raises(door.ConfigError, match=message):
        opened(mnist_dir, groups=groups)


@pytest.mark.slow
def test_a_run_whose_start_is_lost_and_cannot_come_back_fails_alone(trained, tmp_path):
    plan, folder = trained
    copy = shutil.copytree(folder, tmp_path / "study")
    found = runs(plan)
    shutil.rmtree(copy / "runs" / found["warm1"].name)
    shutil.rmtree(copy / "runs" / found["SB"].name / results.SNAPSHOTS / "1" / "state")
    code, said = studies.computed(plan, copy)
    assert code == 1
    assert (
        f"failed: {found['warm1'].name}: SB seed 0 has no whole snapshot of epoch 1"
        in said
    )


@pytest.mark.slow
def test_a_start_after_an_epoch_that_the_other_run_did_not_reach_is_told(
    mnist_dir, tmp_path
):
    """SB stops in its first epoch at a target that it has passed by then; its own results are whole."""
    stops = {"target": 0.1, "target_metric": "test_accuracy", "stop_at_target": True}
    groups = {
        "SB": {"train": {**SETTINGS["train"], **stops}},
        "warm": {"start": {"group": "SB", "epoch": 2}},
    }
    plan = opened(mnist_dir, groups=groups)
    found = runs(plan)
    for _ in range(2):
        code, said = studies.computed(plan, tmp_path / "study")
        assert code == 1
        assert f"failed: {found['warm'].name}: SB seed 0 ended before epoch 2" in said
        status = results.read_json(
            tmp_path / "study" / "runs" / found["SB"].name / "status.json"
        )
        assert status["state"] == "done"


@pytest.mark.slow
def test_each_run_of_a_cohort_keeps_what_others_begin_with(mnist_dir, tmp_path):
    """SB and SB2 differ in their learning rate and train side by side on two of the test's devices."""
    groups = {
        "SB": {},
        "SB2": {"optimizer": {"learning_rate": 2e-3}},
        "warm": {"start": {"group": "SB2", "epoch": 1}},
    }
    plan = opened(mnist_dir, groups=groups)
    assert studies.computed(plan, tmp_path / "study")[0] == 0
    found = runs(plan)
    environment = results.read_json(
        tmp_path / "study" / "runs" / found["SB2"].name / "env.json"
    )
    assert environment["cohort"] == [found["SB"].name, found["SB2"].name]
    assert len(rows(tmp_path / "study", found["warm"])) == 2


@pytest.mark.slow
def test_of_a_cohort_the_run_whose_start_is_lost_fails_alone(mnist_dir, tmp_path):
    """Two seeds would train side by side; the snapshot that one of them begins with is damaged."""
    groups = {"SB": {}, "warm": {"start": {"group": "SB", "epoch": 1}}}
    plan = opened(mnist_dir, groups=groups, seeds=2)
    folder = tmp_path / "study"
    assert studies.computed(plan, folder)[0] == 0
    first, second = (run for run in plan.runs if run.group == "warm")
    before = rows(folder, second)
    for run in (first, second):
        shutil.rmtree(folder / "runs" / run.name)
    shutil.rmtree(
        folder / "runs" / first.donor.name / results.SNAPSHOTS / "1" / "state"
    )
    code, said = studies.computed(plan, folder)
    assert code == 1
    assert f"failed: {first.name}: SB seed 0 has no whole snapshot" in said
    assert rows(folder, second) == before
    environment = results.read_json(folder / "runs" / second.name / "env.json")
    assert environment["cohort"] == [second.name]
    assert environment["mesh"]["population"] == 1
