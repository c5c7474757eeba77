"""What a study would cost: steps, FLOPs, memory and time of every run, with nothing trained.

What its folder has already costs nothing more.
"""

import collections
import functools
import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table
from rich.text import Text

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


class Lack(NamedTuple):
    """What a folder lacks of a study.

    Attributes:
        missing: measurements.
        untrained: names of the runs that must be trained for them, with the fraction of their training that is left.
        diverged: names of the runs that came to no end and lack nothing.
    """

    missing: list[items.Item]
    untrained: dict[str, float]
    diverged: set[str]


def show(
    plan: door.Plan, folder: Path, console: Console, elsewhere: Collection[str] = ()
) -> Collection[str]:
    """Print the table of runs, and the time of what a folder lacks; nothing is trained and nothing is written.

    Args:
        plan: the study.
        folder: of its results.
        console: where to print.
        elsewhere: names of runs that will have been trained by another study, and are taken over from it.

    Returns:
        The names of the runs that are to be trained here.
    """
    lack = _lacking(plan, folder)
    taken = lack.untrained.keys() & {*elsewhere}
    lack = lack._replace(untrained=lack.untrained | dict.fromkeys(taken, 0.0))
    costs = _costs(plan)
    seconds = _seconds(plan, lack, costs)
    console.print(_table(plan, lack, costs, seconds))
    total = sum(map(sum, seconds.values()))
    streamed = sorted({_streaming(run.base.data) for run in plan.runs} - {""})
    over = [f"{len(taken)} of its runs an earlier study trains."] if taken else []
    for line in (f"{_told(folder, lack, total)} {_devices()}", *over, *streamed):
        console.print(line, highlight=False, soft_wrap=True)
    return lack.untrained.keys() - taken


def _lacking(plan: door.Plan, folder: Path) -> Lack:
    wanted = study.wanted(plan)
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise door.ConfigError([f"--workdir={folder}: {there} is not a folder"])
    try:
        place = workdir.Workdir(folder, plan, "", "")
        place.check_data(study.data_sets(plan))
        lost, torn = renewal.again(place, wanted)
        missing = [*place.missing(wanted), *torn]
        missing += [item for item in wanted if item.run.name in lost]
        needed = {} if plan.study.run else items.needed_runs(missing)
        untrained = {
            name: _left(place, run)
            for name, run in needed.items()
            if math.isinf(place.end(run))
        }
        diverged = {run.name for run in plan.runs if place.status(run).get("diverged")}
    except (OSError, results.BrokenFileError, workdir.FolderError) as error:
        raise door.ConfigError([str(error)]) from error
    anew = dict.fromkeys(lost & needed.keys(), 1.0)
    return Lack(missing, untrained | anew, diverged)


def _left(place: workdir.Workdir, run: config.Run) -> float:
    """Return how much of a run's training its folder lacks, as a fraction."""
    return workshop.training_work(place, run) / workshop.whole_work(run)


def _costs(plan: door.Plan) -> dict[str, Cost]:
    """Return what training costs by the name of the run; runs of one shape are compiled once."""
    shapes = {run.name: recipe.cohort(run) for run in plan.runs}
    number = collections.Counter(shapes.values())
    costs = {
        shape: training_cost(run, number[shape])
        for shape, run in {shapes[run.name]: run for run in plan.runs}.items()
    }
    return {name: costs[shape] for name, shape in shapes.items()}


def _seconds(
    plan: door.Plan, lack: Lack, costs: dict[str, Cost]
) -> dict[str, tuple[float, float]]:
    """Return the time of training and of measuring by the name of the run, of what a folder lacks."""
    flops = _measuring_flops(plan, lack.missing)
    seconds = {}
    for run in plan.runs:
        found, network = examples.describe(run.base.data), run.base.model
        training = measuring = 0.0
        if run.name in lack.untrained:
            training = costs[run.name].flops / rate(found, network, run.batch_size)
            training = min(training, run.base.train.seconds or math.inf)
            training *= lack.untrained[run.name]
        if flops[run.name]:
            measuring = flops[run.name] / rate(found, network)
        seconds[run.name] = training, measuring
    return seconds


def _table(
    plan: door.Plan,
    lack: Lack,
    costs: dict[str, Cost],
    seconds: dict[str, tuple[float, float]],
) -> Table:
    table = Table(
        *("run", "group", "batch size", "steps", "FLOPs", "mesh"),
        "memory per device",
        *("training", "measuring"),
    )
    for run in plan.runs:
        cost, times = costs[run.name], seconds[run.name]
        over = "diverged" if run.name in lack.diverged else "done"
        table.add_row(
            run.name,
            Text(run.group),
            f"{run.batch_size:,}",
            f"{cost.steps:,}",
            f"{cost.flops:.2e}",
            _mesh(cost.layout),
            f"{cost.peak_bytes / 2**20:,.0f} MiB",
            *(map(progress.clock, times) if any(times) else (over, over)),
        )
    return table


def _told(folder: Path, lack: Lack, seconds: float) -> str:
    if not lack.missing:
        return f"{folder} lacks nothing."
    return (
        f"About {progress.clock(seconds)} for what {folder} lacks, at the rate of an update of each network and batch size (at "
        f"most {TIMED_EXAMPLES}), timed on one device now; compilation comes on top."
    )


def _devices() -> str:
    number = len(jax.devices())
    there = "is 1 device" if number == 1 else f"are {number} devices"
    return f"The mesh is runs side by side x devices that share a batch; there {there}."


def _mesh(layout: mesh.Layout) -> str:
    stack = layout.members // layout.population
    stacked = f", {stack} stacked" if stack > 1 else ""
    return f"{layout.population} x {layout.data}{stacked}"


def _streaming(data: config.Data) -> str:
    """Say how the training examples of a run are read while it trains; empty where they are not."""
    if not data.streaming:
        return ""
    processes = f"{data.workers} processes for each seed that trains at the same time"
    readers = processes if data.workers else "threads"
    return (
        f"The training examples of {data.name} are streamed, read by {readers}; "
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
def forward_flops(found: sources.Description, network: config.Model) -> float:
    """Return the FLOPs of a forward pass of one example, averaged over a batch."""
    number = 1_000
    model = workshop.build_model(network, found.image_shape, found.num_classes)
    parameters, statistics = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((number, *found.image_shape), jnp.float32)
    forward = jax.jit(model.apply, static_argnums=3).lower(
        parameters, statistics, images, "running"
    )
    return forward.compile().cost_analysis()["flops"] / number
