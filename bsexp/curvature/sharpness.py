"""Keskar's sharpness: how far the loss rises within a small box around a point."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

ValueAndGradient = Callable[[Any], tuple[float, Any]]


@dataclasses.dataclass(frozen=True)
class Search:
    """What one search for the maximum found.

    Attributes:
        value: 100 (f(x + y) - f(x)) / (1 + f(x)) at the best y it saw, a lower bound of the sharpness; NaN
            where it never left x, which says nothing about the box.
        status: "limit" (all its iterations used), "converged", "stationary" (the gradient at x is zero, so no
            search can start) or "failed" (its line search broke down, or the loss was not finite).
        message: why it ended, in its own words.
        evaluations: losses with gradients computed, the one at x included.
        iterations: iterations or steps done.
    """

    value: float
    status: str
    message: str
    evaluations: int
    iterations: int


@dataclasses.dataclass(frozen=True)
class Sharpness:
    """The sharpness of a point, from all searches.

    Attributes:
        value: the largest value found, a lower bound of phi; NaN where every search stayed at x.
        best: name of the search that found it; empty where none did.
        loss: f(x).
        searches: name -> search.
    """

    value: float
    best: str
    loss: float
    searches: dict[str, Search]


def keskar(
    function: ValueAndGradient,
    x: Any,
    start: tuple[float, Any],
    epsilon: float,
    *,
    iterations: int,
    steps: int,
) -> Sharpness:
    """Bound phi(epsilon) = 100 max_{y in C} (f(x + y) - f(x)) / (1 + f(x)) from below by two searches.

    C is the box |y_i| <= epsilon (|x_i| + 1): Metric 2.1 with A = I. Both searches start at y = 0: L-BFGS-B, as in the
    paper, and projected sign ascent. Either is a lower bound, so the larger one is the better; the paper's search
    alone can miss orders of magnitude where x is nearly stationary.

    Args:
        function: x -> (f(x), gradient), f above -1.
        x: the point, a pytree.
        start: ``function(x)``; given, since it is the same for every epsilon.
        epsilon: half-width of the box, relative to |x_i| + 1.
        iterations: iterations of L-BFGS-B; the paper used 10.
        steps: steps of sign ascent.

    Raises:
        ValueError: epsilon, iterations or steps is not above 0, or f(x) or its gradient is not finite.

    Wrong to use for comparing networks that differ by a rescaling: phi changes though the function does
    not (Dinh et al. 2017, arXiv:1703.04933).

    Source: Keskar et al. 2017, arXiv:1609.04836.
    """
    for name, number in (
        ("epsilon", epsilon),
        ("iterations", iterations),
        ("steps", steps),
    ):
        if not number > 0:
            raise ValueError(f"{name}={number}: must be > 0")
    if not (
        math.isfinite(start[0])
        and all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(start[1]))
    ):
        raise ValueError("start: the loss at x or its gradient is not finite")
    searches = {
        "lbfgsb": lbfgsb(function, x, start, epsilon, iterations),
        "sign_ascent": sign_ascent(function, x, start, epsilon, steps),
    }
    found = {
        name: search.value
        for name, search in searches.items()
        if not math.isnan(search.value)
    }
    best = max(found, key=found.__getitem__, default="")
    return Sharpness(found.get(best, math.nan), best, start[0], searches)


def lbfgsb(
    function: ValueAndGradient,
    x: Any,
    start: tuple[float, Any],
    epsilon: float,
    iterations: int,
) -> Search:
    """Maximise f over the box by SciPy's L-BFGS-B from y = 0; arguments as in `keskar`.

    SciPy's two tolerances are set to zero: they compare with the loss itself, which is near zero at a
    minimum, and would end the search because the loss is small and not because the box is used up.

    Source: Byrd et al. 1995, doi:10.1137/0916069.
    """
    origin, unravel = ravel_pytree(x)
    half_width = np.asarray(epsilon * (jnp.abs(origin) + 1), dtype=np.float64)
    seen = [start[0]]

    def negative(y: np.ndarray) -> tuple[float, np.ndarray]:
        if not y.any():
            value, gradient = start
        else:
            value, gradient = function(unravel(origin + jnp.asarray(y, origin.dtype)))
            seen.append(value)
        return -value, -np.asarray(ravel_pytree(gradient)[0], dtype=np.float64)

    result = scipy.optimize.minimize(
        negative,
        np.zeros(origin.size),
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(-half_width, half_width),
        options={"maxiter": iterations, "ftol": 0.0, "gtol": 0.0},
    )
    status = {0: "converged", 1: "limit"}.get(result.status, "failed")
    return _search(start, seen, status, str(result.message), int(result.nit))


def sign_ascent(
    function: ValueAndGradient,
    x: Any,
    start: tuple[float, Any],
    epsilon: float,
    steps: int,
) -> Search:
    """Maximise f over the box by y <- clip(y + b sign(grad f(x + y)), -b, b), b = epsilon (|x| + 1), from y = 0.

    Full steps from corner to corner; arguments as in `keskar`. It ends early where a corner maps to itself.
    """
    seen = [start[0]]
    gradient = start[1]
    offset = jax.tree.map(jnp.zeros_like, x)
    for step in range(1, steps + 1):
        point, moved, change = _sign_step(x, offset, gradient, epsilon)
        if not bool(change):
            return _search(
                start, seen, "converged", "the corner maps to itself", step - 1
            )
        offset = moved
        value, gradient = function(point)
        seen.append(value)
    return _search(start, seen, "limit", f"all {steps} steps used", steps)


@jax.jit
def _sign_step(
    x: Any, offset: Any, gradient: Any, epsilon: float
) -> tuple[Any, Any, jax.Array]:
    def moved(leaf: jax.Array, y: jax.Array, slope: jax.Array) -> jax.Array:
        half_width = epsilon * (jnp.abs(leaf) + 1)
        return jnp.clip(y + half_width * jnp.sign(slope), -half_width, half_width)

    new = jax.tree.map(moved, x, offset, gradient)
    changes = jax.tree.map(lambda a, b: (a != b).any(), new, offset)
    return jax.tree.map(jnp.add, x, new), new, jnp.stack(jax.tree.leaves(changes)).any()


def _search(
    start: tuple[float, Any],
    seen: list[float],
    status: str,
    message: str,
    iterations: int,
) -> Search:
    """Report the best loss seen; a search that stayed at x found nothing, which is not the same as flat."""
    if all(not bool(leaf.any()) for leaf in jax.tree.leaves(start[1])):
        return Search(
            math.nan,
            "stationary",
            "the gradient at the point is zero",
            len(seen),
            iterations,
        )
    finite = [value for value in seen[1:] if math.isfinite(value)]
    if not finite or max(finite) <= start[0]:
        return Search(math.nan, "failed", message, len(seen), iterations)
    if len(finite) < len(seen) - 1:
        status, message = "failed", f"a loss was not finite; {message}"
    return Search(
        100 * (max(finite) - start[0]) / (1 + start[0]),
        status,
        message,
        len(seen),
        iterations,
    )
