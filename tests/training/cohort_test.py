"""Cohorts in the training loop: rows, checkpoints and ends of every run."""

import dataclasses
import os
import signal
import time

import jax
import numpy as np
import pytest

from bsexp import config, results
from bsexp.training import interruption, loop, mesh, trainer

SEEDS = (0, 1)
PAIR = mesh.Layout(2, 1, 2)


def rows(folder):
    found = results.read_rows(folder / results.CURVES)
    return [
        {key: value for key, value in row.items() if key != "seconds"} for row in found
    ]


def close(a, b):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b
    )


@pytest.fixture(scope="module")
def pair(make_job, tmp_path_factory):
    """Two runs of three epochs that trained side by side, undisturbed."""
    job = make_job(tmp_path_factory.mktemp("pair"), seeds=SEEDS, layout=PAIR)
    return job, loop.train(job)


def test_every_run_of_a_cohort_has_the_rows_and_checkpoints_of_one_alone(
    pair, make_job, tmp_path
):
    job, ends = pair
    for seed in SEEDS:
        alone = make_job(tmp_path / str(seed), seeds=(seed,))
        (end,) = loop.train(alone)
        close(ends[seed], end)
        for ours, theirs in zip(
            rows(job.folders[seed]), rows(alone.folders[0]), strict=True
        ):
            assert ours == pytest.approx(theirs, rel=1e-5)
        alone_again = make_job(job.folders[seed], seeds=(seed,))
        close(loop.restore(alone_again), end)


def test_stacked_runs_have_rows_and_checkpoints_of_their_own(make_job, tmp_path):
    """Their products round differently, and updates amplify it; another seed's first row differs by more."""
    job = make_job(tmp_path, seeds=SEEDS, layout=mesh.Layout(1, 1, 2))
    ends = loop.train(job)
    for seed in SEEDS:
        alone = make_job(tmp_path / "alone" / str(seed), seeds=(seed,))
        loop.train(alone)
        first = pytest.approx(rows(alone.folders[0])[0], rel=1e-2)
        assert rows(job.folders[seed])[0] == first
        assert rows(job.folders[1 - seed])[0] != first
        kept = loop.restore(make_job(job.folders[seed], seeds=(seed,)))
        jax.tree.map(np.testing.assert_array_equal, kept, ends[seed])


def test_a_stopped_cohort_goes_on_to_the_same_bits(pair, make_job, tmp_path):
    heard = []

    def interrupt(*numbers):
        heard.append(numbers)
        if len(heard) == 6:
            os.kill(os.getpid(), signal.SIGINT)

    job = make_job(tmp_path, seeds=SEEDS, layout=PAIR, heard=interrupt)
    with pytest.raises(interruption.Interrupted):
        loop.train(job)
    ends = loop.train(make_job(tmp_path, seeds=SEEDS, layout=PAIR))
    jax.tree.map(np.testing.assert_array_equal, ends, pair[1])
    assert [rows(folder) for folder in job.folders] == [
        rows(folder) for folder in pair[0].folders
    ]


def test_runs_that_were_stopped_at_different_steps_go_on_one_after_the_other(
    pair, make_job, tmp_path
):
    """One has done an epoch by itself, the other none; a copy takes the missing one's place on the mesh."""
    loop.train(make_job(tmp_path / "1", seeds=(1,), epochs=1))
    ends = loop.train(make_job(tmp_path, seeds=SEEDS, layout=PAIR))
    close(ends, pair[1])
    for seed in SEEDS:
        assert len(rows(tmp_path / str(seed))) == 3


def test_a_run_that_diverges_leaves_the_others_alone(pair, make_job, tmp_path):
    job = make_job(tmp_path, seeds=SEEDS, layout=PAIR)
    wild = {**job.rates[0], "learning_rate": jax.numpy.float32(1e30)}
    job = loop.dataclasses.replace(job, rates=(wild, job.rates[1]))
    bad, good = loop.train(job)
    assert isinstance(bad, FloatingPointError)
    assert str(bad).startswith("the training loss is ")
    close(good, pair[1][1])
    assert len(rows(job.folders[0])) < 3
    assert rows(job.folders[1]) == rows(pair[0].folders[1])


def test_a_batch_that_grows_takes_other_epochs_in_larger_steps(
    make_job, tmp_path, caplog
):
    batch = config.Batch(growth=4, growth_epochs=(1,))
    job = make_job(tmp_path / "run", epochs=3, batch=batch)
    settings = config.Base(model=config.Model(name="tiny"))
    cold = trainer.Trainer(job.trainer.recipe, job.trainer.place, settings)
    # The program of the evaluation, which all trainers share, is compiled now.
    loop.train(dataclasses.replace(job, folders=(tmp_path / "other",)))
    job = dataclasses.replace(job, trainer=cold)
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        (end,) = loop.train(job)
    assert int(end.step) == 2_000 // 128 + 2 * (2_000 // 512)
    # One program a size, whatever lengths the portions have; "mapped" is what sharded.Jit maps.
    compiled = [each for each in caplog.messages if "Compiling jit(mapped)" in each]
    assert len(compiled) == 2
    assert int(end.examples) == 128 * 15 + 2 * 512 * 3
    assert [row["examples"] for row in rows(job.folders[0])] == [1_920, 3_456, 4_992]


