"""One update: the state of a run and the function that moves it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bsexp import models
from bsexp.models.normalisation import Ghost
from bsexp.training import conservative
from bsexp.training.division import Division

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


class Batch(NamedTuple):
    """The part of a batch that one device holds, [microbatches, local shards, examples of a shard, ...]."""

    inputs: jax.Array  # float32 [..., H, W, C]
    labels: jax.Array  # int32 [...]
    keys: jax.Array  # random keys [...], one for each example


class Recipe(NamedTuple):
    """What the runs of a cohort share, apart from data and devices.

    Attributes:
        model: the network.
        optimizer: how a gradient becomes an update.
        factor: examples seen -> factor on the learning rate.
        ascent: (parameters, gradient) -> where the gradient that counts is taken, for sharpness-aware minimisation;
            None: at the parameters.
        proximal: how far the optimizer goes on one batch.
        counted: (function of parameters and inputs to logits, parameters, batch) -> the loss whose gradient counts, where
            it looks at perturbed inputs; None: the mean cross-entropy.
        augment: (inputs [b, ...], keys [b]) -> inputs as they are seen this time; None: as they are.
        rolled: whether repeated work is a loop of the compiled program, not repeated code.
    """

    model: models.Model
    optimizer: Any
    factor: Callable[[jax.Array], jax.Array]
    ascent: Callable[[Pytree, Pytree], Pytree] | None
    proximal: conservative.Proximal
    counted: Callable[[Any, Pytree, Batch], jax.Array] | None
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None
    rolled: bool


class _Found(NamedTuple):
    """What the examples of a shard give, or the mean over several shards.

    The losses are those of each example: summed up in a shard their bits would depend on how many shards lie beside it.
    """

    gradient: Pytree
    statistics: Pytree
    losses: jax.Array
    accuracy: jax.Array


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
    seed: jax.Array, purpose: int, update: jax.Array, positions: jax.Array
) -> jax.Array:
    """Return a random key for each example of an update, shaped as their positions in the batch.

    They depend on (seed, purpose, update, position) alone, so that neither devices nor microbatches change what is
    drawn. The purpose is DROPOUT or AUGMENTATION.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), purpose), update)
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
    reduction = division.reduction
    ghost = Ghost(
        division.ghost_here,
        lambda value: reduction.mean(value, division.shards_of_a_ghost),
    )

    shard_loss = functools.partial(_shard_loss, recipe, ghost)

    def of_shard(parameters: Pytree, statistics: Pytree, shard: Batch) -> _Found:
        gradient, found = jax.grad(shard_loss, has_aux=True)(
            parameters, statistics, shard
        )
        return _Found(gradient, *found)

    def of_microbatch(parameters: Pytree, statistics: Pytree, shards: Batch) -> _Found:
        """Return what each shard finds, with a leading axis."""
        if not reduction.ordered:
            one = of_shard(parameters, statistics, jax.tree.map(_first, shards))
            return jax.tree.map(lambda leaf: leaf[None], one)
        # NOTE: a loop whose end the compiler does not know. One by one and in a program of their own, the shards are
        # computed by the same instructions however many lie here; side by side (vmap) the compiler fuses and vectorises
        # them by their number, and F1 had other bits on one device than on two.
        number = jax.lax.optimization_barrier(jnp.int32(reduction.local))

        def found(i: jax.Array) -> _Found:
            shard = jax.tree.map(lambda leaf: leaf[i], shards)
            return of_shard(parameters, statistics, shard)

        def added(i: jax.Array, all_found: _Found) -> _Found:
            return jax.tree.map(
                lambda leaf, one: leaf.at[i].set(one), all_found, found(i)
            )

        return jax.lax.fori_loop(0, number, added, _zeros(found, reduction.local))

    def of_batch(parameters: Pytree, statistics: Pytree, batch: Batch) -> _Found:
        def found(i: int | jax.Array) -> _Found:
            part = jax.tree.map(lambda leaf: leaf[i], batch)
            return of_microbatch(parameters, statistics, part)

        number = division.microbatches
        one = number == 1
        mean = found(0) if one else _mean(found, number, rolled=recipe.rolled)
        return reduction.total(mean)

    def step(state: State, batch: Batch) -> State:
        found = of_batch(state.parameters, state.statistics, batch)
        update, optimizer_state = next_update(
            recipe,
            state,
            lambda x: of_batch(x, state.statistics, batch).gradient,
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


def _shard_loss(
    recipe: Recipe, ghost: Ghost, parameters: Pytree, statistics: Pytree, shard: Batch
) -> tuple[jax.Array, tuple[Pytree, jax.Array, jax.Array]]:
    """Return the loss of a shard whose gradient counts, and of its examples as they are: statistics, losses, accuracy."""

    def trained(parameters: Pytree, inputs: jax.Array) -> tuple[jax.Array, Pytree]:
        return recipe.model.train(parameters, statistics, inputs, shard.keys, ghost)

    def predict(parameters: Pytree, inputs: jax.Array) -> jax.Array:
        return trained(parameters, inputs)[0]

    logits, moved = trained(parameters, shard.inputs)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, shard.labels)
    accuracy = (logits.argmax(axis=-1) == shard.labels).mean()
    counted = losses.mean()
    if recipe.counted is not None:
        counted = recipe.counted(predict, parameters, shard)
    return counted, (moved, losses, accuracy)


def next_update(
    recipe: Recipe,
    state: State,
    gradient_at: Callable[[Pytree], Pytree],
    gradient: Pytree,
) -> tuple[Pytree, Any]:
    """Return what a run adds to its parameters, and the state of its optimizer, for any loss.

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


def _first(leaf: jax.Array) -> jax.Array:
    return leaf[0]


def _zeros(found: Callable[[jax.Array], _Found], *axes: int) -> _Found:
    """Return zeros shaped as what ``found`` returns, with further axes before its own."""
    return jax.tree.map(
        lambda leaf: jnp.zeros((*axes, *leaf.shape), leaf.dtype),
        jax.eval_shape(found, jnp.int32(0)),
    )


def _mean(
    found: Callable[[int | jax.Array], _Found], number: int, *, rolled: bool
) -> _Found:
    """Average found(0) ... found(number - 1)."""

    def added(i: int | jax.Array, total: _Found) -> _Found:
        return jax.tree.map(jnp.add, total, found(i))

    if rolled:
        total = jax.lax.fori_loop(0, number, added, _zeros(found))
    else:
        total = found(0)
        for i in range(1, number):
            total = added(i, total)
    return jax.tree.map(lambda leaf: leaf / number, total)
