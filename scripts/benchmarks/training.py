"""The training step of F1 and C1: against the machine's arithmetic, PyTorch, and one run after the other."""

import functools
import multiprocessing
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from benchmarks import cohorts, f1, images, timing, torch_training
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec

from bsexp import config
from bsexp.training import mesh

BATCH_SIZES = (16, 256, 6_000)
PAIR = 2
DEVICES = (2, 4, 8)
ONE, IN_TURN, TOGETHER = (
    "one run",
    "two runs one after the other",
    "two runs side by side",
)


def rows() -> Iterator[dict[str, Any]]:
    """Time updates of F1 and C1 with Adam, of one run and of two side by side: on two virtual devices, or on an accelerator.

    The arithmetic limit is 6 B P floating-point operations, P the entries of the kernels (1.455 million): a forward
    pass takes 2 B P, a backward pass twice that. Adam's traffic of memory is not in it; Adam alone has rows of its own.
    """
    # Counted in a process of its own: with eight devices there, threads of all of them, each update takes longer.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        communication = apart.submit(_communications).result()
    jax.config.update("jax_num_cpu_devices", PAIR)
    matmul = timing.matmul()
    for size in BATCH_SIZES:
        yield from _speed(size, matmul)
    yield from _convolutional(256, 8)
    yield from communication


