import dataclasses
import json
import shutil
import time

import pytest
import studies
from flax import linen as nn
from training import cohorts  # noqa: F401 - names the network "tiny"

from bsexp import door, models, results, study
from bsexp.training import loop


@pytest.mark.slow
def test_a_run_that_does_not_fit_in_memory_fails_alone_and_says_what_takes_less(
    tmp_path, command_line
):
    """60 000 examples of F1 in one batch take 1.9 GiB more: LB fails at training, SB when it is measured (5 GiB).

    Of 2 GiB: SB's training takes 1.4 and LB's more than 2.5.
    """
    found = command_line(
        "--config=experiments/sharp_minima.py:smoke",
        "--config.data.train_size=60000",
        "--config.train.epochs=1",
        "--config.groups.SB.batch.size=6000",
        "--config.groups.LB.batch.size=60000",
        "--config.measure.modes=('batch',)",
        "--config.measure.probes=('hessian',)",
        "--config.measure.statistics_batch=60000",
        "--config.measure.hessian.examples=60000",
        f"--workdir={tmp_path}",
        program=("-m", "tests.limited", str(2**31)),
    )
    assert found.returncode == 1, found.stderr
    reasons = {
        folder.name.split("-")[3]: json.loads((folder / "status.json").read_text())
        for folder in (tmp_path / "runs").iterdir()
    }
    assert {each["state"] for each in reasons.values()} == {"failed"}
    small, large = reasons["B6000"]["reason"], reasons["B60000"]["reason"]
    assert small == (
        "hessian/trace/batch: out of memory; in mode batch a smaller config.measure.statistics_batch takes less"
    )
    assert large.startswith("out of memory: a device needs ")
    assert large.endswith("; try a smaller config.batch.microbatch")
    for reason in (small, large):
        assert reason in found.stdout


class Plain(nn.Module):
    """Without batch norm."""

    num_classes: int
    momentum: float
    least_side = 1

    @nn.compact
    def __call__(self, inputs, ghost, keys):  # noqa: ARG002 - as it is called
        return nn.Dense(self.num_classes)(inputs.reshape((len(inputs), -1)))


SMALL = {
    "data": {"train_size": 400},
    "train": {"epochs": 1},
    "batch": {"size": 100},
    "model": {"name": "tiny"},
    "seeds": 1,
    "measure": {"probes": ("evaluation", "distance"), "modes": ("running",)},
}


def settings(folder, **changes):
    data = {"dir": str(folder), **changes.pop("data", {})}
    return SMALL | changes | {"data": SMALL["data"] | data}


def computed(plan, folder):
    """Compute a study; return its exit code, what it said, and the state and folder of each group's only run."""
    code, said = studies.computed(plan, folder)
    found = {
        results.read_json(each / "config.json")["group"]: each
        for each in (folder / "runs").iterdir()
    }
    states = {
        group: results.read_json(each / "status.json") for group, each in found.items()
    }
    return code, said, states, found


@pytest.mark.slow
def test_a_run_that_lacks_a_measurement_has_the_others_and_fails_alone(
    mnist_dir, tmp_path, monkeypatch
):
    monkeypatch.setitem(models.NETWORKS, "plain", {"paper": Plain})
    chosen = settings(
        mnist_dir,
        groups={"plain": {"model": {"name": "plain"}}, "normalised": {}},
        measure={
            "probes": ("invariance", "evaluation"),
            "modes": ("batch",),
            "statistics_batch": 200,
            "invariance": {"doublings": 1},
            "sharpness": {
                "batch_examples": 100,
                "lbfgsb_iterations": 1,
                "ascent_steps": 1,
            },
            "hessian": {"examples": 100, "trace_probes": 2, "lanczos_iterations": 2},
            "flatness": {"examples": 100, "steps": 1, "evaluations": 4},
        },
    )
    # The door would refuse it.
    unseen = dataclasses.replace(study.catalogue(), normalised=lambda _base: True)
    plan = door.open_study(chosen, [], unseen)
    code, said, states, found = computed(plan, tmp_path / "study")
    reason = "invariance/1: there is no batch norm that could take a factor out again"
    assert code == 1
    assert states["plain"]["state"] == "failed"
    assert states["plain"]["reason"] == reason
    assert reason in said
    kept, whole = (
        results.read_json(found[group] / "measurements.json")["measurements"]
        for group in ("plain", "normalised")
    )
    assert kept.keys() == {"evaluation/batch"}, "what can be measured is"
    assert states["normalised"]["state"] == "done"
    assert {"invariance/1", "invariance/2"} <= whole.keys()
    assert results.finished_run(found["plain"])["group"] == "plain", "it was trained"
    less = {**chosen, "measure": {**chosen["measure"], "probes": ("evaluation",)}}
    plan = door.open_study(less, [], study.catalogue())
    code, _, states, _ = computed(plan, tmp_path / "study")
    assert code == 0
    assert states["plain"]["state"] == "done", "asked for less, it lacks nothing"


