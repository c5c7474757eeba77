"""Paths, planes and directions through the parameter space, to look at a loss along them.

Batch-norm statistics at a point between trained ones are the affair of the loss that is given: kept from elsewhere they
belong to another network.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bsexp.curvature import block, operator, precise

Pytree = Any
FILTER_AXES = 2  # at least; leaves with fewer have no filters


class Plane(NamedTuple):
    """The points origin + a first + b second.

    Along the top eigenvectors v1, v2 of a Hessian at x: Plane(x, v1, v2); along random directions:
    Plane(x, filter_normalised(key1, x), filter_normalised(key2, x)).

    Attributes:
        origin: a pytree.
        first: a pytree like it.
        second: a pytree like it.
    """

    origin: Pytree
    first: Pytree
    second: Pytree


def line(start: Pytree, end: Pytree, alpha: float) -> Pytree:
    """Return (1 - alpha) start + alpha end, the point at ``alpha`` on the straight line.

    Args:
        start: pytree of the point at alpha = 0.
        end: pytree of the point at alpha = 1, of the same structure.
        alpha: position; outside [0, 1] the line is extended.

    Raises:
        ValueError: ``end`` is not like ``start``.

    Source: Goodfellow et al. 2015, arXiv:1412.6544.
    """
    _check_alike("end", end, start)
    return jax.tree.map(lambda a, b: (1 - alpha) * a + alpha * b, start, end)


def arc(start: Pytree, end: Pytree, alpha: float) -> Pytree:
    """Return cos(alpha pi / 2) start + sin(alpha pi / 2) end, the point at ``alpha`` on a quarter of an ellipse.

    Args:
        start: pytree of the point at alpha = 0.
        end: pytree of the point at alpha = 1, of the same structure.
        alpha: position; outside [0, 1] the ellipse is followed further.

    Raises:
        ValueError: ``end`` is not like ``start``.

    Wrong to use to tell whether a barrier lies between two points: even from a point to itself it goes away, to sqrt(2)
    times that point half-way.

    Source: Keskar et al. 2017, Figure 7, arXiv:1609.04836.
    """
    _check_alike("end", end, start)
    angle = alpha * np.pi / 2
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return jax.tree.map(lambda a, b: cos * a + sin * b, start, end)


def filter_normalised(key: jax.Array, x: Pytree) -> Pytree:
    """Draw a random normal direction, each filter rescaled to the norm of the corresponding filter in x.

    A filter makes one output: a column of a dense kernel [in, out], a slice [h, w, in] of a convolution's kernel
    [h, w, in, out]; the last axis counts filters. Leaves with fewer than 2 axes (biases, scale and offset of batch
    norm) are not moved.

    Args:
        key: random key.
        x: the point.

    Raises:
        ValueError: no leaf of x has filters, or x is not finite.

    Wrong to use to find a sharp direction: where few eigenvalues are large, a random direction sees little of them.

    Source: Li et al. 2018, arXiv:1712.09913.
    """
    if not operator.finite(x):
        raise ValueError("x: holds a number that is not finite")
    if all(leaf.ndim < FILTER_AXES for leaf in jax.tree.leaves(x)):
        raise ValueError(f"x: no leaf has the {FILTER_AXES} axes of filters")
    return _rescaled(block.vector(block.normal(key, x, 1), 0), x)


def through(p0: Pytree, p1: Pytree, p2: Pytree) -> tuple[Plane, np.ndarray]:
    """Return the plane through three points, origin p0, with orthonormal directions: the first towards p1.

    Args:
        p0: a pytree, as the other two.
        p1: not p0.
        p2: not on the line through p0 and p1.

    Returns:
        (plane, float64 [3, 2], the coordinates of p0, p1 and p2: [[0, 0], [a, 0], [b, c]] with a and c above 0).

    Raises:
        ValueError: a point is not like p0 or not finite, p1 is p0, or p2 is on the line, each up to rounding.

    Source: Garipov et al. 2018, arXiv:1802.10026.
    """
    for name, each in (("p0", p0), ("p1", p1), ("p2", p2)):
        _check_alike(name, each, p0)
        if not operator.finite(each):
            raise ValueError(f"{name}: holds a number that is not finite")
    plane, coordinates, rounding = _through(p0, p1, p2)
    found = np.asarray(coordinates, np.float64)
    if not found[1, 0] > rounding:
        raise ValueError("p1: is p0, up to rounding")
    if not found[2, 1] > rounding:
        raise ValueError("p2: is on the line through p0 and p1, up to rounding")
    return plane, found


@jax.jit
def point(plane: Plane, a: float, b: float) -> Pytree:
    """Return origin + a first + b second."""
    return jax.tree.map(
        lambda origin, first, second: (
            origin
            + jnp.asarray(a, origin.dtype) * first
            + jnp.asarray(b, origin.dtype) * second
        ),
        *plane,
    )


def surface(
    value: Callable[[Pytree], float],
    plane: Plane,
    first_grid: np.ndarray,
    second_grid: np.ndarray,
) -> np.ndarray:
    """Compute value(origin + a_i first + b_j second) on a grid, one point after the other: float64 [I, J].

    Args:
        value: x -> a number, for instance `Objective.value`; one that is not finite is kept.
        plane: where to look.
        first_grid: [I], coordinates along the first direction.
        second_grid: [J], along the second; np.zeros(1) for the profile along the first.

    Raises:
        ValueError: a direction is not like the origin, or a grid is not one row of finite numbers.
    """
    _check_alike("plane.first", plane.first, plane.origin)
    _check_alike("plane.second", plane.second, plane.origin)
    for name, grid in (("first_grid", first_grid), ("second_grid", second_grid)):
        if np.ndim(grid) != 1 or np.size(grid) == 0 or not np.isfinite(grid).all():
            raise ValueError(f"{name}: must be one row of finite numbers")
    return np.array(
        [[float(value(point(plane, a, b))) for b in second_grid] for a in first_grid],
        np.float64,
    )


@jax.jit
def _rescaled(direction: Pytree, x: Pytree) -> Pytree:
    def rescaled(drawn: jax.Array, leaf: jax.Array) -> jax.Array:
        if leaf.ndim < FILTER_AXES:
            return jnp.zeros_like(leaf)
        axes = tuple(range(leaf.ndim - 1))
        return drawn * jnp.sqrt((leaf**2).sum(axes) / (drawn**2).sum(axes))

    return jax.tree.map(rescaled, direction, x)


@jax.jit
def _through(p0: Pytree, p1: Pytree, p2: Pytree) -> tuple[Plane, jax.Array, jax.Array]:
    """Orthonormalise p1 - p0 and p2 - p0; also return the length below which a direction is rounding."""
    origin, restore = ravel_pytree(p0)
    to_p1, to_p2 = ravel_pytree(p1)[0] - origin, ravel_pytree(p2)[0] - origin
    first = to_p1 / jnp.linalg.norm(to_p1)
    rest = to_p2
    for _ in range(2):  # once leaves rounding errors along the first
        rest = rest - precise.matmul(rest, first) * first
    second = rest / jnp.linalg.norm(rest)
    zero = jnp.zeros_like(origin[0])
    coordinates = jnp.array(
        [
            [zero, zero],
            [jnp.linalg.norm(to_p1), zero],
            [precise.matmul(to_p2, first), jnp.linalg.norm(rest)],
        ]
    )
    lengths = sum(jnp.linalg.norm(each) for each in (origin, to_p1, to_p2))
    rounding = 4 * jnp.finfo(origin.dtype).eps * lengths
    return Plane(p0, restore(first), restore(second)), coordinates, rounding


def _check_alike(name: str, tree: Pytree, other: Pytree) -> None:
    if jax.tree.structure(tree) != jax.tree.structure(other) or any(
        jnp.shape(a) != jnp.shape(b)
        for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    ):
        raise ValueError(f"{name}: must have the structure and shapes of the other")
