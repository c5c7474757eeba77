"""The table of costs: whose numbers stand where, and what is there already."""

import dataclasses
import io

import pytest
from rich.console import Console
from training import cohorts  # noqa: F401 - names the network "tiny"

from bsexp import door, dry_run, progress, results, study, workdir
from bsexp.data import examples
from bsexp.probes import task

RATE = 1e6  # floating-point operations a second


@pytest.fixture
def plan(mnist_dir, monkeypatch):
    monkeypatch.setattr(dry_run, "rate", lambda *_: RATE)
    chosen = {
        "data": {"dir": str(mnist_dir), "train_size": 400},
        "model": {"name": "tiny"},
        "groups": {"small": {"batch": {"size": 10}}, "large": {"batch": {"size": 400}}},
        "seeds": 1,
        "measure": {"probes": ("evaluation",)},
    }
    return door.open_study(chosen, [], study.catalogue())


def shown(plan, folder):
    """Return the cells of each run's row, and what is said below."""
    said = io.StringIO()
    dry_run.show(plan, folder, Console(file=said, width=200))
    text = said.getvalue()
    rows = [line.strip("│").split("│") for line in text.splitlines() if "seed0" in line]
    return [[cell.strip() for cell in row] for row in rows], text


def times(run):
    """Return the seconds of training and of measuring."""
    found = examples.describe(run.base.data)
    forward = dry_run.forward_flops(found, run.base.model)
    # Evaluation in both modes, of the training examples and of the test set.
    measuring = 2 * (400 + 10_000) * forward
    return dry_run.training_cost(run, 1).flops / RATE, measuring / RATE


def trained(plan, folder):
    """Open a folder in which all runs of a study were trained to their end."""
    place = workdir.Workdir(folder, plan, "name", "command")
    place.open({})
    for run in plan.runs:
        place.open_run(run, {})
        row = {"epoch": 20, "step": 1, "examples": 1, "seconds": 1.0}
        results.write_rows(place.run_folder(run) / results.CURVES, [row])
        place.set_status(run, "done")
    return place