@pytest.mark.slow
def test_a_target_that_is_asked_for_after_training_is_read_off_the_curves(
    mnist_dir, tmp_path
):
    def asked(target):
        train = {"epochs": 3, "target": target, "target_metric": "train_loss"}
        chosen = settings(mnist_dir, train=train)
        return computed(
            door.open_study(chosen, [], study.catalogue()), tmp_path / "study"
        )

    _, _, states, found = asked(0.0)
    assert "target" not in states["base"]
    rows = results.read_rows(found["base"] / results.CURVES)
    losses = [row["train_loss"] for row in rows]
    assert losses == sorted(losses, reverse=True), "else the epochs below are not those"
    for target, row in [(losses[1], rows[1]), (losses[2] / 2, None), (losses[0], rows[0])]:  # fmt: skip
        code, said, states, _ = asked(target)
        assert (code, states["base"]["state"]) == (0, "done")
        assert "nothing to compute" in said
        reached = states["base"]["target"]
        assert reached == (row and {name: row[name] for name in reached})
    summary = results.read_json(tmp_path / "study" / "summary.json")
    assert summary["groups"]["base"]["target/step"]["mean"] == rows[0]["step"]
    assert "target" not in asked(0.0)[2]["base"]


def test_a_validation_split_is_measured_beside_the_others(mnist_dir, tmp_path):
    """As it was seen after the last epoch, on examples that are in neither other split."""
    chosen = settings(mnist_dir, data={"validation_size": 300})
    plan = door.open_study(chosen, [], study.catalogue())
    code, _, _, found = computed(plan, tmp_path / "study")
    assert code == 0
    last = results.read_rows(found["base"] / results.CURVES)[-1]
    record = results.measurements(found["base"])["evaluation/running"]
    for name in ("validation_loss", "validation_accuracy", "test_loss"):
        assert record["values"][name] == pytest.approx(last[name], rel=1e-5)
    assert record["detail"] == {"train": 400, "validation": 300, "test": 10_000}
    frame = results.load(tmp_path / "study")
    assert "validation_accuracy" in set(frame["measure"])


def test_a_run_that_diverged_is_not_trained_again_and_the_study_is_finished(
    mnist_dir, tmp_path
):
    """It would come to the same numbers; neither does a pair with it keep a study from its end."""
    chosen = settings(
        mnist_dir,
        groups={"diverging": {"optimizer": {"learning_rate": 1e30}}, "whole": {}},
        compare=("diverging", "whole"),
        measure={"probes": ("evaluation", "path"), "modes": ("running",)},
    )
    plan = door.open_study(chosen, [], study.catalogue())
    code, said, states, _ = computed(plan, tmp_path / "study")
    assert code == 1
    assert states["diverging"]["state"] == "failed"
    assert states["whole"]["state"] == "done"
    code, again, kept, _ = computed(plan, tmp_path / "study")
    assert (code, kept) == (1, states)
    assert "nothing to compute" in again
    assert states["diverging"]["reason"] in said
    assert states["diverging"]["reason"] in again
    assert results.read_json(tmp_path / "study" / "study.json")["finished"]