def test_a_limit_within_an_epoch_ends_it_there(make_job, tmp_path):
    job = make_job(tmp_path / "run", epochs=3, steps=20)
    (end,) = loop.train(job)
    assert int(end.step) == 20
    last = rows(job.folders[0])[-1]
    assert (last["epoch"], last["step"], last["examples"]) == (1 + 5 / 15, 20, 2_560)
    close(loop.restore(job), end)


@pytest.mark.parametrize("evaluations", [1, 7])
def test_a_target_ends_a_run_and_it_stays_ended(make_job, tmp_path, evaluations):
    limits = {"target": 0.8, "target_metric": "test_accuracy", "stop_at_target": True}
    limits["evaluations"] = evaluations
    job = make_job(tmp_path / "run", epochs=9, **limits)
    (end,) = loop.train(job)
    found = rows(job.folders[0])
    # Several epochs in, that of the finer rows within one.
    assert (found[-1]["step"] % 15 > 0) == (evaluations > 1)
    assert (
        found[-1]["test_accuracy"]
        >= 0.8
        > max([row["test_accuracy"] for row in found[:-1]], default=0)
    )
    assert int(end.step) == found[-1]["step"] < 9 * 15
    heard = []
    again = make_job(
        tmp_path / "run",
        epochs=9,
        heard=lambda *numbers: heard.append(numbers),
        **limits,
    )
    jax.tree.map(np.testing.assert_array_equal, loop.train(again), [end])
    jax.tree.map(np.testing.assert_array_equal, loop.restore(again), end)
    assert not heard


def test_seconds_end_a_run_between_two_portions(make_job, tmp_path):
    job = make_job(tmp_path / "run", epochs=100_000, seconds=1.0)
    (end,) = loop.train(job)
    last = rows(job.folders[0])[-1]
    assert int(end.step) == last["step"]
    assert results.read_rows(job.folders[0] / results.CURVES)[-1]["seconds"] >= 1
    close(loop.restore(job), end)


@pytest.mark.slow
def test_compilation_is_not_among_the_seconds(make_job, tmp_path):
    """The second cohort of a shape finds the programs ready."""
    job = make_job(tmp_path / "run", epochs=1)
    model = job.trainer.recipe.model

    def slow(*arguments):
        time.sleep(3)  # while it is traced
        return model.apply(*arguments)

    slowly = dataclasses.replace(model, apply=slow)
    cold = trainer.Trainer(
        job.trainer.recipe._replace(model=slowly),
        job.trainer.place,
        config.Base(model=config.Model(name="tiny")),
    )
    job = dataclasses.replace(job, trainer=cold)
    began = time.perf_counter()
    loop.train(job)
    took, calls = time.perf_counter() - began, list(job.trainer.first_calls)
    (row,) = results.read_rows(job.folders[0] / results.CURVES)
    spent = [last - first for first, last in calls]
    assert len(spent) == 2  # what evaluates and what trains
    assert max(spent) > 3
    assert 0 < row["seconds"] <= took - sum(spent)
    again = dataclasses.replace(job, folders=(tmp_path / "again",))
    loop.train(again)
    assert job.trainer.first_calls == calls


@pytest.mark.slow
def test_neither_keeping_a_state_nor_precise_statistics_take_seconds_from_a_run(
    make_job, tmp_path
):
    """Three of a second each stand before the last row."""
    job = make_job(tmp_path / "run", epochs=4)

    def slow(states, _seeds):
        time.sleep(1)
        return [job.trainer.engine.member(states, 0).statistics]

    job = dataclasses.replace(job, kept=(1, 2, 3), precise=slow)
    began = time.perf_counter()
    loop.train(job)
    assert time.perf_counter() - began > 4
    assert results.kept_epochs(job.folders[0]) == [1, 2, 3]
    *_, last = results.read_rows(job.folders[0] / results.CURVES)
    assert last["seconds"] < 3


def test_seconds_go_on_where_a_stopped_run_does_and_a_budget_is_granted_once(
    make_job, tmp_path
):
    folder = tmp_path / "run"
    loop.train(make_job(folder, epochs=2))
    file = folder / results.CURVES
    for row, seconds in zip(found := results.read_rows(file), (100, 200), strict=True):
        row["seconds"] = seconds
    results.write_rows(file, found)
    loop.train(make_job(folder, epochs=3))
    first, second, third = results.read_rows(file)
    assert (first["seconds"], second["seconds"]) == (100, 200)
    assert 200 < third["seconds"] < 300
    results.write_rows(file, [first, second, {**third, "seconds": 249.9}])
    (end,) = loop.train(make_job(folder, epochs=100_000, seconds=250.0))
    last = results.read_rows(file)[-1]
    assert 250 <= last["seconds"] < 300
    assert int(end.step) == last["step"] > third["step"]


def test_stacked_runs_need_no_copy_of_the_data(make_job, tmp_path):
    alone = make_job(tmp_path / "run").trainer.place
    stacked = trainer.beside(alone, 3)
    assert (stacked.engine.members, alone.engine.members) == (3, 1)
    ours, theirs = (
        jax.tree.leaves((each.data, each.held_out)) for each in (stacked, alone)
    )
    assert all(a is b for a, b in zip(ours, theirs, strict=True))
