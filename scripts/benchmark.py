"""Measure bsexp's speed as ratios within one run, and write them to results/benchmarks/.

    python scripts/benchmark.py training     the training step of F1 against the arithmetic limit of this machine
    python scripts/benchmark.py sharpness    ten iterations of L-BFGS-B against scipy.optimize.minimize

Each ratio compares two timings taken in turn, A B A B ..., so that it holds when the machine's speed drifts.
Nothing else should run meanwhile.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from bsexp import config, environment, models, results
from bsexp.curvature import lbfgsb
from bsexp.data import batches, sources
from bsexp.training import engine, optim, step

ROUNDS = 15
MATMUL_SIZE = 4_096
BATCH_SIZES = (16, 64, 256, 6_000)
FOLDER = Path(__file__).parent.parent / "results" / "benchmarks"


def main(words: list[str]) -> int:
    """Run one benchmark, print its rows and write them with the machine they were measured on."""
    benchmarks = {"training": training, "sharpness": sharpness}
    if len(words) != 1 or words[0] not in benchmarks:
        print(
            f"usage: python scripts/benchmark.py {'|'.join(benchmarks)}",
            file=sys.stderr,
        )
        return 2
    rows = benchmarks[words[0]]()
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in row.items()
            )
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": results.SCHEMA,
        "command": f"python scripts/benchmark.py {words[0]}",
        "rounds": ROUNDS,
        "environment": environment.describe(),
        "rows": rows,
    }
    results.write_json(FOLDER / f"{words[0]}.json", content)
    return 0


def paired(
    first: Callable[[], Any], second: Callable[[], Any]
) -> tuple[float, float, list[float]]:
    """Time two calls in turn; return their median seconds and the sorted ratios first / second, pair by pair."""
    seconds(first), seconds(second)  # compile, and leave nothing in the queue
    times = [(seconds(first), seconds(second)) for _ in range(ROUNDS)]
    ratios = sorted(a / b for a, b in times)
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        ratios,
    )


def seconds(call: Callable[[], Any]) -> float:
    """Return the wall time of one call, waiting for the device."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def training() -> list[dict[str, Any]]:
    """Compare the training step of F1 with Adam to the matrix products in it, at this machine's matmul rate.

    The limit is 6 B P floating-point operations, P the entries of the kernels (1.455 million): a forward pass takes
    2 B P, a backward pass twice that. Adam's traffic of memory is not in it.
    """
    data = sources.load("mnist", "")
    images, labels = jnp.asarray(data.train.images), jnp.asarray(data.train.labels)
    model = models.build(
        "F1",
        data.train.images.shape[1:],
        data.num_classes,
        config.Model().batch_norm_momentum,
    )
    matrix = jax.random.normal(jax.random.key(0), (MATMUL_SIZE, MATMUL_SIZE))
    product = jax.jit(jnp.matmul)
    order = batches.epoch_order(step.order_key(0), 0, len(labels))
    return [
        _training_row(
            model, images, labels, order, size, lambda: product(matrix, matrix)
        )
        for size in BATCH_SIZES
    ]


def _training_row(
    model: models.Model,
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    size: int,
    matmul: Callable[[], Any],
) -> dict[str, Any]:
    optimizer = optim.build(config.Optimizer())
    chunk = engine.make_chunk(model, optimizer, size)
    steps = max(2, min(50, len(labels) // size))
    state = [step.init(model, optimizer, 0)]
    kernels = sum(
        leaf.size for leaf in jax.tree.leaves(state[0].parameters) if leaf.ndim == 2
    )

    def run() -> Any:
        state[0], sums = chunk(
            state[0], images, labels, order, jnp.int32(0), jnp.int32(steps)
        )
        return sums

    spent, matmul_spent, ratios = paired(run, matmul)
    # From a ratio of times to one of work: steps of 6 B P operations against one product of 2 n^3.
    share = 2 * MATMUL_SIZE**3 / (steps * 6 * size * kernels)
    return {
        "benchmark": "training step of F1, Adam",
        "batch_size": size,
        "milliseconds_per_step": 1e3 * spent / steps,
        "matmul_gflops": 2e-9 * MATMUL_SIZE**3 / matmul_spent,
        "times_the_arithmetic_limit": statistics.median(ratios) * share,
        "lowest": ratios[0] * share,
        "highest": ratios[-1] * share,
    }


def sharpness() -> list[dict[str, Any]]:
    """Compare ten iterations of L-BFGS-B on as many variables as F1 has, on a function that costs next to nothing."""
    size = 1_462_794
    generator = np.random.default_rng(0)
    half_width = 1e-3 * (1 + np.abs(generator.normal(size=size)))
    slope, curvature = generator.normal(size=size), generator.uniform(size=size)

    def function(y: np.ndarray) -> tuple[float, np.ndarray]:
        return -float(slope @ y + 50 * (curvature * y) @ y), -(
            slope + 100 * curvature * y
        )

    def public() -> Any:
        bounds = scipy.optimize.Bounds(-half_width, half_width)
        options = {"maxiter": 10, "ftol": 0.0, "gtol": 0.0}
        return scipy.optimize.minimize(
            function,
            np.zeros(size),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options=options,
        ).fun

    ours, theirs, ratios = paired(
        lambda: lbfgsb.minimise(function, half_width, 10).value, public
    )
    return [
        {
            "benchmark": "L-BFGS-B, ten iterations, 1 462 794 variables",
            "seconds": ours,
            "seconds_scipy_optimize_minimize": theirs,
            "ratio": statistics.median(ratios),
            "lowest": ratios[0],
            "highest": ratios[-1],
        }
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
