"""The largest eigenvalue of a symmetric operator by Lanczos with full re-orthogonalisation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree


class Eigenpair(NamedTuple):
    """An approximate eigenpair (value, vector) and how good it is.

    Attributes:
        value: Ritz value; a lower bound of the largest eigenvalue up to rounding.
        vector: unit vector, a pytree.
        residual: |A v - value v|_2, computed with one more product: an eigenvalue lies within this distance.
        converged: whether the residual is at most tolerance x |value|.
        num_matvecs: operator-vector products spent.
    """

    value: float
    vector: Any
    residual: float
    converged: bool
    num_matvecs: int


def largest(
    operator: Callable[[Any], Any],
    like: Any,
    key: jax.Array,
    *,
    iterations: int,
    tolerance: float,
) -> Eigenpair:
    """Find the algebraically largest eigenvalue of a symmetric operator.

    Args:
        operator: block [1, ...] -> A block, on pytrees shaped as ``like`` with a leading axis of one vector.
        like: a pytree that gives shapes and dtypes.
        key: random key of the normal start vector.
        iterations: most Lanczos steps; the basis takes iterations x dimension numbers of memory.
        tolerance: stop when the estimated residual is at most tolerance x |value|.

    Raises:
        ValueError: ``iterations`` or ``tolerance`` is not above 0, or the operator returns NaN or infinity.

    Source: Paige 1972, doi:10.1093/imamat/10.3.373; twice is enough: Giraud et al. 2005,
    doi:10.1007/s00211-005-0615-4.
    """
    if iterations < 1 or tolerance <= 0:
        raise ValueError(
            f"iterations={iterations} and tolerance={tolerance}: must be > 0"
        )
    flat, unravel = ravel_pytree(like)

    def product(vector: jax.Array) -> jax.Array:
        block = jax.tree.map(lambda leaf: leaf[None], unravel(vector))
        return ravel_pytree(operator(block))[0]

    start = jax.random.normal(key, flat.shape, flat.dtype)
    basis = [start / jnp.linalg.norm(start)]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    while True:
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        if not np.isfinite(diagonal[-1]):
            raise ValueError("operator: returned a value that is not finite")
        remainder = _orthogonalised(image, basis)
        length = float(jnp.linalg.norm(remainder))
        values, vectors = scipy.linalg.eigh_tridiagonal(
            np.array(diagonal), np.array(off_diagonal)
        )
        value, weights = values[-1], vectors[:, -1]
        small = length * abs(weights[-1]) <= tolerance * abs(value)
        invariant = length <= np.finfo(flat.dtype).eps * max(map(abs, values))
        if small or invariant or len(diagonal) == min(iterations, flat.size):
            break
        off_diagonal.append(length)
        basis.append(remainder / length)
    vector = sum(
        float(weight) * each for weight, each in zip(weights, basis, strict=True)
    )
    vector = vector / jnp.linalg.norm(vector)
    residual = float(jnp.linalg.norm(product(vector) - float(value) * vector))
    # Rounding keeps a residual from falling below machine precision times the norm of the operator.
    floor = 10 * np.finfo(flat.dtype).eps * max(map(abs, values))
    converged = bool(residual <= max(tolerance * abs(value), floor))
    return Eigenpair(
        float(value), unravel(vector), residual, converged, len(diagonal) + 1
    )


def _orthogonalised(vector: jax.Array, basis: list[jax.Array]) -> jax.Array:
    """Remove the components along every basis vector, twice: once leaves rounding errors that grow."""
    for _ in range(2):
        for each in basis:
            vector = vector - (each @ vector) * each
    return vector
