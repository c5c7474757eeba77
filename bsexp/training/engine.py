"""The two ways to run one program on a mesh: jit over named shardings, and pmap.

A program is a function of the members of one row, stacked, and of what all devices share. Both engines give it the mesh's
axis "data" and neither changes what it computes.
"""

import abc
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from bsexp.training.mesh import POPULATION
from bsexp.training.reduction import DATA

Pytree = Any
Program = Callable[..., tuple[Any, ...]]


class Engine(abc.ABC):
    """Places arrays on a mesh and compiles programs for it.

    Attributes:
        mesh: population x data.
        members: runs of the cohort, a multiple of the rows.
    """

    def __init__(self, mesh: jax.sharding.Mesh, members: int) -> None:
        self.mesh = mesh
        self.members = members
        self._local = members // mesh.shape[POPULATION]

    @abc.abstractmethod
    def spread(self, members: list[Pytree]) -> Any:
        """Place one pytree a member on the member's row of devices."""

    @abc.abstractmethod
    def everywhere(self, value: Pytree) -> Any:
        """Place the same arrays on every device."""

    @abc.abstractmethod
    def program(
        self, function: Callable[..., Pytree], spread: int, *, donate: bool
    ) -> Program:
        """Compile a function for every row.

        Args:
            function: of ``spread`` pytrees whose leaves have a leading axis of the row's members, then of what all
                devices share. It returns a tuple of pytrees with that leading axis and sees the axis "data".
            spread: number of arguments that come from `spread` or from another program.
            donate: whether the first argument's memory is used for the result; the caller's is gone then.
        """

    @abc.abstractmethod
    def member(self, spread: Any, number: int) -> Pytree:
        """Copy one member's arrays from the first device of its row; they stay there."""

    def read(self, spread: Any) -> list[Pytree]:
        """Wait for the devices and return every member's arrays as numpy's."""
        return [
            jax.device_get(self.member(spread, number))
            for number in range(self.members)
        ]


class Jit(Engine):
    """`jax.jit` of `jax.shard_map`."""

    def spread(self, members: list[Pytree]) -> Pytree:
        """Stack the members along an axis that is sharded over the rows."""
        sharding = NamedSharding(self.mesh, PartitionSpec(POPULATION))
        return jax.tree.map(
            lambda *leaves: jax.device_put(_stacked(leaves), sharding), *members
        )

    def everywhere(self, value: Pytree) -> Pytree:
        """Replicate arrays over the mesh."""
        return jax.device_put(value, NamedSharding(self.mesh, PartitionSpec()))

    def program(
        self, function: Callable[..., Pytree], spread: int, *, donate: bool
    ) -> Program:
        """Map the function over the mesh, one row's members each."""

        def mapped(*arguments: Pytree) -> Pytree:
            specs = [
                PartitionSpec(POPULATION) if i < spread else PartitionSpec()
                for i in range(len(arguments))
            ]
            # Without check_vma a gradient stays that of the device's own shards; the step adds them up itself.
            return jax.shard_map(
                function,
                mesh=self.mesh,
                in_specs=tuple(specs),
                out_specs=PartitionSpec(POPULATION),
                check_vma=False,
            )(*arguments)

        return jax.jit(mapped, donate_argnums=(0,) * donate)

    def member(self, spread: Pytree, number: int) -> Pytree:
        """Copy one member's arrays from the first device of its row; they stay there."""
        row, place = divmod(number, self._local)
        device = self.mesh.devices[row, 0]

        def copied(leaf: jax.Array) -> jax.Array:
            shards = leaf.addressable_shards
            return next(each for each in shards if each.device == device).data[place]

        return jax.tree.map(copied, spread)


class Pmap(Engine):
    """`jax.pmap` of each row by itself; a list of one pytree a row, with a leading axis of the row's devices."""

    def spread(self, members: list[Pytree]) -> list[Pytree]:
        """Stack each row's members and give every device of the row a copy."""
        rows = [
            members[first : first + self._local]
            for first in range(0, len(members), self._local)
        ]
        return [
            self._copies(jax.tree.map(lambda *leaves: _stacked(leaves), *row), place)
            for row, place in zip(rows, self._shardings, strict=True)
        ]

    def everywhere(self, value: Pytree) -> list[Pytree]:
        """Give every device of every row a copy."""
        return [self._copies(value, place) for place in self._shardings]

    def program(
        self, function: Callable[..., Pytree], spread: int, *, donate: bool
    ) -> Program:
        """Map the function over each row's devices."""
        del spread  # all arguments have the leading axis of the row's devices
        rows = [
            jax.pmap(
                function,
                axis_name=DATA,
                devices=list(row),
                donate_argnums=(0,) * donate,
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

    def member(self, spread: list[Pytree], number: int) -> Pytree:
        """Copy one member's arrays from the first device of its row; they stay there."""
        row, place = divmod(number, self._local)
        return jax.tree.map(
            lambda leaf: leaf.addressable_shards[0].data[0, place], spread[row]
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

    def _copies(self, value: Pytree, sharding: NamedSharding) -> Pytree:
        number = sharding.num_devices
        return jax.tree.map(
            lambda leaf: jax.device_put(
                np.broadcast_to(leaf, (number, *np.shape(leaf))), sharding
            ),
            value,
        )


ENGINES: dict[str, type[Engine]] = {"jit": Jit, "pmap": Pmap}


def _stacked(leaves: tuple[Any, ...]) -> np.ndarray:
    return np.stack([np.asarray(leaf) for leaf in leaves])


def by_member(function: Callable[..., Pytree], shared: int) -> Callable[..., Pytree]:
    """Let a function of one member work on a row's members, stacked; the last ``shared`` arguments are for all.

    One member is not mapped: its program is that of a run by itself.
    """

    def run(*arguments: Pytree) -> Pytree:
        own = len(arguments) - shared
        if jax.tree.leaves(arguments[0])[0].shape[0] == 1:
            first = [
                jax.tree.map(lambda leaf: leaf[0], each) for each in arguments[:own]
            ]
            found = function(*first, *arguments[own:])
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], found)
        axes = (0,) * own + (None,) * shared
        return jax.vmap(function, in_axes=axes)(*arguments)

    return run