def _speed(size: int, matmul: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    base = config.Base()
    rows_of_devices = min(PAIR, jax.device_count())
    alone, other = (cohorts.Cohort(base, size) for _ in range(PAIR))
    pair = cohorts.Cohort(base, size, mesh.Layout(rows_of_devices, 1, PAIR))
    # At least two, and no more than take half a second.
    steps = max(2, min(50, 20_000 // size))
    kernels = sum(
        leaf.size
        for leaf in jax.tree.leaves(jax.eval_shape(f1.MODEL.init, jax.random.key(0)))
        if leaf.ndim == 2
    )

    def one_after_the_other() -> Any:
        # As a study trains them: the second begins when the first has ended.
        jax.block_until_ready(alone.advance(steps))
        return other.advance(steps)

    def side_by_side() -> Any:
        return pair.advance(steps)

    # From a ratio of times to one of work: steps of 6 B P operations against one matrix product.
    share = timing.MATMUL_OPERATIONS / (steps * 6 * size * kernels)
    for name, call, runs in (
        (ONE, lambda: alone.advance(steps), 1),
        (TOGETHER, side_by_side, PAIR),
    ):
        spent, matmul_spent, ratios = timing.paired(call, matmul)
        yield {
            "benchmark": "update of F1, Adam",
            "batch_size": size,
            "cohort": name,
            "milliseconds_per_update": 1e3 * spent / steps / runs,
            "matmul_gflops": 1e-9 * timing.MATMUL_OPERATIONS / matmul_spent,
            **timing.spread("times_the_arithmetic_limit", ratios, share / runs),
        }
    _, _, ratios = timing.paired(one_after_the_other, side_by_side)
    yield {
        "benchmark": "two runs of F1 one after the other, against side by side",
        "batch_size": size,
        **timing.spread("times_the_throughput", ratios),
    }
    # Of larger batches it is a small part, and their few updates a call are mostly the call.
    if size == BATCH_SIZES[0]:
        spent, own, ratios = timing.paired(side_by_side, _adam(base, steps))
        yield {
            "benchmark": "update of F1, Adam, against Adam alone",
            "batch_size": size,
            "cohort": TOGETHER,
            "milliseconds_per_update": 1e3 * spent / steps / PAIR,
            "milliseconds_of_adam": 1e3 * own / steps / PAIR,
            **timing.spread("times_adam_alone", ratios),
        }
    yield from _against_torch(
        base,
        size,
        steps,
        {IN_TURN: one_after_the_other, TOGETHER: side_by_side},
    )


def _adam(base: config.Base, steps: int) -> Callable[[], Any]:
    """Return a call of what Adam does in so many updates of two runs side by side, with gradients that are there."""
    devices = min(PAIR, jax.device_count())
    sharding = NamedSharding(
        jax.make_mesh((devices,), ("runs",)), PartitionSpec("runs")
    )
    optimizer = optax.adam(base.optimizer.learning_rate)
    shapes, _ = jax.eval_shape(f1.MODEL.init, jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros((PAIR, *leaf.shape)), shapes)
    parameters, gradients = (jax.device_put(zeros, sharding) for _ in range(2))
    state = jax.jit(jax.vmap(optimizer.init), out_shardings=sharding)(parameters)

    def several(parameters: Any, state: Any, gradients: Any) -> Any:
        def update(carry: Any, factor: jax.Array) -> tuple[Any, None]:
            parameters, state = carry
            # Not the same in each update, or what Adam makes of them would be computed before.
            given = jax.tree.map(lambda leaf: factor * leaf, gradients)
            changes, state = optimizer.update(given, state)
            return (optax.apply_updates(parameters, changes), state), None

        return jax.lax.scan(update, (parameters, state), jnp.arange(1.0, steps + 1))[0]

    program = jax.jit(jax.vmap(several), donate_argnums=(0, 1))
    carry = parameters, state

    def call() -> Any:
        nonlocal carry
        carry = program(*carry, gradients)
        return carry

    return call


def _against_torch(
    base: config.Base, size: int, steps: int, calls: dict[str, Callable[[], Any]]
) -> Iterator[dict[str, Any]]:
    """Compare ``steps`` updates of PyTorch with those of each of two runs, by how these train, or of one run."""
    for name, form in torch_training.forms().items():
        peer = functools.partial(torch_training.epoch(base, size, form), steps)
        for cohort, ours in calls.items():
            runs = 1 if cohort == ONE else PAIR
            spent, own, ratios = timing.paired(peer, ours)
            yield {
                "benchmark": f"update of {base.model.name} in PyTorch, {name}, against ours",
                "batch_size": size,
                "cohort": cohort,
                "milliseconds_per_update_peer": 1e3 * spent / steps,
                "milliseconds_per_update": 1e3 * own / steps / runs,
                **timing.spread("times_as_fast", ratios, runs),
            }


def _convolutional(size: int, steps: int) -> Iterator[dict[str, Any]]:
    """Compare one run of C1 with PyTorch, which has the whole machine as well."""
    with images.prepared(size * steps) as data:
        base = config.Base(data=data, model=config.Model(name="C1"))
        alone = cohorts.Cohort(base, size)
        yield from _against_torch(
            base, size, steps, {ONE: lambda: alone.advance(steps)}
        )


def _communications() -> list[dict[str, Any]]:
    jax.config.update("jax_num_cpu_devices", max(DEVICES))
    return [
        _communication(devices) for devices in DEVICES if devices <= jax.device_count()
    ]


def _communication(devices: int) -> dict[str, Any]:
    """Count what an update hands to its all-reduces, at 512 examples a device, against the gradient alone."""
    cohort = cohorts.Cohort(config.Base(), 512 * devices, mesh.Layout(1, devices, 1))
    text = cohort.compiled()
    parameters, _ = jax.eval_shape(f1.MODEL.init, jax.random.key(0))
    gradient = 4 * ravel_pytree(jax.tree.map(_zeros, parameters))[0].size
    moved = sum(
        4 * int(np.prod([int(n) for n in shape.split(",") if n] or [1]))
        for operands in re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
        for shape in re.findall(r"f32\[([\d,]*)\]", operands)
    )
    return {
        "benchmark": "bytes that an update of F1 reduces over the devices",
        "batch_size": 512 * devices,
        "devices": devices,
        "bytes": moved,
        "bytes_of_the_gradient": gradient,
        "times_the_gradient": moved / gradient,
    }


def _zeros(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.zeros(leaf.shape, leaf.dtype)
