"""A random subspace of the parameter space: the columns of a tall matrix A that need not be stored."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bsexp.curvature import precise

Pytree = Any

# A is drawn by blocks of rows: A z, A^T v and A^T A then each take one pass over it, and no more than one block need
# exist at a time. With p = 100 normal numbers a row, 2^14 rows were the fastest of 2^12 to 2^18 on two cores.
ROWS = 2**14

# Drawing F1's 1.46 M x 100 numbers took 1.2 s on two cores and a product with them 0.03 to 0.1 s, so they are kept where
# they take at most this much (5.4 M parameters at p = 100 in float32) and drawn again for each product where not.
KEPT_BYTES = 2 * 2**30


class Subspace(NamedTuple):
    """The span of the columns of A [n, p]: independent normal numbers, each column scaled to one length.

    Attributes:
        expand: z [p] -> A z, a pytree like x.
        project: pytree v -> A^T v [p].
        gram: float64 [p, p], A^T A.
    """

    expand: Callable[[jax.Array], Pytree]
    project: Callable[[Pytree], jax.Array]
    gram: np.ndarray

    def coordinates(self, v: Pytree) -> np.ndarray:
        """Return A^+ v, float64 [p]: the coordinates of the point of the subspace that is nearest to v."""
        projected = np.asarray(self.project(v), dtype=np.float64)
        return np.linalg.solve(self.gram, projected)


def random(
    key: jax.Array, like: Pytree, dimension: int, *, length: float = 1.0
) -> Subspace:
    """Draw a random subspace.

    A depends on the key, n, p and the dtype alone: it is the same numbers whether it is kept or drawn again.

    Args:
        key: random key; equal keys give equal subspaces.
        like: a pytree that gives shapes and dtypes, n numbers in all.
        dimension: p, far below n: columns are then nearly orthogonal, and the Gram matrix is well conditioned.
        length: of every column. Keskar et al. do not say theirs, and phi hangs on it: at F1's minimum of large batches
            phi(1e-3), p = 100, was 3e-5 with length 1, and 0.8 or 16 with sqrt(n), by the mode of batch norm. Their
            Table 4 has 9.22.

    Raises:
        ValueError: ``dimension`` is not between 1 and n, or ``length`` is not above 0.
    """
    flat, unravel = ravel_pytree(like)
    if not 1 <= dimension <= flat.size:
        raise ValueError(
            f"dimension={dimension}: must be between 1 and {flat.size}, the number of parameters"
        )
    if not (length > 0 and math.isfinite(length)):
        raise ValueError(f"length={length}: must be finite and > 0")
    edges = [*range(0, flat.size, ROWS), flat.size]
    sizes = np.diff(edges).tolist()

    def drawn(index: int) -> jax.Array:
        return _normal(key, index, (sizes[index], dimension), flat.dtype.name)

    keep = dimension * flat.size * flat.dtype.itemsize <= KEPT_BYTES
    kept = [drawn(index) for index in range(len(sizes))] if keep else []

    def blocks() -> Iterator[jax.Array]:
        return iter(kept) if keep else map(drawn, range(len(sizes)))

    products = sum(np.asarray(_gram(rows), dtype=np.float64) for rows in blocks())
    factors = length / np.sqrt(np.diag(products))
    scale = jnp.asarray(factors, flat.dtype)

    def expand(z: jax.Array) -> Pytree:
        return unravel(jnp.concatenate([_times(rows, scale * z) for rows in blocks()]))

    def project(v: Pytree) -> jax.Array:
        vector = ravel_pytree(v)[0]
        parts = [
            _transposed_times(rows, vector[first : first + len(rows)])
            for first, rows in zip(edges[:-1], blocks(), strict=True)
        ]
        return scale * sum(parts)

    return Subspace(expand, project, products * np.outer(factors, factors))


@functools.partial(jax.jit, static_argnames=("shape", "dtype"))
def _normal(
    key: jax.Array, index: int, shape: tuple[int, int], dtype: str
) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(key, index), shape, dtype)


@jax.jit
def _times(rows: jax.Array, z: jax.Array) -> jax.Array:
    return precise.matmul(rows, z)


@jax.jit
def _transposed_times(rows: jax.Array, v: jax.Array) -> jax.Array:
    return precise.matmul(rows.T, v)


@jax.jit
def _gram(rows: jax.Array) -> jax.Array:
    return precise.matmul(rows.T, rows)
