"""Training on examples that are read while it trains: the numbers of the resident path, to the bit."""

import dataclasses
import multiprocessing
import os
import signal
import threading

import jax
import numpy as np
import pytest
from training import cohorts, jobs

from bsexp import config, results
from bsexp.data import examples
from bsexp.training import feed, interruption, loop, mesh
from bsexp.training.timeline import Updates

pytestmark = pytest.mark.usefixtures("optimised")

# A part of MNIST with noisy labels: 10 updates of 120 in an epoch, and 80 examples left over.
SETTINGS = {
    "train_size": cohorts.EXAMPLES,
    "validation_size": 300,
    "label_noise": 0.2,
}
BATCH, UPDATES, MOST = 120, 30, 5


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a, b)


@pytest.fixture(scope="module")
def data(mnist_dir):
    """The same examples in memory and on disk."""
    settings = config.Data(dir=str(mnist_dir), **SETTINGS)
    streamed = dataclasses.replace(settings, streaming=True)
    return examples.load(settings), examples.load(streamed)


@pytest.fixture(autouse=True)
def small_portions(monkeypatch):
    """Five updates of a run are portions of 2, 2 and 1."""
    monkeypatch.setattr(feed, "PORTION", 2 * BATCH * 784)


@pytest.fixture
def pair(data):
    """Train a cohort on examples in memory, and one on those on disk; return losses and last states of each."""

    def trained(layout=jobs.ALONE, **options):
        found = []
        for each in data:
            cohort = cohorts.Cohort(each, layout, batch_size=BATCH, **options)
            with cohort.feed:
                losses = cohort.run(UPDATES, MOST)
            members = range(layout.members)
            found.append((losses, [cohort.member(number) for number in members]))
        return found

    return trained


def execution(engine="jit", **fields):
    return config.Execution(engine=engine, **fields)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"rolled": False}, marks=pytest.mark.slow),
        {"batch": config.Batch(microbatch=40, ghost=20)},
        pytest.param(
            {"augmentation": config.Augmentation(rotation=10.0, crop=2)},
            marks=pytest.mark.slow,
        ),
        pytest.param({"execution": execution("pmap")}, marks=pytest.mark.slow),
    ],
    ids=["rolled", "unrolled", "microbatches", "augmented", "pmap"],
)
def test_streamed_examples_give_the_bits_of_resident_ones(pair, options):
    resident, streamed = pair(**options)
    same(streamed, resident)
    assert resident[0][-1] < 0.9 * resident[0][0]


@pytest.mark.parametrize(
    "engine", ["jit", pytest.param("pmap", marks=pytest.mark.slow)]
)
def test_every_run_of_a_cohort_has_its_own_order_on_any_devices(pair, engine):
    """Of 120 examples, in microbatches of 40, four devices hold 10 of each."""
    seeds = (3, 1, 0, 3)
    layout = mesh.Layout(2, 4, 4)
    batch = config.Batch(microbatch=40, ghost=10)
    resident, streamed = pair(
        layout, seeds=seeds, batch=batch, execution=execution(engine)
    )
    same(streamed, resident)


@pytest.mark.slow
def test_sums_in_a_fixed_order_have_the_bits_of_one_device(pair):
    ordered = execution(deterministic_reduction=True)
    batch = config.Batch(ghost=5)
    alone, _ = pair(batch=batch, execution=ordered)
    _, spread = pair(mesh.Layout(1, 8, 1), batch=batch, execution=ordered)
    same(spread, alone)


