"""Timings taken in turn, and this machine's matmul rate to hold them against."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

ROUNDS = 15
MATMUL_SIZE = 4_096
MATMUL_OPERATIONS = 2 * MATMUL_SIZE**3


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


def spread(name: str, ratios: list[float], factor: float = 1.0) -> dict[str, float]:
    """Return the median of sorted ratios under a name, and the lowest and highest, all times a factor."""
    return {
        name: factor * statistics.median(ratios),
        "lowest": factor * ratios[0],
        "highest": factor * ratios[-1],
    }


def seconds(call: Callable[[], Any]) -> float:
    """Return the wall time of one call, waiting for the device."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def matmul() -> Callable[[], Any]:
    """Return a call of one matrix product of MATMUL_OPERATIONS."""
    matrix = jax.random.normal(jax.random.key(0), (MATMUL_SIZE, MATMUL_SIZE))
    product = jax.jit(jnp.matmul)
    return lambda: product(matrix, matrix)
