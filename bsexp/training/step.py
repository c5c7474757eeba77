"""One update: the state of a run and the function that moves it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bsexp import models


class Sums(NamedTuple):
    """Sums over the examples seen since the epoch began; divide by ``examples`` for the mean.

    They are part of the state, so that a run that was cut off in the middle of an epoch reports the same epoch.
    """

    loss: jax.Array  # float32, sum of the cross-entropy in nats
    correct: jax.Array  # int32
    examples: jax.Array  # int32


class State(NamedTuple):
    """Everything that one update changes."""

    step: jax.Array  # int32, updates done
    parameters: Any
    statistics: Any  # batch norm's running averages
    optimizer: Any
    sums: Sums


Step = Callable[[State, jax.Array, jax.Array], State]


def no_sums() -> Sums:
    """Return the sums over no example."""
    return Sums(
        jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    )


def init(
    model: models.Model, optimizer: optax.GradientTransformation, seed: int
) -> State:
    """Return the state before the first update: a pure function of the model, the optimizer and the seed."""
    parameters, statistics = model.init(jax.random.fold_in(jax.random.key(seed), 0))
    return State(
        jnp.zeros((), jnp.int32),
        parameters,
        statistics,
        optimizer.init(parameters),
        no_sums(),
    )


def order_key(seed: int) -> jax.Array:
    """Return the key of the data order: independent of the start's, and the same for every batch size."""
    return jax.random.fold_in(jax.random.key(seed), 1)


def make(model: models.Model, optimizer: optax.GradientTransformation) -> Step:
    """Make the update x <- x + u(grad of the batch's mean cross-entropy).

    Returns:
        A function of the state, inputs [B, ...] float32 and labels [B] int32, to the next state.
    """

    def loss(
        parameters: Any, statistics: Any, inputs: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, Any]:
        logits, statistics = model.train(parameters, statistics, inputs)
        mean = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return mean, (statistics, logits)

    def step(state: State, inputs: jax.Array, labels: jax.Array) -> State:
        gradient = jax.value_and_grad(loss, has_aux=True)
        (mean, (statistics, logits)), slope = gradient(
            state.parameters, state.statistics, inputs, labels
        )
        update, optimizer_state = optimizer.update(
            slope, state.optimizer, state.parameters
        )
        size = labels.shape[0]
        sums = Sums(
            state.sums.loss + mean * size,
            state.sums.correct
            + (logits.argmax(axis=-1) == labels).sum(dtype=jnp.int32),
            state.sums.examples + size,
        )
        parameters = optax.apply_updates(state.parameters, update)
        return State(state.step + 1, parameters, statistics, optimizer_state, sums)

    return step
