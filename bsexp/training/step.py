"""One update: the state of a run and the function that moves it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bsexp import models
from bsexp.training import conservative
from bsexp.training.division import Division
from bsexp.training.gradient import Batch, Gradient

Pytree = Any
# What a run's random keys are for; 0 is its start and 1 its data order.
DROPOUT, AUGMENTATION = 2, 3


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
    examples: jax.Array  # int32, examples seen
    parameters: Pytree
    statistics: Pytree  # batch norm's running averages
    optimizer: Pytree
    sums: Sums


class Recipe(NamedTuple):
    """What the runs of a cohort share, apart from data and devices.

    Attributes:
        model: the network.
        optimizer: how a gradient becomes an update.
        factor: examples seen -> factor on the learning rate.
        ascent: (parameters, gradient) -> where the gradient that counts is taken, for sharpness-aware minimisation;
            None: at the parameters.
        ascent_of_parts: whether each microbatch goes uphill by its own gradient, not all by that of the batch.
        proximal: how far the optimizer goes on one batch.
        counted: (forward pass, parameters, batch) -> the loss whose gradient counts, where it looks at perturbed inputs, and
            the pass of the clean ones, see `perturbed`; None: the mean cross-entropy.
        augment: (inputs [b, ...], keys [b]) -> inputs as they are seen this time; None: as they are.
        rolled: whether repeated work is a loop of the compiled program, not repeated code.
    """

    model: models.Model
    optimizer: Any
    factor: Callable[[jax.Array], jax.Array]
    ascent: Callable[[Pytree, Pytree], Pytree] | None
    ascent_of_parts: bool
    proximal: conservative.Proximal
    counted: Callable[[Any, Pytree, Batch], tuple[jax.Array, Any]] | None
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None
    rolled: bool


Step = Callable[[State, Batch], State]


def no_sums() -> Sums:
    """Return the sums over no example."""
    return Sums(
        jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    )


def init(recipe: Recipe, rates: dict[str, Any], seed: int) -> State:
    """Return the state before the first update: a pure function of the recipe, the rates and the seed."""
    parameters, statistics = recipe.model.init(
        jax.random.fold_in(jax.random.key(seed), 0)
    )
    return State(
        jnp.zeros((), jnp.int32),
        jnp.zeros((), jnp.int32),
        parameters,
        statistics,
        recipe.optimizer.init(parameters, rates),
        no_sums(),
    )


def order_key(seed: jax.typing.ArrayLike) -> jax.Array:
    """Return the key of the data order: independent of the start's, and the same for every batch size."""
    return jax.random.fold_in(jax.random.key(seed), 1)


def example_keys(
    seed: jax.Array, purpose: int, number: jax.Array, positions: jax.Array
) -> jax.Array:
    """Return a random key for each example of an update, shaped as their positions.

    They depend on (seed, purpose, number, position) alone, so that neither devices nor microbatches change what is
    drawn. For DROPOUT these are the update and the position in the batch; for AUGMENTATION the epoch and the place in
    its order, so that an example looks the same at every batch size.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), purpose), number)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, positions.ravel())
    return keys.reshape(positions.shape)


def make(recipe: Recipe, division: Division) -> Step:
    """Make the update x <- x + u(grad of the batch's mean cross-entropy).

    The mean is over all B examples, whatever the division; batch norm sees one ghost batch at a time, and its running
    averages move once an update, towards the average over the ghost batches.

    Returns:
        A function of the state and the batch to the next state. Where the division is over several devices or shards
        in order it is called inside the mesh's axis "data".
    """
    of_parts = recipe.ascent if recipe.ascent_of_parts else None
    compute = Gradient(recipe.model, recipe.counted, of_parts, division, recipe.rolled)
    descent = recipe._replace(ascent=None) if of_parts else recipe

    def step(state: State, batch: Batch) -> State:
        found = compute.find(state.parameters, state.statistics, batch)
        update, optimizer_state = next_update(
            descent,
            state,
            lambda x: compute.find(x, state.statistics, batch).gradient,
            found.gradient,
        )
        size = division.batch
        sums = Sums(
            state.sums.loss + found.losses.mean() * size,
            state.sums.correct + jnp.round(found.accuracy * size).astype(jnp.int32),
            state.sums.examples + size,
        )
        return State(
            state.step + 1,
            state.examples + size,
            optax.apply_updates(state.parameters, update),
            found.statistics,
            optimizer_state,
            sums,
        )

    return step


def next_update(
    recipe: Recipe,
    state: State,
    gradient_at: Callable[[Pytree], Pytree],
    gradient: Pytree,
) -> tuple[Pytree, Any]:
    """Return what a run adds to its parameters, and the state of its optimizer, for any loss, that of one batch.

    Args:
        recipe: what trains the run.
        state: of the run; of batch norm nothing is read.
        gradient_at: gradient of the loss as a function of the parameters.
        gradient: the same at the parameters of the state.
    """
    factor = recipe.factor(state.examples)

    def uphill(x: Pytree, plain: Pytree) -> Pytree:
        return plain if recipe.ascent is None else gradient_at(recipe.ascent(x, plain))

    def descend(gradient: Pytree, optimizer: Any, x: Pytree) -> tuple[Pytree, Any]:
        return recipe.optimizer.update(gradient, optimizer, x, factor)

    return conservative.update(
        recipe.proximal,
        state.parameters,
        uphill(state.parameters, gradient),
        lambda x: uphill(x, gradient_at(x)),
        descend,
        state.optimizer,
    )