def test_what_would_begin_with_a_run_that_diverged_is_not_tried_again(
    mnist_dir, tmp_path
):
    chosen = settings(
        mnist_dir,
        groups={
            "diverging": {"optimizer": {"learning_rate": 1e30}},
            "late": {"start": {"group": "diverging", "epoch": 1}},
            # Its start is there, and it diverges by itself.
            "early": {
                "start": {"group": "diverging"},
                "optimizer": {"learning_rate": 1e30},
            },
        },
    )
    plan = door.open_study(chosen, [], study.catalogue())
    code, _, states, _ = computed(plan, tmp_path / "study")
    assert code == 1
    assert {each["state"] for each in states.values()} == {"failed"}
    code, again, kept, _ = computed(plan, tmp_path / "study")
    assert (code, kept) == (1, states)
    assert "nothing to compute" in again


def test_a_run_begins_with_the_weights_of_one_that_diverged_after_that_epoch(
    mnist_dir, tmp_path
):
    """Also where it stands before that one, which it has trained first."""
    jump = {
        "name": "piecewise_constant_schedule",
        "arguments": {"init_value": 1e-30, "boundaries_and_scales": ((1, 1e30),)},
    }
    chosen = settings(
        mnist_dir,
        train={"epochs": 2},
        groups={
            "late": {"start": {"group": "diverging", "epoch": 1}},
            "diverging": {"schedule": jump, "optimizer": {"learning_rate": 1e27}},
        },
    )
    plan = door.open_study(chosen, [], study.catalogue())
    code, _, states, _ = computed(plan, tmp_path / "study")
    assert code == 1
    assert (states["late"]["state"], states["diverging"]["state"]) == ("done", "failed")


def test_records_that_are_damaged_while_training_fail_the_runs_that_read_them(
    mnist_dir, tmp_path
):
    """They were whole at the door; the other group reads another copy of them."""
    copy = tmp_path / "data"
    shutil.copytree(mnist_dir, copy)
    chosen = settings(
        mnist_dir,
        data={"streaming": True},
        groups={
            "damaged": {"data": {"dir": str(copy)}},
            "whole": {"batch": {"size": 50}},
        },
    )
    plan = door.open_study(chosen, [], study.catalogue())
    for shard in copy.rglob("*-train.*"):
        shard.write_bytes(bytes(shard.stat().st_size))
    code, said, states, _ = computed(plan, tmp_path / "study")
    assert code == 1
    assert states["damaged"]["state"] == "failed"
    assert states["damaged"]["reason"].startswith("cannot read split train in ")
    assert states["damaged"]["reason"] in said
    assert states["whole"]["state"] == "done"


@pytest.mark.slow
def test_a_path_goes_from_the_run_of_the_baseline_to_the_other_one(mnist_dir, tmp_path):
    chosen = settings(
        mnist_dir,
        groups={"SB": {}, "LB": {"batch": {"size": 200}}},
        compare=("SB", "LB"),
        measure={
            "probes": ("evaluation", "path"),
            "modes": ("running",),
            "path": {"first": 0.0, "last": 1.0, "points": 2, "examples": 400},
        },
    )
    plan = door.open_study(chosen, [], study.catalogue())
    code, _, _, found = computed(plan, tmp_path / "study")
    assert code == 0
    ends = [
        results.measurements(found[group])["evaluation/running"]["values"]
        for group in ("SB", "LB")
    ]
    along = results.measurements(found["LB"])["path/linear/running"]["detail"]
    for name in ("train_loss", "test_loss"):
        assert along[name] == pytest.approx([end[name] for end in ends], rel=1e-5)
        assert abs(along[name][0] - along[name][1]) > 1e-2


@pytest.mark.slow
def test_the_seconds_of_a_cohort_are_shared_by_its_runs(
    mnist_dir, tmp_path, monkeypatch
):
    plan = door.open_study(settings(mnist_dir) | {"seeds": 2}, [], study.catalogue())
    train, spent = loop.train, []

    def slowly(job):
        began = time.perf_counter()
        time.sleep(3)
        ends = train(job)
        spent.append(time.perf_counter() - began)
        return ends

    monkeypatch.setattr(loop, "train", slowly)
    assert studies.computed(plan, tmp_path)[0] == 0
    evidence = [
        results.read_json(each / "env.json") for each in (tmp_path / "runs").iterdir()
    ]
    assert [len(each["cohort"]) for each in evidence] == [2, 2]
    found = sum(each["seconds"]["training"] for each in evidence)
    # What builds the job is among them, and it is shorter than the training.
    assert spent[0] - 0.01 <= found < 1.6 * spent[0]
