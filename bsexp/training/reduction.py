"""Averages over the shards of a microbatch: the parts that are computed apart, on devices or one beside the other."""

import dataclasses
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

Pytree = Any
DATA = "data"  # the mesh's axis along which a batch is split


@dataclasses.dataclass(frozen=True)
class Reduction:
    """How what the shards of a microbatch have found is averaged.

    Attributes:
        shards: S, equal parts of a microbatch, numbered in the order of its examples.
        devices: D, over which they lie, S / D consecutive ones on each.
        ordered: whether the shards are computed one after the other and summed in their order, so that the bits do not
            depend on D; no mean is taken over several of them before. S = D where they are not.
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

        Called by one shard, inside the axis "data"; where ordered, a group is one shard. The derivative is that of the
        sum of all shards' results, as with `jax.lax.pmean` under `jax.shard_map` without check_vma.
        """
        if group == 1:
            return value
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
