"""The engine of `jax.jit` over named shardings, in one process or several."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from bsexp.training import engine
from bsexp.training.engine import Program, Pytree
from bsexp.training.mesh import POPULATION
from bsexp.training.reduction import DATA

# Of arrays [members, updates, microbatches, shards, ...].
DIVIDED = PartitionSpec(POPULATION, None, None, DATA)


class Jit(engine.Engine):
    """`jax.jit` of `jax.shard_map`."""

    def spread(self, members: list[Pytree]) -> Pytree:
        """Stack the members along an axis that is sharded over the rows."""
        sharding = NamedSharding(self.mesh, PartitionSpec(POPULATION))
        return jax.tree.map(
            lambda *leaves: self._placed(engine.stacked(leaves), sharding), *members
        )

    def everywhere(self, value: Pytree) -> Pytree:
        """Replicate arrays over the mesh."""
        return jax.tree.map(
            lambda leaf: self._placed(leaf, self._replicated),
            value,
        )

    @property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def _placed(self, value: Any, sharding: NamedSharding) -> jax.Array:
        if not self._several:
            return jax.device_put(value, sharding)
        # Not device_put: it compares the value over all processes first, training images and all.
        host = np.asarray(value)
        return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)

    def divide(self, members: list[Pytree]) -> Pytree:
        """Stack the members, sharded over the rows, and shard their shards over the columns."""
        own, columns = self.held
        sharding = NamedSharding(self.mesh, DIVIDED)

        def placed(*leaves: np.ndarray) -> jax.Array:
            stacked = engine.stacked(leaves)
            width = stacked.shape[3] // len(columns)
            shape = [self.members, *stacked.shape[1:]]
            shape[3] = width * self.mesh.shape[DATA]

            def part(index: tuple[slice, ...]) -> np.ndarray:
                rows = _moved(index[0], own.start)
                return stacked[rows, :, :, _moved(index[3], columns.start * width)]

            return jax.make_array_from_callback(tuple(shape), sharding, part)

        return jax.tree.map(placed, *members)

    def program(
        self,
        function: Callable[..., Pytree],
        spread: int,
        *,
        divided: int = 0,
        donate: bool,
    ) -> Program:
        """Map the function over the mesh, one row's members each."""

        def mapped(*arguments: Pytree) -> Pytree:
            shared = len(arguments) - spread - divided
            specs = [PartitionSpec(POPULATION)] * spread
            specs += [DIVIDED] * divided + [PartitionSpec()] * shared
            # Without check_vma a gradient stays that of the device's own shards; the step adds them up itself.
            return jax.shard_map(
                function,
                mesh=self.mesh,
                in_specs=tuple(specs),
                out_specs=PartitionSpec(POPULATION),
                check_vma=False,
            )(*arguments)

        return jax.jit(
            mapped,
            donate_argnums=(0,) * donate,
            compiler_options=self._compiler_options,
        )

    def _row(self, spread: Pytree, row: int) -> Pytree:
        device = self.mesh.devices[row, 0]

        def own(leaf: jax.Array) -> jax.Array:
            shards = leaf.addressable_shards
            return next(each for each in shards if each.device == device).data

        return jax.tree.map(own, spread)

    def member(self, spread: Pytree, number: int) -> Pytree:
        """Copy one member's arrays from the first device of its row; of several processes, each gets them."""
        if self._several:
            return self._one(spread, np.int32(number))
        return super().member(spread, number)

    def reading(self, spread: Pytree) -> Callable[[], list[Pytree]]:
        """Begin to read every member's arrays; of several processes, each gets them."""
        if not self._several:
            return super().reading(spread)
        everywhere = self._all(spread)

        def wait() -> list[Pytree]:
            found = jax.device_get(everywhere)
            return [engine.at(number, found) for number in range(self.members)]

        return wait

    def agreeing(self, said: Callable[[], list[int]]) -> Callable[[], list[int]]:
        """Begin to find the largest of what the processes of the mesh say, number by number; each must call it."""
        if not self._several:
            return super().agreeing(said)
        sharding = NamedSharding(self.mesh, PartitionSpec((POPULATION, DATA)))
        own = np.array(said(), np.int32)[None]
        values = jax.make_array_from_callback(
            (self.mesh.size, own.shape[1]), sharding, lambda _: own
        )
        largest = self._largest(values)
        return lambda: jax.device_get(largest).tolist()

    @functools.cached_property
    def _all(self) -> Callable[[Pytree], Pytree]:
        return jax.jit(lambda tree: tree, out_shardings=self._replicated)

    @functools.cached_property
    def _one(self) -> Callable[[Pytree, np.int32], Pytree]:
        def one(tree: Pytree, number: jax.Array) -> Pytree:
            return jax.tree.map(lambda leaf: leaf[number], tree)

        return jax.jit(one, out_shardings=self._replicated)

    @functools.cached_property
    def _largest(self) -> Callable[[jax.Array], jax.Array]:
        return jax.jit(lambda said: said.max(axis=0), out_shardings=self._replicated)


def _moved(index: slice, first: int) -> slice:
    """Return a slice of the whole, which may have no ends, as one of a part that begins at ``first``."""
    stop = None if index.stop is None else index.stop - first
    return slice((index.start or 0) - first, stop)
