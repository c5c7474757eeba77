"""The training step of F1 against the arithmetic limit of the machine."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from benchmarks import f1, timing

from bsexp import config
from bsexp.data import batches
from bsexp.training import engine, optim, step

BATCH_SIZES = (16, 64, 256, 6_000)


def rows() -> Iterator[dict[str, Any]]:
    """Compare the training step of F1 with Adam to the matrix products in it, at this machine's matmul rate.

    The limit is 6 B P floating-point operations, P the entries of the kernels (1.455 million): a forward pass takes
    2 B P, a backward pass twice that. Adam's traffic of memory is not in it.
    """
    images, labels = f1.training_set()
    order = batches.epoch_order(step.order_key(0), 0, len(labels))
    matmul = timing.matmul()
    for size in BATCH_SIZES:
        yield _row(images, labels, order, size, matmul)


def _row(
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    size: int,
    matmul: Callable[[], Any],
) -> dict[str, Any]:
    optimizer = optim.build(config.Optimizer())
    chunk = engine.make_chunk(f1.MODEL, optimizer, size)
    steps = max(2, min(50, len(labels) // size))
    state = [step.init(f1.MODEL, optimizer, 0)]
    kernels = sum(
        leaf.size for leaf in jax.tree.leaves(state[0].parameters) if leaf.ndim == 2
    )

    def run() -> Any:
        state[0], sums = chunk(
            state[0], images, labels, order, jnp.int32(0), jnp.int32(steps)
        )
        return sums

    spent, matmul_spent, ratios = timing.paired(run, matmul)
    # From a ratio of times to one of work: steps of 6 B P operations against one matrix product.
    share = timing.MATMUL_OPERATIONS / (steps * 6 * size * kernels)
    return {
        "benchmark": "training step of F1, Adam",
        "batch_size": size,
        "milliseconds_per_step": 1e3 * spent / steps,
        "matmul_gflops": 1e-9 * timing.MATMUL_OPERATIONS / matmul_spent,
        "times_the_arithmetic_limit": statistics.median(ratios) * share,
        "lowest": ratios[0] * share,
        "highest": ratios[-1] * share,
    }
