"""Loss and accuracy over a whole split, exact whatever the chunk size."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bsexp import models
from bsexp.data import batches

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
        parts = jax.device_get(self.parts)
        loss = sum(float(loss) for loss, _ in parts)
        correct = sum(int(correct) for _, correct in parts)
        return Evaluation(loss / self.examples, correct / self.examples)


@functools.cache  # training and probes evaluate with one compiled program
def make_forward(model: models.Model, mode: str) -> Forward:
    """Make the program (parameters, statistics, images, labels) -> sums of loss and of correct answers."""

    def forward(
        parameters: Any, statistics: Any, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        logits = model.apply(parameters, statistics, batches.scale(images), mode)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.sum(), (logits.argmax(axis=-1) == labels).sum(dtype=jnp.int32)

    return jax.jit(forward)


def dispatch(
    forward: Forward, parameters: Any, statistics: Any, chunks: list[Any]
) -> Pending:
    """Hand an evaluation to the device, chunk by chunk, without waiting for it.

    Args:
        forward: from `make_forward`.
        parameters: of the network.
        statistics: of its batch norm.
        chunks: (images, labels) pairs that make up the split.
    """
    parts = [
        forward(parameters, statistics, images, labels) for images, labels in chunks
    ]
    return Pending(parts, sum(len(labels) for _, labels in chunks))
