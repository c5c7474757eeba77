"""Averages over the shards of a microbatch: the parts that are computed apart, on devices or one beside the other."""

import dataclasses
import functools
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

Pytree = Any
DATA = "data"  # the mesh's axis along which a batch is split
SHARD = "shard"  # the shards that one device holds, mapped by vmap where their order is kept


@dataclasses.dataclass(frozen=True)
class Reduction:
    """How what the shards of a microbatch have found is averaged.

    Attributes:
        shards: S, equal parts of a microbatch, numbered in the order of its examples.
        devices: D, over which they lie, S / D consecutive ones on each.
        ordered: whether the shards are computed one by one and summed in their order, so that the bits do not
            depend on D. S = D where they are not.
    """

    shards: int
    devices: int
    ordered: bool

    @property
    def local(self) -> int:
        """Shards that one device holds."""
        return self.shards // self.devices

    def mean(self, value: jax.Array, group: int) -> jax.Array:
        """Average over the ``group`` consecutive shards to which this one belongs; differentiable.

        Called by one shard, inside the axes "data" and, where ordered, "shard". The derivative is that of the sum of
        all shards' results, as with `jax.lax.pmean` under `jax.shard_map` without check_vma.
        """
        if group == 1:
            return value
        if self.ordered:
            return _ordered_mean(value, self, group)
        groups = [
            list(range(first, first + group)) for first in range(0, self.devices, group)
        ]
        return jax.lax.pmean(value, DATA, axis_index_groups=groups)

    def total(self, found: Pytree) -> Pytree:
        """Average arrays [S / D, ...] over all shards, with one all-reduce of one long vector.

        Where ordered, an all-gather and a sum in the shards' order take its place.
        """
        if self.shards == 1:
            return jax.tree.map(lambda leaf: leaf[0], found)
        flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])(found)
        _, restore = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], found))
        if not self.ordered:
            return restore(jax.lax.pmean(flat[0], DATA))
        return restore(_in_order(self._gathered(flat)))

    def _gathered(self, local: jax.Array) -> jax.Array:
        """Return what all shards hold, [S, ...], from what those of this device hold."""
        if self.devices == 1:
            return local
        everywhere = jax.lax.all_gather(local, DATA)
        return everywhere.reshape(self.shards, *local.shape[1:])


def _in_order(values: jax.Array) -> jax.Array:
    """Average [n, ...] over the first axis, added up one after the other.

    A loop, because what stood beside the sum would be fused with it otherwise, and a product and a sum in one loop are
    rounded once: one device, which has no all-gather to part them, then gave other bits than two.
    """
    return jax.lax.fori_loop(
        1, len(values), lambda i, total: total + values[i], values[0]
    ) / len(values)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _ordered_mean(value: jax.Array, reduction: Reduction, group: int) -> jax.Array:
    number = jax.lax.axis_index(SHARD)
    if reduction.devices > 1:
        number += jax.lax.axis_index(DATA) * reduction.local
    everything = reduction._gathered(jax.lax.all_gather(value, SHARD))  # noqa: SLF001 - a method could not carry the rule for its derivative
    first = number // group * group
    return _in_order(jax.lax.dynamic_slice_in_dim(everything, first, group))


def _forward(
    value: jax.Array, reduction: Reduction, group: int
) -> tuple[jax.Array, None]:
    return _ordered_mean(value, reduction, group), None


def _backward(
    reduction: Reduction, group: int, _: None, cotangent: jax.Array
) -> tuple[jax.Array]:
    # An average is symmetric; a transposed all-gather would add up in an order of its own.
    return (_ordered_mean(cotangent, reduction, group),)


_ordered_mean.defvjp(_forward, _backward)