@pytest.mark.slow
def test_each_run_has_its_own_memory_and_times_and_the_sum_is_of_all(plan, tmp_path):
    rows, said = shown(plan, tmp_path / "study")
    seen = set()
    for run, cells in zip(plan.runs, rows, strict=True):
        bytes_of = dry_run.training_cost(run, 1).peak_bytes
        expected = [f"{bytes_of / 2**20:,.0f} MiB", *map(progress.clock, times(run))]
        assert cells[:2] == [run.name, run.group]
        assert cells[-3:] == expected
        seen |= set(expected[:2])
    assert len(seen) == 4, "the two runs differ in memory and training"
    total = sum(sum(times(run)) for run in plan.runs)
    assert f"About {progress.clock(total)} for what" in said
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_what_is_there_costs_nothing_and_what_must_be_trained_again_costs_all(
    plan, tmp_path
):
    small, large = plan.runs
    place = trained(plan, tmp_path)
    for item in study.wanted(plan):
        # Of the large one the last measurement is missing, and so are the weights for it.
        if (item.run, item.task.name) != (large, "evaluation/batch"):
            place.record(item, task.Measurement({}, {}), 1.0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    rows, said = shown(plan, tmp_path)
    assert rows[0][-2:] == ["done", "done"]
    assert rows[1][-2:] == [*map(progress.clock, times(large))]
    assert (
        f"About {progress.clock(sum(times(large)))} for what {tmp_path} lacks" in said
    )
    (place.run_folder(large) / "checkpoints" / "20").mkdir(parents=True)
    rows, _ = shown(plan, tmp_path)
    half = times(large)[1] / 2
    assert rows[1][-2:] == [progress.clock(0.0), progress.clock(half)]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert small.name == rows[0][0]
    for item in study.wanted(plan):
        place.record(item, task.Measurement({}, {}), 1.0)
    rows, said = shown(plan, tmp_path)
    assert [row[-2:] for row in rows] == [["done", "done"]] * 2
    assert f"{tmp_path} lacks nothing." in said
    assert "About" not in said


def test_of_a_run_that_was_stopped_the_rest_counts_and_seconds_are_a_limit(
    plan, tmp_path
):
    """A quarter of the 40 epochs is done, of 400 examples each."""
    small, large = plan.runs
    place = workdir.Workdir(tmp_path, plan, "name", "command")
    place.open({})
    place.open_run(small, {})
    row = {"epoch": 5, "step": 200, "examples": small.base.train.epochs * 100}
    results.write_rows(place.run_folder(small) / results.CURVES, [row])
    rows, _ = shown(plan, tmp_path)
    whole = times(small)[0]
    assert [row[-2] for row in rows] == [
        progress.clock(0.75 * whole),
        progress.clock(times(large)[0]),
    ]
    settings = {
        "data": {"dir": small.base.data.dir, "train_size": 400},
        "model": {"name": "tiny"},
        "train": {"seconds": 3},
    }
    ((*_, training, _),), _ = shown(
        door.open_study({**settings, "seeds": 1}, [], study.catalogue()), tmp_path
    )
    assert (whole > 4, training) == (True, "0:03")


def test_what_an_earlier_study_trains_is_measured_alone(plan, tmp_path):
    small, large = plan.runs
    said = io.StringIO()
    console = Console(file=said, width=200)
    trained = dry_run.show(plan, tmp_path, console, {large.name, "another"})
    assert {*trained} == {small.name}
    total = sum(times(small)) + times(large)[1]
    assert f"About {progress.clock(total)} for what" in said.getvalue()
    assert "1 of its runs an earlier study trains." in said.getvalue()


def test_a_folder_that_is_a_file_is_told(plan, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "study"):
        with pytest.raises(door.ConfigError, match="file is not a folder"):
            shown(plan, folder)


def test_a_folder_that_cannot_be_read_is_named(plan, tmp_path):
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(door.ConfigError, match=r"study\.json is not"):
        shown(plan, tmp_path)


def test_a_run_that_diverged_is_called_so_and_costs_nothing(plan, tmp_path):
    small, large = plan.runs
    place = workdir.Workdir(tmp_path, plan, "name", "command")
    place.open({})
    place.open_run(large, {})
    place.set_status(large, "failed", reason="the loss is nan", diverged=True)
    rows, said = shown(plan, tmp_path)
    assert rows[0][-2:] == [*map(progress.clock, times(small))]
    assert rows[1][-2:] == ["diverged", "diverged"]
    assert f"About {progress.clock(sum(times(small)))} for what" in said


@pytest.mark.slow
def test_what_is_measured_along_training_counts_at_each_epoch(
    mnist_dir, monkeypatch, tmp_path
):
    monkeypatch.setattr(dry_run, "rate", lambda *_: RATE)
    chosen = {
        "data": {"dir": str(mnist_dir), "train_size": 400},
        "model": {"name": "tiny"},
        "batch": {"size": 400},
        "seeds": 1,
        "measure": {
            "probes": ("evaluation",),
            "along": {"epochs": (0, 2), "probes": ("evaluation",)},
        },
    }
    plan = door.open_study(chosen, [], study.catalogue())
    rows, _ = shown(plan, tmp_path)
    assert rows[0][-1] == progress.clock(3 * times(plan.runs[0])[1])


def test_a_pair_whose_baseline_is_trained_again_is_measured_again(plan, tmp_path):
    small, large = plan.runs
    paired = dataclasses.replace(
        plan,
        study=dataclasses.replace(
            plan.study,
            compare=("small", "large"),
            measure=dataclasses.replace(
                plan.study.measure, probes=("evaluation", "path")
            ),
        ),
    )
    place = trained(paired, tmp_path)
    (place.run_folder(large) / "checkpoints" / "1").mkdir(parents=True)
    for item in study.wanted(paired):
        # Its weights are gone, and so what was measured against them counts no more.
        if (item.run, item.task.name) != (small, "evaluation/batch"):
            place.record(item, task.Measurement({}, {}), 1.0)
    lack = dry_run._lacking(paired, tmp_path)
    assert {item.run.name for item in lack.missing} == {small.name, large.name}
    assert lack.untrained.keys() == {small.name}