def test_a_device_gets_its_own_examples_and_no_others(data):
    layout = mesh.Layout(2, 4, 2)
    cohort = cohorts.Cohort(data[1], layout, batch_size=BATCH, seeds=(0, 1))
    with cohort.feed:
        portion = next(cohort.feed.portions(Updates(0, BATCH, 0, 1)))
    images, labels = portion.own
    assert images.shape == (2, 1, 1, 4, 30, 28, 28, 1)
    for array in (images, labels):
        own = [shard.data.nbytes for shard in array.addressable_shards]
        assert own == [array.nbytes // 8] * 8


def test_a_shorter_portion_needs_no_program_and_no_stream_of_its_own(data):
    cohort = cohorts.Cohort(data[1], batch_size=BATCH)
    with cohort.feed:
        for last in (2, 4):
            cohort.train(Updates(0, BATCH, last - 2, last))
        (program,) = cohort.trainer._programs.values()
        known, streams = program._cache_size(), dict(cohort.feed._streams)
        cohort.train(Updates(0, BATCH, 4, 5))
        assert program._cache_size() == known
        assert cohort.feed._streams == streams


def test_the_host_places_one_portion_ahead_however_fast_it_reads(data, monkeypatch):
    """More would fill the device: with a fast disk, a dispatch of updates at once where two portions were reckoned."""
    cohort = cohorts.Cohort(data[1], batch_size=BATCH, name="wide")
    engine, program = cohort.trainer.engine, cohort.trainer._program(BATCH)
    dispatched, working = [], []

    def recorded(*arguments):
        state, sums = program(*arguments)
        dispatched.append(sums.loss)
        return state, sums

    def placed(members):
        working.append(sum(not each.is_ready() for each in dispatched))
        return divide(members)

    divide = engine.divide
    monkeypatch.setitem(cohort.trainer._programs, BATCH, recorded)
    monkeypatch.setattr(engine, "divide", placed)
    with cohort.feed:
        for epoch in range(2):
            cohort.train(Updates(epoch, BATCH, 0, 10))
    assert len(working) == len(dispatched) == 10
    assert max(working) <= 1


@pytest.mark.parametrize("most", [1, 2, 5, 7, 100])
def test_portions_are_alike_and_no_larger_than_allowed(most):
    updates = feed.portion_updates(most, BATCH * 784)
    assert updates <= 2
    assert most % updates in {0, 1}
    assert feed.portion_updates(most, 10**9) == 1


# The loop: resumption, growth, ends.


@pytest.fixture(scope="module")
def make_pair(data):
    """Make jobs on examples in memory and on disk."""

    def make(folder, **options):
        return [
            jobs.make(each, folder / name, batch_size=BATCH, **options)
            for name, each in zip(("resident", "streamed"), data, strict=True)
        ]

    return make


def rows(folder):
    found = results.read_rows(folder / results.CURVES)
    return [
        {key: value for key, value in row.items() if key != "seconds"} for row in found
    ]


def assert_ended_alike(resident, streamed):
    same(loop.train(streamed), loop.train(resident))
    for ours, theirs in zip(streamed.folders, resident.folders, strict=True):
        assert rows(ours) == rows(theirs)


def test_a_run_that_was_stopped_within_an_epoch_goes_on_in_the_same_order(
    make_pair, tmp_path
):
    heard = []

    def interrupt(*numbers):
        heard.append(numbers)
        if len(heard) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    _, stopped = make_pair(tmp_path, heard=interrupt)
    with pytest.raises(interruption.Interrupted):
        loop.train(stopped)
    assert 0 < len(rows(stopped.folders[0])) < 3
    assert_ended_alike(*make_pair(tmp_path))


def test_runs_that_were_stopped_at_different_steps_go_on(make_pair, tmp_path):
    layout = mesh.Layout(2, 1, 2)
    for job in make_pair(tmp_path, seeds=(1,), epochs=1):
        loop.train(dataclasses.replace(job, folders=(job.folders[0] / "1",)))
    assert_ended_alike(*make_pair(tmp_path, seeds=(0, 1), layout=layout))


@pytest.mark.slow
def test_a_batch_that_grows_is_read_in_larger_steps(make_pair, tmp_path):
    batch = config.Batch(growth=4, growth_epochs=(1,))
    assert_ended_alike(*make_pair(tmp_path, batch=batch, epochs=3))


def readers():
    return [
        each
        for each in threading.enumerate()
        if "grain" in each.name and each.name.startswith("grain-prefetch")
    ]


@pytest.mark.parametrize(
    "limits", [{"steps": 13}, {"target": 0.0, "stop_at_target": True}]
)
def test_a_run_that_ends_early_leaves_no_reader_behind(make_pair, tmp_path, limits):
    _, streamed = make_pair(tmp_path, **limits)
    loop.train(streamed)
    assert not multiprocessing.active_children()
    assert not readers()
