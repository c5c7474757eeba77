"""Checkpoints that are checked: Orbax writes them, a SHA-256 of every leaf tells whether they came back whole."""

import contextlib
import functools
import hashlib
import inspect
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp

from bsexp import results
from bsexp.training import interruption

_LOG = logging.getLogger(__name__)
# Errors of the file system that a damaged checkpoint has: files that are not there, or of another kind.
_OF_DAMAGE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
KEPT = 2  # the newest, and one to fall back on


class Checkpoints:
    """The checkpoints of one run, in a folder of its own.

    Orbax restores a flipped bit silently and takes a stray empty folder for its latest step; so a checkpoint
    counts only when every leaf has the digest that was saved with it, and one that does not is moved aside.
    """

    def __init__(
        self,
        folder: Path,
        kept: int | None = KEPT,
        processes: frozenset[int] | None = None,
    ) -> None:
        """Open a folder.

        Args:
            folder: of the checkpoints, which all the processes see.
            kept: how many stay, the newest ones; None: all of them.
            processes: that open it, save and restore together, each a part; None: this one alone.
        """
        self._folder = folder.absolute()
        self._kept = kept
        self._processes = processes or frozenset({jax.process_index()})
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        self._folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._kept,
            cleanup_tmp_directories=True,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=min(self._processes),
                active_processes=set(self._processes),
                # Two folders are saved at once, at steps of the same number.
                barrier_sync_key_prefix=str(self._folder),
            ),
        )
        return ocp.CheckpointManager(
            self._folder, options=options, item_names=("state", "digests")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with _errors_of_the_system(self._folder):
            self._manager.close()

    def save(self, step: int, state: Any) -> None:
        """Write the state in the background; a step that is there already is kept.

        Args:
            step: its number.
            state: arrays of this process, which are copied to the host, or of all the processes.
        """
        if step in self._manager.all_steps():
            return
        if len(self._processes) == 1:
            # A copy: on CPU device_get returns views of buffers that the next step donates while Orbax still writes.
            state = jax.tree.map(np.array, jax.device_get(state))
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            digests=ocp.args.JsonSave(_digests(jax.device_get(state))),
        )
        # Forced: one that was moved aside comes again after newer ones, which Orbax would leave out silently.
        with _errors_of_the_system(self._folder):
            self._manager.save(step, args=arguments, force=True)

    def wait(self) -> None:
        """Wait until what was saved is on disk; OSError when the disk is full."""
        with _errors_of_the_system(self._folder):
            self._manager.wait_until_finished()

    def restore(self, like: Any) -> Any | None:
        """Return the newest whole state, shaped as ``like``, or None where there is none."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            state = self.restore_step(step, like)
            if state is not None:
                return state
        return None

    def restore_step(self, step: int, like: Any) -> Any | None:
        """Return the state of one step that is there, shaped as ``like``, or None where it is damaged."""
        state = self._restore_step(step, like)
        if state is None:
            self._move_aside(step)
        return state

    def _restore_step(self, step: int, like: Any) -> Any | None:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), digests=ocp.args.JsonRestore()
        )
        name = self._folder / str(step)
        _ignore_late_reads()
        try:
            with _errors_of_the_system(name):
                restored = self._manager.restore(step, args=arguments)
        except (
            Exception
        ) as error:  # each damage raises an error of another library's own
            if _may_pass(error):
                raise
            _LOG.warning(
                "checkpoint %s cannot be read (%s)", name, type(error).__name__
            )
            return None
        if _digests(jax.device_get(restored.state)) == restored.digests:
            return restored.state
        _LOG.warning("checkpoint %s does not have the digests it was saved with", name)
        return None

    def _move_aside(self, step: int) -> None:
        """Rename a damaged checkpoint, so that neither Orbax nor a later start takes it for a step."""
        self._manager.close()
        if jax.process_index() == min(self._processes):
            target = self._folder.with_name(f"{self._folder.name}-damaged")
            target.mkdir(exist_ok=True)
            number = len(list(target.iterdir()))
            (self._folder / str(step)).rename(target / f"{step}-{number}")
            _LOG.warning("moved it to %s", target)
        # The others must not take it for one that is there.
        ocp.multihost.sync_global_processes(
            f"{self._folder}: moved {step} aside", processes=set(self._processes)
        )
        self._manager = self._open()


def newest(folder: Path, like: Any) -> Any | None:
    """Return the newest whole state of a run, shaped as ``like``, or None where its folder has none."""
    with interruption.Deferred(), Checkpoints(folder / results.CHECKPOINTS) as found:
        return found.restore(like)


@functools.cache
def _ignore_late_reads() -> None:
    """From now on, say nothing of reads that go on after Orbax gave up.

    It does at the first part that cannot be read, and closes its loop; thousands of lines of tracebacks from the threads
    that read the other parts hid what is said of the checkpoint itself.
    """
    previous = sys.unraisablehook

    def report(unraisable: Any) -> None:
        error = unraisable.exc_value
        late = (
            inspect.iscoroutine(unraisable.object)
            or str(error) == "Event loop is closed"
        )
        # A request for a stop is no Exception and must be heard, wherever it was raised.
        if not (late and isinstance(error, Exception)):
            previous(unraisable)

    sys.unraisablehook = report
    logging.getLogger("asyncio").addFilter(
        lambda record: "exception was never retrieved" not in record.getMessage()
    )


@contextlib.contextmanager
def _errors_of_the_system(folder: Path) -> Iterator[None]:
    """Raise as OSError what reading and writing the leaves, which Orbax leaves to TensorStore, says as a ValueError."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        found = re.search(r"os_error_code='(\d+)'", str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(folder)) from error


def _may_pass(error: Exception) -> bool:
    """Say whether a checkpoint that cannot be read now may be whole: files too many, a disk that is away, no memory."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return "RESOURCE_EXHAUSTED" in str(error)
    return isinstance(error, OSError | MemoryError) and not isinstance(
        error, _OF_DAMAGE
    )


def _digests(state: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path): _digest(np.asarray(leaf)) for path, leaf in leaves
    }


def _digest(leaf: np.ndarray) -> str:
    content = hashlib.sha256(f"{leaf.dtype}{leaf.shape}".encode())
    content.update(np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()
