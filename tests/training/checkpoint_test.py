import asyncio
import errno
import logging
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp.training import checkpoint, interruption


def state(value):
    return {"kernel": jnp.full((3, 4), value, jnp.float32), "step": jnp.int32(value)}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def saved(folder, *steps):
    with checkpoint.Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step))


def restored(folder, like=None):
    with checkpoint.Checkpoints(folder) as checkpoints:
        return checkpoints.restore(like or state(0))


def test_nothing_saved_is_nothing_restored(folder):
    assert restored(folder) is None


def test_the_newest_comes_back_with_its_values_and_types(folder):
    saved(folder, 1, 2, 3)
    found = restored(folder)
    np.testing.assert_array_equal(found["kernel"], np.full((3, 4), 3, np.float32))
    assert found["step"] == 3
    assert found["kernel"].dtype == jnp.float32


def test_two_checkpoints_are_kept(folder):
    saved(folder, 1, 2, 3)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["2", "3"]


def test_a_step_that_is_there_is_kept_as_it_is(folder):
    saved(folder, 1)
    with checkpoint.Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state(9))
    assert restored(folder)["step"] == 1


def test_values_with_another_digest_are_moved_aside_and_the_older_step_is_used(
    folder, monkeypatch
):
    """What Orbax gives back is compared with what was saved: here the digests on disk are of other values."""
    saved(folder, 1)
    honest = checkpoint._digests
    monkeypatch.setattr(checkpoint, "_digests", lambda _: honest(state(7)))
    saved(folder, 2)
    monkeypatch.setattr(checkpoint, "_digests", honest)
    assert restored(folder)["step"] == 1
    assert [
        path.name for path in (folder.parent / "checkpoints-damaged").iterdir()
    ] == ["2-0"]
    assert not (folder / "2").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "too many open files"),
        OSError(errno.EIO, "the disk does not answer"),
        OSError(errno.ESTALE, "the file server was away"),
        PermissionError("not allowed"),
        MemoryError("no memory"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no memory of the device"),
    ],
)
def test_a_whole_checkpoint_that_the_machine_cannot_read_now_stays(
    folder, monkeypatch, error
):
    saved(folder, 1)

    def refuse(*_, **__):
        raise error

    with checkpoint.Checkpoints(folder) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._manager, "restore", refuse)
            with pytest.raises(type(error)):
                checkpoints.restore(state(0))
        assert checkpoints.restore(state(0))["step"] == 1
    assert not (folder.parent / "checkpoints-damaged").exists()


def test_what_the_file_system_refuses_to_orbax_is_its_error_and_no_damage(
    folder, monkeypatch
):
    """The leaves are read and written by TensorStore, whose errors are ValueErrors that hold the system's number."""
    saved(folder, 1)

    def refusing(number):
        def refuse(*_, **__):
            raise ValueError(
                f"PERMISSION_DENIED: Failed to open [os_error_code='{number}']"
            )

        return refuse

    with checkpoint.Checkpoints(folder) as checkpoints:
        manager = checkpoints._manager
        with monkeypatch.context() as patch:
            patch.setattr(manager, "restore", refusing(errno.EACCES))
            with pytest.raises(PermissionError, match="Permission denied"):
                checkpoints.restore(state(0))
            patch.setattr(manager, "wait_until_finished", refusing(errno.ENOSPC))
            with pytest.raises(OSError, match="No space left on device"):
                checkpoints.wait()
        assert checkpoints.restore(state(0))["step"] == 1
        with monkeypatch.context() as patch:
            patch.setattr(manager, "restore", refusing(errno.ENOENT))
            assert checkpoints.restore(state(0)) is None
    assert (folder.parent / "checkpoints-damaged").exists()


def test_reads_that_go_on_after_orbax_gave_up_are_not_reported(
    folder, caplog, monkeypatch
):
    """It closes its loop at the first part that it cannot read: in some runs the threads of the others complained 70 times."""
    dropped = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda each: dropped.append(str(each.exc_value))
    )
    checkpoint._ignore_late_reads.cache_clear()
    saved(folder, 1)
    for part in (folder / "1" / "state").rglob("d/*"):
        os.truncate(part, 10)
    assert restored(folder) is None

    class Late:
        def __init__(self, words):
            self.words = words

        def __del__(self):
            raise RuntimeError(self.words)

    for words in ("Event loop is closed", "another"):
        Late(words)

    async def read(error):
        try:
            await asyncio.Future(loop=loop)
        finally:
            raise error

    loop = asyncio.new_event_loop()
    stop = interruption.Interrupted(signal.SIGTERM)
    for error in (RuntimeError("a part cannot be read"), stop):
        going_on = read(error)
        going_on.send(None)
        del going_on
    loop.close()
    assert dropped == ["another", "SIGTERM"]
    logger = logging.getLogger("asyncio")
    logger.error("Task exception was never retrieved\nfuture: ...")
    logger.error("another")
    said = [record.getMessage() for record in caplog.records]
    assert "cannot be read" in said[0]
    assert said[1].startswith("moved it to")
    assert said[2:] == ["another"]


def test_a_state_of_another_shape_is_not_taken(folder):
    saved(folder, 1)
    assert restored(folder, {"kernel": jnp.zeros((5, 5)), "step": jnp.int32(0)}) is None


def test_a_step_that_was_moved_aside_is_saved_again_though_newer_ones_are_there(folder):
    with checkpoint.Checkpoints(folder, None) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step))
        checkpoints.wait()
        for part in (folder / "2" / "state").rglob("d/*"):
            os.truncate(part, 10)
        assert checkpoints.restore_step(2, state(0)) is None
        checkpoints.save(2, state(2))
        checkpoints.wait()
        assert checkpoints.restore_step(2, state(0))["step"] == 2
