"""Weighted means over chunks of a data set: on one device, or with the chunks spread over the devices of a mesh."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bsexp.curvature.accumulation import ACCUMULATIONS, Sum

Pytree = Any


class Spread(NamedTuple):
    """Chunks spread over devices: in each round every device has one chunk, of a size that all share.

    Attributes:
        rounds: pytrees of arrays [D, n, ...], split over D devices along their first axis.
        counts: for each round int [D], the examples that count: n, or 0 where a device has nothing new to do.
        firsts: for each round int [D], the number of each chunk's first example in the data set.
        mesh: the devices.
        axis: the axis of the mesh over which the examples are split.
    """

    rounds: list[Pytree]
    counts: list[np.ndarray]
    firsts: list[np.ndarray]
    mesh: Mesh
    axis: str


def spread(chunks: list[Pytree], mesh: Mesh, axis: str = "data") -> Spread:
    """Deal chunks out to the devices along one axis of a mesh; along the others they are repeated.

    The chunks stay what they are, so the numbers do not depend on the number of devices but for the order of a sum.

    Args:
        chunks: from `operator.split`.
        mesh: a mesh of devices.
        axis: the axis that splits the examples.

    Raises:
        ValueError: the mesh has no such axis.
    """
    if axis not in mesh.axis_names:
        raise ValueError(f"axis={axis!r}: the mesh has {', '.join(mesh.axis_names)}")
    devices = mesh.shape[axis]
    by_size: dict[int, list[tuple[int, Pytree]]] = {}
    for first, chunk in zip(_firsts(chunks), chunks, strict=True):
        by_size.setdefault(count(chunk), []).append((first, chunk))
    sharding = NamedSharding(mesh, PartitionSpec(axis))
    rounds, counts, firsts = [], [], []
    for size, equal in by_size.items():
        for begin in range(0, len(equal), devices):
            dealt = equal[begin : begin + devices]
            idle = devices - len(dealt)
            filled = [*dealt, *dealt[:1] * idle]
            stacked = jax.tree.map(
                lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]),
                *(chunk for _, chunk in filled),
            )
            rounds.append(jax.device_put(stacked, sharding))
            counts.append(np.array([size] * len(dealt) + [0] * idle))
            firsts.append(np.array([first for first, _ in filled]))
    return Spread(rounds, counts, firsts, mesh, axis)


def numbered(chunks: list[Pytree] | Spread) -> list[Pytree] | Spread:
    """Pair each chunk with its examples' numbers in the data set: (chunk, int32 [n])."""
    if not isinstance(chunks, Spread):
        return [
            (chunk, first + np.arange(count(chunk), dtype=np.int32))
            for first, chunk in zip(_firsts(chunks), chunks, strict=True)
        ]
    sharding = NamedSharding(chunks.mesh, PartitionSpec(chunks.axis))
    rounds = []
    for each, first in zip(chunks.rounds, chunks.firsts, strict=True):
        length = jax.tree.leaves(each)[0].shape[1]
        numbers = (first[:, None] + np.arange(length)).astype(np.int32)
        rounds.append((each, jax.device_put(numbers, sharding)))
    return chunks._replace(rounds=rounds)


def _firsts(chunks: list[Pytree]) -> np.ndarray:
    return np.cumsum([0, *(count(chunk) for chunk in chunks)])[:-1].astype(np.int32)


def count(chunk: Pytree) -> int:
    """Return the number of examples of a chunk."""
    return jax.tree.leaves(chunk)[0].shape[0]


class OneDevice:
    """Where chunks are processed: as they are."""

    @staticmethod
    def run(function: Callable[..., Any], own: Pytree, *shared: Pytree) -> Pytree:
        """Call function(own, *shared), compiled."""
        return called(function, own, *shared)

    @staticmethod
    def shared(tree: Pytree) -> Pytree:
        """Return what all chunks use."""
        return tree

    @staticmethod
    def reduced(total: Pytree) -> Pytree:
        """Return a sum over devices."""
        return total


class OverMesh:
    """Where chunks are processed: one a device, results kept apart along a leading axis [D] until `reduced`."""

    def __init__(self, mesh: Mesh, axis: str) -> None:
        self._mesh = mesh
        self._axis = axis
        self._everywhere = NamedSharding(mesh, PartitionSpec())

    def run(self, function: Callable[..., Any], own: Pytree, *shared: Pytree) -> Pytree:
        """Call function(own, *shared) on every device's own part, compiled; no communication."""
        return called_on_each(function, self._mesh, self._axis, own, *shared)

    def shared(self, tree: Pytree) -> Pytree:
        """Copy a pytree to every device."""
        return jax.device_put(tree, self._everywhere)

    def reduced(self, total: Pytree) -> Pytree:
        """Sum over devices with one all-reduce of all leaves together."""
        return reduce_over_devices(total, self._everywhere)


