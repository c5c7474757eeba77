"""The trace of a symmetric operator from random probes, with its standard error."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = (
    4  # vectors that share one linearisation; more of them cost memory and save little
)


class Estimate(NamedTuple):
    """A mean of independent samples.

    Attributes:
        value: the mean.
        stderr: its standard error, sample standard deviation (n - 1) over sqrt(n).
        num_matvecs: operator-vector products spent.
        samples: float64 [n], the single samples.
    """

    value: float
    stderr: float
    num_matvecs: int
    samples: np.ndarray


def hutchinson(
    operator: Callable[[Any], Any], like: Any, key: jax.Array, num_probes: int
) -> Estimate:
    """Estimate tr(A) as the mean of v^T A v over Rademacher vectors v.

    Unbiased for any A; the variance of one sample is 2 (|A|_F^2 - sum_i A_ii^2) for symmetric A, so a diagonal
    operator is exact after one.

    Args:
        operator: block [k, ...] -> A block, on pytrees shaped as ``like`` with a leading axis of vectors.
        like: a pytree that gives shapes and dtypes.
        key: random key; equal keys give equal probes.
        num_probes: number of vectors, at least 2.

    Raises:
        ValueError: fewer than 2 probes, from which no standard error follows.

    Source: Hutchinson 1990, doi:10.1080/03610919008812866.
    """
    if num_probes < 2:
        raise ValueError(
            f"num_probes={num_probes}: must be >= 2, one sample has no standard error"
        )
    samples: list[float] = []
    for first in range(0, num_probes, BLOCK):
        size = min(BLOCK, num_probes - first)
        block = _rademacher(jax.random.fold_in(key, first), like, size)
        samples += np.asarray(
            _inner_products(block, operator(block)), dtype=np.float64
        ).tolist()
    values = np.array(samples)
    return Estimate(
        float(values.mean()),
        float(values.std(ddof=1) / np.sqrt(num_probes)),
        num_probes,
        values,
    )


def _rademacher(key: jax.Array, like: Any, size: int) -> Any:
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.rademacher(each, (size, *leaf.shape), leaf.dtype)
        for each, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


@jax.jit
def _inner_products(a: Any, b: Any) -> jax.Array:
    products = jax.tree.map(
        lambda u, v: (u * v).reshape(u.shape[0], -1).sum(axis=1), a, b
    )
    return jnp.stack(jax.tree.leaves(products)).sum(axis=0)
