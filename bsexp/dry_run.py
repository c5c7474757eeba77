"""What a study would cost: steps, FLOPs, memory and time of every run, with nothing trained."""

import collections
import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from bsexp import config, door, progress, study, workshop
from bsexp.data import examples, sources
from bsexp.training import footprint, mesh, recipe

MATMUL_SIZE = 2_048
# The share of the matmul's rate that training and measuring reach, seen on F1 on two CPU cores. A device that
# is bound by memory or by launches reaches less: the time is a guide, not a promise.
EFFICIENCY = 0.75


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


def show(plan: door.Plan, console: Console) -> None:
    """Print the table of runs; nothing is trained and nothing is written."""
    rate, flops = matmul_rate(), _measuring_flops(plan)
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
        training = 0.0 if plan.study.run else cost.flops / (EFFICIENCY * rate)
        measuring = flops[run.name] / (EFFICIENCY * rate)
        total += training + measuring
        cells = [
            f"{run.batch_size:,}",
            f"{cost.steps:,}",
            f"{cost.flops:.2e}",
            f"{cost.layout.population} x {cost.layout.data}",
            f"{cost.peak_bytes / 2**20:,.0f} MiB",
        ]
        table.add_row(
            run.name, *cells, progress.clock(training), progress.clock(measuring)
        )
    console.print(table)
    console.print(
        f"About {progress.clock(total)} in all, at {EFFICIENCY:.0%} of the {rate / 1e9:,.0f} GFLOP/s that a matrix product "
        f"of {MATMUL_SIZE} reaches here now; compilation comes on top. The mesh is runs side by side x devices that share a "
        f"batch, of {len(jax.devices())} there are.",
        highlight=False,
        soft_wrap=True,
    )
    for line in sorted({_streaming(run.base.data) for run in plan.runs} - {""}):
        console.print(line, highlight=False, soft_wrap=True)


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
    subject = footprint.Subject(
        run,
        workshop.build_model(run.base.model, found.image_shape, found.num_classes),
        found,
        recipe.layout(run, runs, found.train_examples),
    )
    return Cost(
        subject.layout,
        recipe.epochs(run, found.train_examples)[-1].end,
        footprint.flops(subject),
        footprint.peak_bytes(subject),
    )


def matmul_rate() -> float:
    """Return the floating-point operations per second of a float32 matrix product on the default device, now."""
    matrix = jax.random.normal(
        jax.random.key(0), (MATMUL_SIZE, MATMUL_SIZE), jnp.float32
    )
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    fastest = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * MATMUL_SIZE**3 / fastest


def _measuring_flops(plan: door.Plan) -> dict[str, float]:
    """Return the FLOPs of all measurements of each run, by its name."""
    flops = dict.fromkeys((run.name for run in plan.runs), 0.0)
    for item in study.wanted(plan):
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
