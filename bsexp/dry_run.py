"""What a study would cost: steps, FLOPs, memory and time of every run, with nothing trained."""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from bsexp import config, door, items, progress, study
from bsexp.data import batches, sources
from bsexp.training import engine, optim, step

MATMUL_SIZE = 2_048
# The share of the matmul's rate that training and measuring reach, seen on F1 on two CPU cores. A device that
# is bound by memory or by launches reaches less: the time is a guide, not a promise.
EFFICIENCY = 0.75


class Cost(NamedTuple):
    """The cost of training one run, from its compiled program."""

    steps: int
    flops: float
    peak_bytes: int


def show(plan: door.Plan, console: Console) -> None:
    """Print the table of runs; nothing is trained and nothing is written."""
    rate, flops = matmul_rate(), _measuring_flops(plan)
    costs = {
        run.group: training_cost(run)
        for run in {run.group: run for run in plan.runs}.values()
    }
    table = Table(
        "run", "batch size", "steps", "FLOPs", "peak memory", "training", "measuring"
    )
    total = 0.0
    for run in plan.runs:
        cost = costs[run.group]
        training = 0.0 if plan.study.run else cost.flops / (EFFICIENCY * rate)
        measuring = flops[run.name] / (EFFICIENCY * rate)
        total += training + measuring
        cells = [
            f"{run.batch_size:,}",
            f"{cost.steps:,}",
            f"{cost.flops:.2e}",
            f"{cost.peak_bytes / 2**20:,.0f} MiB",
        ]
        table.add_row(
            run.name, *cells, progress.clock(training), progress.clock(measuring)
        )
    console.print(table)
    console.print(
        f"About {progress.clock(total)} in all, at {EFFICIENCY:.0%} of the {rate / 1e9:,.0f} GFLOP/s that a matrix product "
        f"of {MATMUL_SIZE} reaches here now; compilation comes on top.",
        highlight=False,
        soft_wrap=True,
    )


def training_cost(run: config.Run) -> Cost:
    """Compile a run's program for abstract arguments and read its cost.

    FLOPs are those of one compiled update times the updates; memory is the peak of the whole program: data set,
    state and temporaries.
    """
    found = sources.describe(run.base.data.name, run.base.data.dir)
    model = study.build_model(run.base.model, found.image_shape, found.num_classes)
    optimizer = optim.build(run.base.optimizer)
    state = jax.eval_shape(lambda: step.init(model, optimizer, run.seed))

    def shaped(dtype: type, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    size, total = run.batch_size, found.train_examples
    inputs = shaped(jnp.float32, size, *found.image_shape), shaped(jnp.int32, size)
    update = jax.jit(step.make(model, optimizer)).lower(state, *inputs).compile()
    arguments = (
        shaped(jnp.uint8, total, *found.image_shape),
        *(shaped(jnp.int32, total), shaped(jnp.int32, total)),
        *(shaped(jnp.int32), shaped(jnp.int32)),
    )
    program = (
        engine.make_chunk(model, optimizer, size)
        .lower(state, *arguments)
        .compile()
        .memory_analysis()
    )
    peak = (
        program.argument_size_in_bytes
        + program.output_size_in_bytes
        + program.temp_size_in_bytes
    )
    steps = batches.steps_per_epoch(total, size) * run.base.train.epochs
    flops = update.cost_analysis()["flops"] * steps
    return Cost(steps, flops, peak - program.alias_size_in_bytes)


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
    for item in items.plan_items(plan, study.tasks(plan.study)):
        flops[item.run.name] += item.task.cost * _forward_flops(
            item.run.base.data, item.run.base.model
        )
    return flops


@functools.cache
def _forward_flops(
    data: config.Data, network: config.Model, examples: int = 1_000
) -> float:
    """Return the FLOPs of a forward pass of one example, averaged over a batch."""
    found = sources.describe(data.name, data.dir)
    model = study.build_model(network, found.image_shape, found.num_classes)
    parameters, statistics = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((examples, *found.image_shape), jnp.float32)
    forward = jax.jit(model.apply, static_argnums=3).lower(
        parameters, statistics, images, "running"
    )
    return forward.compile().cost_analysis()["flops"] / examples