@functools.partial(jax.jit, static_argnums=0)
def called(function: Callable[..., Any], own: Pytree, *shared: Pytree) -> Pytree:
    """Call function(own, *shared), compiled."""
    return function(own, *shared)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def called_on_each(
    function: Callable[..., Any], mesh: Mesh, axis: str, own: Pytree, *shared: Pytree
) -> Pytree:
    """Call function(own, *shared) on each device's own part, along the leading axis of ``own`` and of the result."""

    def local(own: Pytree, *shared: Pytree) -> Pytree:
        result = function(jax.tree.map(lambda leaf: leaf[0], own), *shared)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], result)

    # Without check_vma a derivative with respect to what is shared stays local: the sum over devices comes at the end.
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(PartitionSpec(axis), *(PartitionSpec() for _ in shared)),
        out_specs=PartitionSpec(axis),
        check_vma=False,
    )(own, *shared)


@functools.partial(jax.jit, static_argnums=1)
def reduce_over_devices(total: Pytree, everywhere: NamedSharding) -> Pytree:
    """Sum arrays [D, ...] over their first axis, which is split over devices: one all-reduce of one long vector."""
    flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])(total)
    _, unravel = ravel_pytree(
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), total)
    )
    return unravel(jax.lax.with_sharding_constraint(flat.sum(axis=0), everywhere))


class Mean:
    """The mean over chunks, each weighted by its number of examples.

    Attributes:
        chunks: one pytree a step.
        place: where they are processed.
        examples: N.
    """

    def __init__(self, chunks: list[Pytree] | Spread, accumulation: str) -> None:
        if accumulation not in ACCUMULATIONS:
            raise ValueError(
                f"accumulation={accumulation!r}: must be one of {', '.join(ACCUMULATIONS)}"
            )
        if isinstance(chunks, Spread):
            self.chunks, counts = chunks.rounds, chunks.counts
            self.place: OneDevice | OverMesh = OverMesh(chunks.mesh, chunks.axis)
        else:
            self.chunks = chunks
            counts = [np.array(count(chunk)) for chunk in chunks]
            self.place = OneDevice()
        if not self.chunks:
            raise ValueError("chunks: must hold at least one")
        self._accumulation = accumulation
        self.examples = int(sum(each.sum() for each in counts))
        self._weights = [each / self.examples for each in counts]

    def scalar(self, function: Callable[..., Any], *shared: Pytree) -> float:
        """Return the mean of function(chunk, *shared), a scalar; summed in float64."""
        local = self.place.shared(shared)
        return self._weighted(
            [self.place.run(function, chunk, *local) for chunk in self.chunks]
        )

    def scalar_and_vector(
        self, function: Callable[..., Any], *shared: Pytree
    ) -> tuple[float, Pytree]:
        """Return the means of function(chunk, *shared), a scalar and a pytree like the last of ``shared``."""
        local, total, scalars = self.place.shared(shared), self.sum(), []
        for i, chunk in enumerate(self.chunks):
            scalar, vector = self.place.run(function, chunk, *local)
            scalars.append(scalar)
            total.add(i, vector)
        found = self.finish([total], shared[-1])
        return self._weighted(scalars), jax.tree.map(lambda leaf: leaf[0], found)

    def sum(self) -> Sum:
        """Return an empty sum over chunks."""
        return Sum(self._weights, self._accumulation)

    def finish(self, sums: list[Sum], like: Pytree) -> Pytree:
        """Stack sums to a block and add it up over devices, on the device of ``like``."""
        stacked = _stacked([each.total(like) for each in sums], self._axis)
        return jax.tree.map(_beside, self.place.reduced(stacked), like)

    def pieces(self, chunk: Pytree, size: int) -> Iterator[tuple[Pytree, float]]:
        """Cut a chunk into the fewest pieces of at most ``size`` examples; yield each with the share 1 / chunk size."""
        length = jax.tree.leaves(chunk)[0].shape[self._axis]
        edges = np.linspace(0, length, -(-length // size) + 1).round().astype(int)
        for first, last in itertools.pairwise(edges.tolist()):
            piece = jax.tree.map(
                lambda leaf, a=first, b=last: jax.lax.slice_in_dim(
                    jnp.asarray(leaf), a, b, axis=self._axis
                ),
                chunk,
            )
            yield piece, 1 / length

    @property
    def _axis(self) -> int:
        return 1 if isinstance(self.place, OverMesh) else 0

    def _weighted(self, scalars: list[jax.Array]) -> float:
        return float(
            sum(
                np.sum(weight * np.asarray(scalar, dtype=np.float64))
                for weight, scalar in zip(self._weights, scalars, strict=True)
            )
        )


@functools.partial(jax.jit, static_argnums=1)
def _stacked(trees: list[Pytree], axis: int) -> Pytree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *trees)


def _beside(leaf: jax.Array, like: Any) -> jax.Array:
    sharding = getattr(like, "sharding", None)
    if sharding is None or leaf.sharding.device_set == sharding.device_set:
        return leaf
    return jax.device_put(leaf.addressable_data(0), sharding)
