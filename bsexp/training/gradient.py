"""The gradient of a batch, put together from the parts into which it is divided, with what else its examples give."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bsexp import models
from bsexp.models.normalisation import Ghost
from bsexp.training.division import Division

Pytree = Any


class Batch(NamedTuple):
    """The part of a batch that one device holds, [microbatches, local shards, examples of a shard, ...]."""

    inputs: jax.Array  # float32 [..., H, W, C], or features [..., D]
    labels: jax.Array  # int32 [...]
    keys: jax.Array  # random keys [...], one for each example


class Found(NamedTuple):
    """What the examples of a shard give, or the mean over several shards.

    The losses are those of each example: summed up in a shard their bits would depend on how many shards lie beside it.
    """

    gradient: Pytree
    statistics: Pytree
    losses: jax.Array
    accuracy: jax.Array


@dataclasses.dataclass(frozen=True)
class Gradient:
    """How the gradient of a batch's loss is computed.

    The loss is the mean over all B examples, whatever the division; batch norm sees one ghost batch at a time.

    Attributes:
        model: the network.
        counted: (forward pass, parameters, batch) -> the loss whose gradient counts, where it looks at perturbed inputs, and
            the pass of the clean ones, see `perturbed`; None: the mean cross-entropy.
        ascent: (parameters, gradient) -> where the gradient that counts is taken, by each microbatch's own; None: at the
            parameters. The statistics, losses and accuracy are those at the parameters.
        division: of the batch. Where it is over several devices or shards in order, `find` is called inside the mesh's
            axis "data".
        rolled: whether several microbatches are a loop of the compiled program, not repeated code.
    """

    model: models.Model
    counted: Callable[[Any, Pytree, Batch], tuple[jax.Array, Any]] | None
    ascent: Callable[[Pytree, Pytree], Pytree] | None
    division: Division
    rolled: bool

    def find(self, parameters: Pytree, statistics: Pytree, batch: Batch) -> Found:
        """Return what a batch gives at the parameters, with batch norm's running averages moved by it once."""

        def found(i: int | jax.Array) -> Found:
            part = jax.tree.map(lambda leaf: leaf[i], batch)
            here = self._of_microbatch(parameters, statistics, part)
            if self.ascent is None:
                return here
            plain = self.division.reduction.total(here.gradient)
            above = self.ascent(parameters, plain)
            uphill = self._of_microbatch(above, statistics, part)
            return here._replace(gradient=uphill.gradient)

        number = self.division.microbatches
        mean = found(0) if number == 1 else _mean(found, number, rolled=self.rolled)
        return self.division.reduction.total(mean)

    def _of_microbatch(
        self, parameters: Pytree, statistics: Pytree, shards: Batch
    ) -> Found:
        """Return what each shard of a microbatch gives, with a leading axis."""

        def found(i: int | jax.Array) -> Found:
            shard = jax.tree.map(lambda leaf: leaf[i], shards)
            return self._of_shard(parameters, statistics, shard)

        reduction = self.division.reduction
        if not reduction.ordered:
            return jax.tree.map(lambda leaf: leaf[None], found(0))
        return _one_by_one(found, reduction.local)

    def _of_shard(self, parameters: Pytree, statistics: Pytree, shard: Batch) -> Found:
        gradient, found = jax.grad(self._loss, has_aux=True)(
            parameters, statistics, shard
        )
        return Found(gradient, *found)

    def _loss(
        self, parameters: Pytree, statistics: Pytree, shard: Batch
    ) -> tuple[jax.Array, tuple[Pytree, jax.Array, jax.Array]]:
        """Return the loss of a shard whose gradient counts, and of its examples as they are: statistics, losses, accuracy."""
        ghost = Ghost(self.division.ghost_here, self._mean_of_a_ghost)

        def forward(parameters: Pytree, inputs: jax.Array) -> tuple[jax.Array, Pytree]:
            return self.model.train(parameters, statistics, inputs, shard.keys, ghost)

        counted = None
        if self.counted is None:
            logits, moved = forward(parameters, shard.inputs)
        else:
            counted, (logits, moved) = self.counted(forward, parameters, shard)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, shard.labels)
        accuracy = (logits.argmax(axis=-1) == shard.labels).mean()
        return losses.mean() if counted is None else counted, (moved, losses, accuracy)

    def _mean_of_a_ghost(self, value: jax.Array) -> jax.Array:
        return self.division.reduction.mean(value, self.division.shards_of_a_ghost)


def _one_by_one(found: Callable[[jax.Array], Found], number: int) -> Found:
    """Return found(0) ... found(number - 1) with a leading axis, each computed by the same instructions.

    NOTE: a loop whose end the compiler does not know. One by one and in a program of their own, the shards are computed by
    the same instructions however many lie here; side by side (vmap) the compiler fuses and vectorises them by their
    number, and F1 had other bits on one device than on two.
    """
    end = jax.lax.optimization_barrier(jnp.int32(number))

    def added(i: jax.Array, all_found: Found) -> Found:
        return jax.tree.map(lambda leaf, one: leaf.at[i].set(one), all_found, found(i))

    return jax.lax.fori_loop(0, end, added, _zeros(found, number))


def _mean(
    found: Callable[[int | jax.Array], Found], number: int, *, rolled: bool
) -> Found:
    """Average found(0) ... found(number - 1)."""

    def added(i: int | jax.Array, total: Found) -> Found:
        return jax.tree.map(jnp.add, total, found(i))

    if rolled:
        total = jax.lax.fori_loop(0, number, added, _zeros(found))
    else:
        total = found(0)
        for i in range(1, number):
            total = added(i, total)
    return jax.tree.map(lambda leaf: leaf / number, total)


def _zeros(found: Callable[[jax.Array], Found], *axes: int) -> Found:
    """Return zeros shaped as what ``found`` returns, with further axes before its own."""
    return jax.tree.map(
        lambda leaf: jnp.zeros((*axes, *leaf.shape), leaf.dtype),
        jax.eval_shape(found, jnp.int32(0)),
    )
