"""What a study would cost: steps, FLOPs, memory and time of every run, with nothing trained.

What its folder has already costs nothing more.
"""

import collections
import functools
import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from bsexp import (
    config,
    door,
    items,
    progress,
    renewal,
    results,
    study,
    workdir,
    workshop,
)
from bsexp.data import examples, sources
from bsexp.training import footprint, mesh, recipe

# Examples of the largest update that is timed: larger ones, and measuring, are taken to run at its rate.
TIMED_EXAMPLES = 256


class Cost(NamedTuple):
    """The cost of training one run, from its compiled program.

    Attributes:
        layout: the mesh on which runs like it train.
        steps: updates.
        flops: of all updates.
        peak_bytes: on one device: data set, states and temporaries.
    """

    layout: mesh.Layout
    steps: int
    flops: float
    peak_bytes: int


def show(plan: door.Plan, folder: Path, console: Console) -> None:
    """Print the table of runs, and the time of what a folder lacks; nothing is trained and nothing is written."""
    missing, untrained = _lacking(plan, folder)
    flops = _measuring_flops(plan, missing)
    shapes = collections.Counter(recipe.cohort(run) for run in plan.runs)
    costs = {
        shape: training_cost(run, shapes[shape])
        for shape, run in {recipe.cohort(run): run for run in plan.runs}.items()
    }
    table = Table(
        *("run", "batch size", "steps", "FLOPs", "mesh", "memory per device"),
        *("training", "measuring"),
    )
    total = 0.0
    for run in plan.runs:
        cost = costs[recipe.cohort(run)]
        found, network = examples.describe(run.base.data), run.base.model
        training = 0.0
        if run.name in untrained:
            training = cost.flops / rate(found, network, run.batch_size)
        measuring = 0.0
        if flops[run.name]:
            measuring = flops[run.name] / rate(found, network)
        total += training + measuring
        cells = [
            f"{run.batch_size:,}",
            f"{cost.steps:,}",
            f"{cost.flops:.2e}",
            _mesh(cost.layout),
            f"{cost.peak_bytes / 2**20:,.0f} MiB",
        ]
        times = training, measuring
        told = map(progress.clock, times) if any(times) else ("done", "done")
        table.add_row(run.name, *cells, *told)
    console.print(table)
    devices = len(jax.devices())
    lack = (
        f"About {progress.clock(total)} for what {folder} lacks, at the rate of an update of each network and batch size (at "
        f"most {TIMED_EXAMPLES}), timed on one device now; compilation comes on top."
        if missing
        else f"{folder} lacks nothing."
    )
    console.print(
        f"{lack} The mesh is runs side by side x devices that share a batch; "
        f"there {'is 1 device' if devices == 1 else f'are {devices} devices'}.",
        highlight=False,
        soft_wrap=True,
    )
    for line in sorted({_streaming(run.base.data) for run in plan.runs} - {""}):
        console.print(line, highlight=False, soft_wrap=True)


def _lacking(plan: door.Plan, folder: Path) -> tuple[list[items.Item], set[str]]:
    """Return the measurements that a folder lacks, and the runs, by name, that must be trained for them."""
    wanted = study.wanted(plan)
    try:
        place = workdir.Workdir(folder, plan, "", "")
        lost, torn = renewal.again(place, wanted)
        missing = [*place.missing(wanted), *torn]
        missing += [item for item in wanted if item.run.name in lost]
        needed = {} if plan.study.run else items.needed_runs(missing)
        untrained = {name for name, run in needed.items() if math.isinf(place.end(run))}
    except (OSError, results.BrokenFileError) as error:
        raise door.ConfigError([str(error)]) from error
    return missing, untrained | (lost & needed.keys())


def _mesh(layout: mesh.Layout) -> str:
    stack = layout.members // layout.population
    stacked = f", {stack} stacked" if stack > 1 else ""
    return f"{layout.population} x {layout.data}{stacked}"


def _streaming(data: config.Data) -> str:
    """Say how the training examples of a run are read while it trains; empty where they are not."""
    if not data.streaming:
        return ""
    readers = f"{data.workers} processes" if data.workers else "threads"
    return (
        f"The training examples of {data.name} are streamed, read by {readers} while a run trains; "
        "where reading is slower than training it takes longer."
    )


def training_cost(run: config.Run, runs: int) -> Cost:
    """Compile a run's program for abstract arguments and read its cost.

    Args:
        run: the run.
        runs: that have its shape, itself included.
    """
    found = examples.describe(run.base.data)
    model = workshop.build_model(run.base.model, found.image_shape, found.num_classes)
    layout = recipe.layout(run, runs, model, found.train_examples)
    subject = footprint.Subject(run, model, found, layout)
    return Cost(
        subject.layout,
        recipe.epochs(run, found.train_examples)[-1].end,
        footprint.flops(subject),
        footprint.peak_bytes(subject),
    )


def rate(
    found: sources.Description, network: config.Model, size: int = TIMED_EXAMPLES
) -> float:
    """Return the floating-point operations a second that updates of a network reach on the default device, now.

    Small updates are bound by memory or by launches, large ones by arithmetic: what convolutions, say, make of it.

    Args:
        found: the data set.
        network: the network.
        size: B; of a larger one than TIMED_EXAMPLES the rate at that many is returned.
    """
    return _rate(found, network, min(size, TIMED_EXAMPLES, found.train_examples))


@functools.cache
def _rate(found: sources.Description, network: config.Model, size: int) -> float:
    model = workshop.build_model(network, found.image_shape, found.num_classes)
    run = config.Run("timed", 0, size, config.Base(model=network))
    return footprint.rate(
        footprint.Subject(run, model, found, mesh.Layout(1, 1, 1)), size
    )


def _measuring_flops(plan: door.Plan, missing: list[items.Item]) -> dict[str, float]:
    """Return the FLOPs of measurements by the name of their run, each counted once."""
    flops = dict.fromkeys((run.name for run in plan.runs), 0.0)
    different = {(item.run.name, item.epoch, item.task.name): item for item in missing}
    for item in different.values():
        flops[item.run.name] += item.task.cost * forward_flops(
            examples.describe(item.run.base.data), item.run.base.model
        )
    return flops


@functools.cache
def forward_flops(
    found: sources.Description, network: config.Model, number: int = 1_000
) -> float:
    """Return the FLOPs of a forward pass of one example, averaged over a batch."""
    model = workshop.build_model(network, found.image_shape, found.num_classes)
    parameters, statistics = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((number, *found.image_shape), jnp.float32)
    forward = jax.jit(model.apply, static_argnums=3).lower(
        parameters, statistics, images, "running"
    )
    return forward.compile().cost_analysis()["flops"] / number
