"""The training loop: one run from its start, or from its newest whole checkpoint, to its end."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bsexp import config, models, results
from bsexp.data import batches
from bsexp.training import checkpoint, engine, evaluation, interruption, step


class MissingWeightsError(RuntimeError):
    """A run that was trained to its end has no checkpoint of it any more."""


_order_of = jax.jit(batches.epoch_order, static_argnums=2)


@dataclasses.dataclass(frozen=True)
class Job:
    """What one run needs; all but the seed and the folder is shared by the runs of a group.

    Attributes:
        run: the resolved configuration.
        model: the network.
        optimizer: how a gradient becomes an update.
        chunk: the compiled program of `engine.make_chunk`.
        forward: the compiled evaluation, in mode running.
        images: uint8 [N, H, W, C], on the device.
        labels: int32 [N], on the device.
        test: the test split as chunks of (images, labels).
        folder: the run's folder.
        heard: told of each portion: its examples, examples/s, mean loss and accuracy of the epoch so far.
    """

    run: config.Run
    model: models.Model
    optimizer: optax.GradientTransformation
    chunk: engine.Chunk
    forward: evaluation.Forward
    images: jax.Array
    labels: jax.Array
    test: list[Any]
    folder: Path
    heard: Callable[[int, float, float, float], None]


class _Portion(NamedTuple):
    """What was dispatched last: read only after the next dispatch, so that the device never waits for the host."""

    epoch: int
    last: int  # steps of the epoch done after it
    size: int  # examples in it
    sums: step.Sums
    test: evaluation.Pending | None  # where the portion ends its epoch


def start(job: Job) -> step.State:
    """Return the state before the first update."""
    return step.init(job.model, job.optimizer, job.run.seed)


def restore(job: Job) -> step.State:
    """Return the last state of a run that was trained to its end.

    Raises:
        MissingWeightsError: its last checkpoint is not there, or damaged.
    """
    steps = batches.steps_per_epoch(len(job.labels), job.run.batch_size)
    with (
        interruption.Deferred(),
        checkpoint.Checkpoints(job.folder / "checkpoints") as checkpoints,
    ):
        state = checkpoints.restore(start(job))
    if state is None or int(state.step) != steps * job.run.base.train.epochs:
        raise MissingWeightsError(
            f"{job.folder} has no whole checkpoint of its last step"
        )
    return state


def train(job: Job) -> step.State:
    """Train one run to its end and return its last state.

    The numbers are a pure function of (configuration, seed): a run that was killed and started again ends with the
    same bits, since batches depend on (seed, epoch, step) alone and the state carries everything else.

    Raises:
        interruption.Interrupted: SIGINT or SIGTERM came; the state is saved.
        FloatingPointError: the training loss is not finite.
    """
    train_config, size = job.run.base.train, job.run.batch_size
    steps = batches.steps_per_epoch(len(job.labels), size)
    order_key = step.order_key(job.run.seed)
    with (
        # NOTE: outermost, so that no signal cuts off a checkpoint that is being closed.
        interruption.Deferred() as stop,
        checkpoint.Checkpoints(job.folder / "checkpoints") as checkpoints,
    ):
        fresh = start(job)
        state = checkpoints.restore(fresh) or fresh
        done = int(state.step)
        log = _Log(job, steps, done // steps)
        for epoch in range(done // steps, train_config.epochs):
            order = _order_of(order_key, epoch, len(job.labels))
            for first in range(
                done - epoch * steps, steps, train_config.steps_per_dispatch
            ):
                last = min(first + train_config.steps_per_dispatch, steps)
                state, sums = job.chunk(
                    state,
                    job.images,
                    job.labels,
                    order,
                    jnp.int32(first),
                    jnp.int32(last),
                )
                test = None
                if last == steps:
                    test = evaluation.dispatch(
                        job.forward, state.parameters, state.statistics, job.test
                    )
                log.read_previous(
                    _Portion(epoch, last, (last - first) * size, sums, test)
                )
                if stop.number is not None:
                    log.read_previous(None)
                    checkpoints.save(epoch * steps + last, state)
                    checkpoints.wait()
                    raise interruption.Interrupted(stop.number)
            done = (epoch + 1) * steps
            if (
                epoch + 1
            ) % train_config.checkpoint_every == 0 or epoch + 1 == train_config.epochs:
                # NOTE: the epoch's row is on disk before its checkpoint, so that no resumed run lacks a row.
                log.read_previous(None)
                checkpoints.save(done, state)
        checkpoints.wait()
    if stop.number is not None:  # it came after the last portion was dispatched
        raise interruption.Interrupted(stop.number)
    return state


class _Log:
    """Writes metrics.jsonl one portion late."""

    def __init__(self, job: Job, steps: int, epochs_done: int) -> None:
        self._job = job
        self._steps = steps
        self._file = job.folder / "metrics.jsonl"
        kept = [
            row for row in results.read_rows(self._file) if row["epoch"] <= epochs_done
        ]
        results.write_rows(self._file, kept)
        self._read = time.perf_counter()
        self._began = self._read - (kept[-1]["seconds"] if kept else 0.0)
        self._previous: _Portion | None = None

    def read_previous(self, dispatched: _Portion | None) -> None:
        """Read what was dispatched before, and keep what was dispatched now for the next call."""
        portion, self._previous = self._previous, dispatched
        if portion is None:
            return
        sums = jax.device_get(portion.sums)
        loss, accuracy = (
            float(sums.loss / sums.examples),
            float(sums.correct / sums.examples),
        )
        now = time.perf_counter()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {loss} in epoch {portion.epoch + 1}: try a smaller config.optimizer.learning_rate"
            )
        self._job.heard(portion.size, portion.size / (now - self._read), loss, accuracy)
        self._read = now
        if portion.test is None:
            return
        test = portion.test.read()
        step_number = portion.epoch * self._steps + portion.last
        row = {
            "epoch": portion.epoch + 1,
            "step": step_number,
            "examples": step_number * self._job.run.batch_size,
            "seconds": round(time.perf_counter() - self._began, 3),
            "train_loss": loss,
            "train_accuracy": accuracy,
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
        }
        results.append_row(self._file, row)
