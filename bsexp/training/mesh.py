"""Which devices train which runs: a mesh of population x data."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from bsexp import config
from bsexp.bounds import FieldError
from bsexp.training.reduction import DATA

POPULATION = "population"
# Examples of a batch that a device gets at least before a batch is split: with fewer the devices wait for each other more
# than they compute.
LEAST_EXAMPLES = 512
# Operations, 6 for each example and parameter, of the updates that an accelerator does side by side: up to here the launches
# of its kernels take most of the time. On an H200 an update of F1 takes 145 us at B = 16, 284 at 256 and 674 at 1 000; three
# stacked take 202, 491 and 1 171. That many operations at B = 16 are those of 300 million parameters.
STACKED_FLOPS = 3e10


class Layout(NamedTuple):
    """A mesh and the runs that train on it together.

    Attributes:
        population: P, rows of devices; each trains runs of its own.
        data: D, devices of a row; they split each microbatch.
        members: runs of the cohort, P or a multiple of it.
    """

    population: int
    data: int
    members: int


def check(devices: int, processes: int, execution: config.Execution) -> None:
    """Check that there are enough devices, and that the engine can reach them.

    Raises:
        bounds.FieldError: the mesh that is prescribed needs more; or pmap is to run in several processes.
    """
    if processes > 1 and execution.engine == "pmap":
        raise FieldError(
            "execution.engine", f"works in one process, not in {processes}; take jit"
        )
    rows, columns = max(execution.population, 1), max(execution.data, 1)
    if rows * columns > devices:
        field = "population" if execution.population else "data"
        raise FieldError(
            f"execution.{field}",
            f"a mesh of {rows} x {columns} devices is larger than the {devices} there are",
        )


def plan(
    devices: int,
    runs: int,
    batch: int,
    execution: config.Execution,
    fits: Callable[[int], bool],
    stacked: int = 1,
) -> Layout:
    """Choose the mesh for runs of one shape.

    Rows by runs first, since these need no communication; then columns, while each device keeps LEAST_EXAMPLES
    examples of a batch. A row trains one run, or several stacked where one leaves its device idle most of the time.

    Args:
        devices: that there are.
        runs: of one shape, to be trained.
        batch: B.
        execution: P and D where they are prescribed.
        fits: whether a batch can be split over a number of devices.
        stacked: most runs that a device trains side by side; where P is prescribed, or a batch is split, it trains one.
    """
    population, data = execution.population, execution.data
    rows = min(population or devices // (data or 1), runs)
    columns = data or max(
        each
        for each in range(1, devices // rows + 1)
        if each == 1 or (batch // each >= LEAST_EXAMPLES and fits(each))
    )
    alone = population or columns > 1
    stack = 1 if alone else min(stacked, math.ceil(runs / rows))
    return Layout(rows, columns, rows * stack)


def takes_part(layout: Layout) -> bool:
    """Say whether this process holds a device of a mesh."""
    used = _used(layout, jax.devices())
    return any(each.process_index == jax.process_index() for each in used)


def _used(layout: Layout, devices: Sequence[jax.Device]) -> Sequence[jax.Device]:
    return devices[: layout.population * layout.data]


def make(layout: Layout, devices: Sequence[jax.Device]) -> jax.sharding.Mesh:
    """Lay the first P x D devices out as a mesh with axes "population" and "data"."""
    grid = np.array(_used(layout, devices)).reshape(layout.population, layout.data)
    axis_types = (jax.sharding.AxisType.Auto,) * 2
    return jax.sharding.Mesh(grid, (POPULATION, DATA), axis_types=axis_types)
