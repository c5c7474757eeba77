"""The training step of F1 against the arithmetic limit of the machine."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
from benchmarks import f1, timing

BATCH_SIZES = (16, 64, 256, 6_000)


def rows() -> Iterator[dict[str, Any]]:
    """Compare the training step of F1 with Adam to the matrix products in it, at this machine's matmul rate.

    The limit is 6 B P floating-point operations, P the entries of the kernels (1.455 million): a forward pass takes
    2 B P, a backward pass twice that. Adam's traffic of memory is not in it.
    """
    matmul = timing.matmul()
    for size in BATCH_SIZES:
        yield _row(size, matmul)


def _row(size: int, matmul: Callable[[], Any]) -> dict[str, Any]:
    cohort = f1.Cohort(size)
    steps = max(2, min(50, cohort.trainer.examples // size))
    parameters, _ = jax.eval_shape(f1.MODEL.init, jax.random.key(0))
    kernels = sum(leaf.size for leaf in jax.tree.leaves(parameters) if leaf.ndim == 2)
    spent, matmul_spent, ratios = timing.paired(lambda: cohort.run(0, steps), matmul)
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
