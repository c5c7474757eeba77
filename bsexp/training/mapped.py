"""The engine of `jax.pmap`, in one process."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from bsexp.training import engine
from bsexp.training.engine import Program, Pytree
from bsexp.training.reduction import DATA


class Pmap(engine.Engine):
    """`jax.pmap` of each row by itself; a list of one pytree a row, with a leading axis of the row's devices."""

    def spread(self, members: list[Pytree]) -> list[Pytree]:
        """Stack each row's members and give every device of the row a copy."""
        return [
            self._copies(
                jax.tree.map(lambda *leaves: engine.stacked(leaves), *row), place
            )
            for row, place in zip(self._rows(members), self._shardings, strict=True)
        ]

    def everywhere(self, value: Pytree) -> list[Pytree]:
        """Give every device of every row a copy."""
        return [self._copies(value, place) for place in self._shardings]

    def divide(self, members: list[Pytree]) -> list[Pytree]:
        """Stack each row's members and give every device of the row its shards."""
        devices = self.mesh.shape[DATA]

        def placed(sharding: NamedSharding, *leaves: np.ndarray) -> jax.Array:
            stacked = engine.stacked(leaves)
            width = stacked.shape[3] // devices
            shape = (devices, *stacked.shape[:3], width, *stacked.shape[4:])

            def part(index: tuple[slice, ...]) -> np.ndarray:
                first = (index[0].start or 0) * width
                return stacked[None, :, :, :, first : first + width]

            return jax.make_array_from_callback(shape, sharding, part)

        return [
            jax.tree.map(functools.partial(placed, sharding), *row)
            for row, sharding in zip(self._rows(members), self._shardings, strict=True)
        ]

    def program(
        self,
        function: Callable[..., Pytree],
        spread: int,
        *,
        divided: int = 0,
        donate: bool,
    ) -> Program:
        """Map the function over each row's devices."""
        del spread, divided  # all arguments have the leading axis of the row's devices
        rows = [
            _compiled(
                jax.pmap(
                    function,
                    axis_name=DATA,
                    devices=list(row),
                    donate_argnums=(0,) * donate,
                ),
                self._compiler_options,
            )
            for row in self.mesh.devices
        ]

        def run(*arguments: Any) -> tuple[list[Pytree], ...]:
            wide = [
                self.everywhere(each) if isinstance(each, np.generic) else each
                for each in arguments
            ]
            found = [row(*(each[i] for each in wide)) for i, row in enumerate(rows)]
            return tuple(map(list, zip(*found, strict=True)))

        return run

    def _row(self, spread: list[Pytree], row: int) -> Pytree:
        return jax.tree.map(
            lambda leaf: leaf.addressable_shards[0].data[0], spread[row]
        )

    @functools.cached_property
    def _shardings(self) -> list[NamedSharding]:
        types = (jax.sharding.AxisType.Auto,)
        return [
            NamedSharding(
                jax.sharding.Mesh(row, (DATA,), axis_types=types), PartitionSpec(DATA)
            )
            for row in self.mesh.devices
        ]

    def _rows(self, members: list[Pytree]) -> list[list[Pytree]]:
        return [
            members[first : first + self._local]
            for first in range(0, len(members), self._local)
        ]

    def _copies(self, value: Pytree, sharding: NamedSharding) -> Pytree:
        number = sharding.num_devices
        return jax.tree.map(
            lambda leaf: jax.device_put(
                np.broadcast_to(leaf, (number, *np.shape(leaf))), sharding
            ),
            value,
        )


def _compiled(function: Any, options: dict[str, int]) -> Callable[..., Pytree]:
    """Compile a function by options, which `jax.pmap` does not take, once for arguments of the same shapes."""
    programs = {}

    def call(*arguments: Pytree) -> Pytree:
        leaves, structure = jax.tree.flatten(arguments)
        kind = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if kind not in programs:
            programs[kind] = function.lower(*arguments).compile(
                compiler_options=options
            )
        return programs[kind](*arguments)

    return call
