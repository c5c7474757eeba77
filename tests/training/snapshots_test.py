"""States kept along training are those with which shorter runs end, whatever happens on the way."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

from bsexp import results
from bsexp.training import interruption, loop, mesh, snapshots


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def keeping(make_job):
    """Jobs whose states after epochs 1 and 3 are kept."""

    def make(folder, **options):
        return dataclasses.replace(make_job(folder, **options), kept=(1, 3))

    return make


@pytest.fixture(scope="module")
def ends(make_job, tmp_path_factory):
    """The ends of runs of one epoch and of three that keep nothing."""
    root = tmp_path_factory.mktemp("ends")
    return {
        epochs: loop.train(make_job(root / str(epochs), epochs=epochs))[0]
        for epochs in (1, 3)
    }


def assert_kept(job, ends, number=0):
    folder = job.folders[number]
    assert results.kept_epochs(folder) == [1, 3]
    for epoch, end in ends.items():
        state = snapshots.restore(folder, epoch, loop.start(job, number))
        same(state, end)


def test_a_snapshot_is_the_end_of_a_shorter_run_and_changes_nothing_in_the_longer(
    keeping, tmp_path, ends
):
    job = keeping(tmp_path / "run")
    (end,) = loop.train(job)
    same(end, ends[3])
    assert_kept(job, ends)


def test_epoch_0_is_the_start_and_needs_no_snapshot(keeping, tmp_path):
    job = keeping(tmp_path / "run")
    fresh = loop.start(job, 0)
    same(snapshots.restore(job.folders[0], 0, fresh), fresh)


def test_where_no_epoch_is_chosen_there_is_no_folder(make_job, tmp_path):
    job = make_job(tmp_path / "run", epochs=1)
    loop.train(job)
    assert sorted(path.name for path in job.folders[0].iterdir()) == [
        "checkpoints",
        "metrics.jsonl",
    ]
    assert snapshots.restore(job.folders[0], 1, loop.start(job, 0)) is None
    assert not (job.folders[0] / "snapshots").exists()


def test_each_run_of_a_cohort_keeps_its_own(keeping, make_job, tmp_path, ends):
    job = keeping(tmp_path, seeds=(0, 1), layout=mesh.Layout(2, 1, 2))
    loop.train(job)
    other = make_job(tmp_path / "other", seeds=(1,), epochs=1)
    (alone,) = loop.train(other)
    kept = [
        snapshots.restore(job.folders[i], 1, loop.start(job, i)).parameters
        for i in range(2)
    ]
    for found, end in zip(kept, (ends[1], alone), strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
            found,
            end.parameters,
        )
    assert results.kept_epochs(job.folders[1]) == [1, 3]


@pytest.mark.parametrize("portions", [2, 4, 6, 12])
def test_a_run_that_was_interrupted_keeps_the_same_states(
    keeping, tmp_path, ends, portions
):
    """Four portions an epoch: before the first snapshot, at the end of its epoch, after it, and at the end."""
    heard = []

    def interrupt(*numbers):
        heard.append(numbers)
        if len(heard) == portions:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(interruption.Interrupted):
        loop.train(keeping(tmp_path / "run", heard=interrupt))
    job = keeping(tmp_path / "run")
    (end,) = loop.train(job)
    same(end, ends[3])
    assert_kept(job, ends)


def test_a_snapshot_is_on_disk_before_a_checkpoint_of_its_step(
    keeping, tmp_path, monkeypatch
):
    """A process killed between the two makes the snapshot again, since the checkpoint is not there either."""
    job = keeping(tmp_path / "run", epochs=1)
    seen = []
    saved = loop.checkpoint.Checkpoints.save

    def save(self, number, state):
        if self._folder.name == "checkpoints":
            seen.append((number, results.kept_epochs(job.folders[0])))
        saved(self, number, state)

    monkeypatch.setattr(loop.checkpoint.Checkpoints, "save", save)
    loop.train(job)
    assert seen[0] == (15, [1])


def test_a_damaged_snapshot_is_moved_aside_and_not_measured(keeping, tmp_path):
    job = keeping(tmp_path / "run", epochs=1)
    loop.train(job)
    folder = job.folders[0]
    file = max((folder / "snapshots" / "1").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert snapshots.restore(folder, 1, loop.start(job, 0)) is None
    assert results.kept_epochs(folder) == []
    assert (folder / "snapshots-damaged").is_dir()


def test_a_run_that_ends_early_keeps_the_epoch_at_which_it_ended(keeping, tmp_path):
    job = keeping(
        tmp_path / "run",
        target=0.01,
        target_metric="test_accuracy",
        stop_at_target=True,
    )
    (end,) = loop.train(job)
    assert int(end.step) == 15
    assert results.kept_epochs(job.folders[0]) == [1]
    same(snapshots.restore(job.folders[0], 1, loop.start(job, 0)), end)
