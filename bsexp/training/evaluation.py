"""Loss and accuracy over a whole split, exact whatever the chunk size."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bsexp import models
from bsexp.data import batches
from bsexp.training import engine, step
from bsexp.training.reduction import DATA

Forward = Callable[..., tuple[jax.Array, jax.Array]]


class Evaluation(NamedTuple):
    """Mean cross-entropy in nats and accuracy as a fraction, over all examples of a split."""

    loss: float
    accuracy: float


class Pending(NamedTuple):
    """An evaluation that the device may still be working on."""

    parts: list[
        tuple[jax.Array, jax.Array]
    ]  # per chunk: sum of losses, correct answers
    examples: int

    def read(self) -> Evaluation:
        """Wait for the device and return the means."""
        return _means(jax.device_get(self.parts), self.examples)


def _means(parts: list[tuple[Any, Any]], examples: int) -> Evaluation:
    loss = sum(float(loss) for loss, _ in parts)
    correct = sum(int(correct) for _, correct in parts)
    return Evaluation(loss / examples, correct / examples)


@functools.cache  # equal arguments share one compiled program
def make_forward(model: models.Model, mode: str) -> Forward:
    """Make the program (parameters, statistics, images, labels) -> sums of loss and of correct answers."""

    def forward(
        parameters: Any, statistics: Any, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        losses, correct = _each(model, mode, parameters, statistics, images, labels)
        return losses.sum(), correct.sum(dtype=jnp.int32)

    return jax.jit(forward)


def _each(
    model: models.Model,
    mode: str,
    parameters: Any,
    statistics: Any,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    logits = model.apply(parameters, statistics, batches.scale(images), mode)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    # The largest of numbers that are none is the first class.
    return losses, (logits.argmax(axis=-1) == labels) & jnp.isfinite(losses)


def dispatch(
    forward: Forward, parameters: Any, statistics: Any, chunks: Iterable[Any]
) -> Pending:
    """Hand an evaluation to the device, chunk by chunk, without waiting for it.

    Args:
        forward: from `make_forward`.
        parameters: of the network.
        statistics: of its batch norm.
        chunks: (images, labels) pairs that make up the split.
    """
    parts, examples = [], 0
    for images, labels in chunks:
        parts.append(forward(parameters, statistics, images, labels))
        examples += len(labels)
    return Pending(parts, examples)


class CohortPending(NamedTuple):
    """The evaluations of a cohort that the devices may still be working on."""

    # per chunk: waits for every member's sum of losses and correct answers
    parts: list[Callable[[], list[tuple[Any, Any]]]]
    examples: int

    def read(self) -> list[Evaluation]:
        """Wait for the devices and return every member's means."""
        parts = [wait() for wait in self.parts]
        return [
            _means([part[member] for part in parts], self.examples)
            for member in range(len(parts[0]))
        ]


def read(pending: dict[str, CohortPending]) -> dict[str, list[Evaluation]]:
    """Wait for the evaluations of several splits, by name."""
    return {name: each.read() for name, each in pending.items()}


class HeldOut(NamedTuple):
    """A split on every device of a mesh.

    Attributes:
        chunks: (images, labels, which are real), each padded to a multiple of the mesh's columns.
        examples: real ones in all.
    """

    chunks: list[Any]
    examples: int


def place(
    mesh_engine: engine.Engine, images: np.ndarray, labels: np.ndarray, size: int
) -> HeldOut:
    """Place a split on a mesh, in chunks of ``size`` examples."""
    devices = mesh_engine.mesh.shape[DATA]
    chunks = [
        mesh_engine.everywhere(
            _padded(images[i : i + size], labels[i : i + size], devices)
        )
        for i in range(0, len(labels), size)
    ]
    return HeldOut(chunks, len(labels))


@functools.cache  # the runs of all shapes, and all splits, share one compiled program
def _make_cohort_forward(
    mesh_engine: engine.Engine, model: models.Model
) -> engine.Program:
    """Make the program (states, chunk) -> sums of loss and of correct answers; a mesh's columns share the examples."""
    devices = mesh_engine.mesh.shape[DATA]

    def forward(
        state: step.State, chunk: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array]]:
        images, labels, valid = (own(array, devices) for array in chunk)
        losses, right = _each(
            model, "running", state.parameters, state.statistics, images, labels
        )
        sums = (
            jnp.where(valid, losses, 0).sum(),
            (right & valid).sum(dtype=jnp.int32),
        )
        return (jax.lax.psum(sums, DATA) if devices > 1 else sums,)

    return mesh_engine.program(
        engine.by_member(forward, shared=1), spread=1, donate=False
    )


def dispatch_cohort(
    mesh_engine: engine.Engine, model: models.Model, held_out: HeldOut, state: Any
) -> CohortPending:
    """Hand the evaluation of all members to the devices, without waiting for it; ``state`` is spread over them."""
    forward = _make_cohort_forward(mesh_engine, model)
    parts = [
        mesh_engine.reading(part)
        for chunk in held_out.chunks
        for part in forward(state, chunk)
    ]
    return CohortPending(parts, held_out.examples)


def _padded(
    images: np.ndarray, labels: np.ndarray, devices: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Append copies of the first example up to a multiple of the devices, and say which are real."""
    number = -(-len(labels) // devices) * devices
    places = np.arange(number)
    valid = places < len(labels)
    places = np.where(valid, places, 0)
    return images[places], labels[places].astype(np.int32), valid


def own(array: jax.Array, devices: int) -> jax.Array:
    """Return the share of this device."""
    if devices == 1:
        return array
    size = len(array) // devices
    return jax.lax.dynamic_slice_in_dim(array, jax.lax.axis_index(DATA) * size, size)
