"""How programs run on a mesh: what the engines, `sharded` and `mapped`, have in common.

A program is a function of the members of one row, stacked, and of what all devices share. Every engine gives it the mesh's
axis "data" and none changes what it computes.
"""

import abc
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bsexp.training.mesh import POPULATION

Pytree = Any
Program = Callable[..., tuple[Any, ...]]
# What each option leaves of the time of an update of F1 at B = 16, by two runs that share the cache:
CPU_OPTIONS = {
    # 0.83. In a loop of updates the compiler copies every matrix that the backward pass reads before Adam overwrites it; the
    # closer analysis sees that none of them needs to be.
    "xla_cpu_copy_insertion_use_region_analysis": True,
    # 0.85 with AVX-512, of whose registers, in bits, the compiler uses half by itself; without AVX-512 nothing changes.
    # Sums that it vectorises are rounded otherwise.
    "xla_cpu_prefer_vector_width": 512,
}


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
    def _row(self, spread: Any, row: int) -> Pytree:
        """Return the arrays of a row's members, stacked, as they lie on its first device."""

    def member(self, spread: Any, number: int) -> Pytree:
        """Copy one member's arrays from the first device of its row; they stay on a device of this process."""
        row, place = divmod(number, self._local)
        return at(place, self._row(spread, row))

    @property
    def processes(self) -> frozenset[int]:
        """Those that hold a device of the mesh."""
        return frozenset(each.process_index for each in self.mesh.devices.flat)

    def most(self, values: list[int]) -> list[int]:
        """Return the largest of what the processes of the mesh say, number by number; each must call it."""
        return self.agreeing(lambda: values)()

    def agreeing(self, said: Callable[[], list[int]]) -> Callable[[], list[int]]:
        """Begin to find the `most`, as `reading` does; one process says its own when asked for the result, several now."""
        return said

    @property
    def _compiler_options(self) -> dict[str, int]:
        return compiler_options(self.mesh.devices.flat[0].platform)

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
        return self.reading(spread)()

    def reading(self, spread: Any) -> Callable[[], list[Pytree]]:
        """Begin to read; what is returned waits for these arrays, not for what is dispatched in the meantime.

        A device does one thing after the other: what `member` copies, it copies when all that was asked before is
        done. Not for arrays that are donated before they are read.
        """
        rows = [self._row(spread, row) for row in range(self.mesh.shape[POPULATION])]

        def wait() -> list[Pytree]:
            return [
                at(place, found)
                for found in jax.device_get(rows)
                for place in range(self._local)
            ]

        return wait


def stacked(leaves: tuple[Any, ...]) -> np.ndarray:
    """Return the members' arrays with an axis of the members before them, on the host."""
    return np.stack([np.asarray(leaf) for leaf in leaves])


def at(place: int, stacked: Pytree) -> Pytree:
    """Return the arrays of one of the members that are stacked."""
    return jax.tree.map(lambda leaf: leaf[place], stacked)


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


@functools.cache
def compiler_options(platform: str) -> dict[str, int]:
    """Return the compiler's options for a platform."""
    return known_options(CPU_OPTIONS) if platform == "cpu" else {}


def known_options(options: dict[str, int]) -> dict[str, int]:
    """Return those of some options that the compiler knows (still)."""
    return {name: value for name, value in options.items() if _knows({name: value})}


def _knows(option: dict[str, int]) -> bool:
    try:
        jax.jit(jnp.negative, compiler_options=option).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
