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
# Of arrays [members, updates, microbatches, shards, ...].
DIVIDED = PartitionSpec(POPULATION, None, None, DATA)


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
        self._several = len(self.processes) > 1

    @abc.abstractmethod
    def spread(self, members: list[Pytree]) -> Any:
        """Place one pytree a member on the member's row of devices."""

    @abc.abstractmethod
    def everywhere(self, value: Pytree) -> Any:
        """Place the same arrays on every device."""

    @abc.abstractmethod
    def divide(self, members: list[Pytree]) -> Any:
        """Place parts of batches: of each member on its row, divided over the row's devices.

        Args:
            members: one pytree for each member of `held`, of arrays [updates, microbatches, shards, ...] that hold the
                shards of the columns of `held`: no process needs examples of which another one trains.
        """

    @abc.abstractmethod
    def program(
        self,
        function: Callable[..., Pytree],
        spread: int,
        *,
        divided: int = 0,
        donate: bool,
    ) -> Program:
        """Compile a function for every row.

        Args:
            function: of ``spread`` + ``divided`` pytrees whose leaves have a leading axis of the row's members, then of
                what all devices share. It returns a tuple of pytrees with that leading axis and sees the axis "data".
            spread: number of arguments that come from `spread` or from another program.
            divided: number of arguments after them, that come from `divide`: a device sees its own part.
            donate: whether the first argument's memory is used for the result; the caller's is gone then.
        """

    @abc.abstractmethod
    def member(self, spread: Any, number: int) -> Pytree:
        """Copy one member's arrays from the first device of its row; they stay on a device of this process."""

    @property
    def processes(self) -> frozenset[int]:
        """Those that hold a device of the mesh."""
        return frozenset(each.process_index for each in self.mesh.devices.flat)

    def most(self, values: list[int]) -> list[int]:
        """Return the largest of what the processes of the mesh say, number by number; each must call it."""
        return values

    @functools.cached_property
    def held(self) -> tuple[range, range]:
        """Members and columns of the mesh that devices of this process work on."""
        own = np.argwhere(
            [
                [device.process_index == jax.process_index() for device in row]
                for row in self.mesh.devices
            ]
        )
        (row, column), (last_row, last_column) = own.min(axis=0), own.max(axis=0)
        members = range(int(row) * self._local, (int(last_row) + 1) * self._local)
        return members, range(int(column), int(last_column) + 1)

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
            lambda *leaves: self._placed(_stacked(leaves), sharding), *members
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
            stacked = _stacked(leaves)
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

        return jax.jit(mapped, donate_argnums=(0,) * donate)

    def member(self, spread: Pytree, number: int) -> Pytree:
        """Copy one member's arrays from the first device of its row; of several processes, each gets them."""
        if self._several:
            return self._one(spread, np.int32(number))
        row, place = divmod(number, self._local)
        device = self.mesh.devices[row, 0]

        def copied(leaf: jax.Array) -> jax.Array:
            shards = leaf.addressable_shards
            return next(each for each in shards if each.device == device).data[place]

        return jax.tree.map(copied, spread)

    def read(self, spread: Pytree) -> list[Pytree]:
        """Wait for the devices and return every member's arrays as numpy's; of several processes, each gets them."""
        if not self._several:
            return super().read(spread)
        found = jax.device_get(self._all(spread))
        return [
            jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(self.members)
        ]

    def most(self, values: list[int]) -> list[int]:
        """Return the largest of what the processes of the mesh say, number by number; each must call it."""
        if not self._several:
            return values
        sharding = NamedSharding(self.mesh, PartitionSpec((POPULATION, DATA)))
        own = np.array(values, np.int32)[None]
        said = jax.make_array_from_callback(
            (self.mesh.size, len(values)), sharding, lambda _: own
        )
        return jax.device_get(self._largest(said)).tolist()

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

    def divide(self, members: list[Pytree]) -> list[Pytree]:
        """Stack each row's members and give every device of the row its shards."""
        _, columns = self.held
        devices = self.mesh.shape[DATA]

        def placed(sharding: NamedSharding, *leaves: np.ndarray) -> jax.Array:
            stacked = _stacked(leaves)
            width = stacked.shape[3] // len(columns)
            shape = (devices, *stacked.shape[:3], width, *stacked.shape[4:])

            def part(index: tuple[slice, ...]) -> np.ndarray:
                first = ((index[0].start or 0) - columns.start) * width
                return stacked[None, :, :, :, first : first + width]

            return jax.make_array_from_callback(shape, sharding, part)

        rows = [
            members[first : first + self._local]
            for first in range(0, len(members), self._local)
        ]
        return [
            jax.tree.map(functools.partial(placed, sharding), *row)
            for row, sharding in zip(rows, self._shardings, strict=True)
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


def _moved(index: slice, first: int) -> slice:
    """Return a slice of the whole, which may have no ends, as one of a part that begins at ``first``."""
    stop = None if index.stop is None else index.stop - first
    return slice((index.start or 0) - first, stop)


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
