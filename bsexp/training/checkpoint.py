"""Checkpoints that are checked: Orbax writes them, a SHA-256 of every leaf tells whether they came back whole."""

import hashlib
import logging
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp

_LOG = logging.getLogger(__name__)
KEPT = 2  # the newest, and one to fall back on


class Checkpoints:
    """The checkpoints of one run, in a folder of its own.

    Orbax restores a flipped bit silently and takes a stray empty folder for its latest step; so a checkpoint
    counts only when every leaf has the digest that was saved with it, and one that does not is moved aside.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEPT, cleanup_tmp_directories=True
        )
        return ocp.CheckpointManager(
            self._folder, options=options, item_names=("state", "digests")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, step: int, state: Any) -> None:
        """Copy the state to the host and write it in the background; a step that is there already is kept."""
        if step in self._manager.all_steps():
            return
        # A copy: on CPU device_get returns views of buffers that the next step donates while Orbax still writes.
        host = jax.tree.map(np.array, jax.device_get(state))
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(host), digests=ocp.args.JsonSave(_digests(host))
        )
        self._manager.save(step, args=arguments)

    def wait(self) -> None:
        """Wait until what was saved is on disk; OSError when the disk is full."""
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> Any | None:
        """Return the newest whole state, shaped as ``like``, or None where there is none."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            state = self._restore_step(step, like)
            if state is not None:
                return state
            self._move_aside(step)
        return None

    def _restore_step(self, step: int, like: Any) -> Any | None:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), digests=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager.restore(step, args=arguments)
        except Exception as error:  # noqa: BLE001 - each damage raises an error of another library's own
            _LOG.warning(
                "checkpoint %s cannot be read (%s)",
                self._folder / str(step),
                type(error).__name__,
            )
            return None
        if _digests(jax.device_get(restored.state)) == restored.digests:
            return restored.state
        _LOG.warning(
            "checkpoint %s does not have the digests it was saved with",
            self._folder / str(step),
        )
        return None

    def _move_aside(self, step: int) -> None:
        """Rename a damaged checkpoint, so that neither Orbax nor a later start takes it for a step."""
        self._manager.close()
        target = self._folder.with_name(f"{self._folder.name}-damaged")
        target.mkdir(exist_ok=True)
        number = len(list(target.iterdir()))
        (self._folder / str(step)).rename(target / f"{step}-{number}")
        _LOG.warning("moved it to %s; going on from an older one", target)
        self._manager = self._open()


def _digests(state: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path): _digest(np.asarray(leaf)) for path, leaf in leaves
    }


def _digest(leaf: np.ndarray) -> str:
    content = hashlib.sha256(f"{leaf.dtype}{leaf.shape}".encode())
    content.update(np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()
