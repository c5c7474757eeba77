"""Keskar's sharpness: how far the loss rises within a small box around a point."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bsexp.curvature import lbfgsb
from bsexp.curvature.operator import Objective


@dataclasses.dataclass(frozen=True)
class Search:
    """What one search for the maximum found.

    Attributes:
        value: 100 (f(x + y) - f(x)) / (1 + f(x)) at the best y it saw, a lower bound of the sharpness; NaN
            where it never left x, which says nothing about the box.
        status: "limit" (all its iterations used), "converged", "stationary" (the gradient at x is zero, so no
            search can start) or "failed" (its line search broke down, or the loss was not finite).
        message: why it ended, in its own words.
        evaluations: values of f computed, the one at x included.
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
    loss: Objective,
    x: Any,
    epsilon: float,
    *,
    iterations: int,
    steps: int,
    guide: Objective | None = None,
) -> Sharpness:
    """Bound phi(epsilon) = 100 max_{y in C} (f(x + y) - f(x)) / (1 + f(x)) from below by two searches.

    C is the box |y_i| <= epsilon (|x_i| + 1): Metric 2.1 with A = I. Both searches start at y = 0: L-BFGS-B, as in the
    paper, and projected sign ascent. Either gives a lower bound, so the larger one is the better; the paper's
    search alone can miss orders of magnitude where x is nearly stationary.

    Args:
        loss: f, above -1; from `operator.objective`.
        x: the point, a pytree.
        epsilon: half-width of the box, relative to |x_i| + 1.
        iterations: iterations of L-BFGS-B; the paper used 10.
        steps: steps of sign ascent.
        guide: leads the sign ascent, see `sign_ascent`.

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
    start = loss.value_and_gradient(x)
    if not (
        math.isfinite(start[0])
        and all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(start[1]))
    ):
        raise ValueError("x: the loss there, or its gradient, is not finite")
    searches = {
        "lbfgsb": lbfgsb_search(loss, x, start, epsilon, iterations),
        "sign_ascent": sign_ascent(loss, x, start, epsilon, steps, guide=guide),
    }
    found = {
        name: search.value
        for name, search in searches.items()
        if not math.isnan(search.value)
    }
    best = max(found, key=found.__getitem__, default="")
    return Sharpness(found.get(best, math.nan), best, start[0], searches)


def lbfgsb_search(
    loss: Objective,
    x: Any,
    start: tuple[float, Any],
    epsilon: float,
    iterations: int,
) -> Search:
    """Maximise f over the box by L-BFGS-B from y = 0; ``start`` is f and its gradient at x, the rest as in `keskar`.

    The value is the best of all evaluations: each lies in the box, so each bounds the maximum from below.
    """
    origin, unravel = ravel_pytree(x)
    seen: list[float] = []

    def evaluate(y: np.ndarray) -> tuple[float, Any]:
        return loss.value_and_gradient(unravel(origin + jnp.asarray(y, origin.dtype)))

    def negative(y: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = evaluate(y) if seen else start
        seen.append(value)
        return -value, -np.asarray(ravel_pytree(gradient)[0], dtype=np.float64)

    half_width = np.asarray(epsilon * (jnp.abs(origin) + 1), dtype=np.float64)
    found = lbfgsb.minimise(negative, half_width, iterations)
    return _search(start, seen, found.status, found.message, found.iterations)


def sign_ascent(
    loss: Objective,
    x: Any,
    start: tuple[float, Any],
    epsilon: float,
    steps: int,
    *,
    guide: Objective | None = None,
) -> Search:
    """Maximise f over the box by y <- clip(y + b sign(gradient at x + y), -b, b), b = epsilon (|x| + 1), from y = 0.

    Full steps, so each coordinate is at -b, 0 or b; it ends early where a step changes nothing. Where a ``guide`` is
    given, such as the loss over a part of the data, its gradients lead, and f itself is evaluated once, at the
    iterate that the guide found highest: still a lower bound, at a fraction of the cost. Other arguments as in `keskar`.
    """
    lead = guide or loss
    level, gradient = guide.value_and_gradient(x) if guide else start
    offset = jax.tree.map(jnp.zeros_like, x)
    seen, highest, best = [level], -math.inf, x
    done, ending = 0, f"all {steps} steps used"
    for _ in range(steps):
        point, moved, change = _sign_step(x, offset, gradient, epsilon)
        if not bool(change):
            ending = "a step changed nothing"
            break
        done, offset = done + 1, moved
        value, gradient = lead.value_and_gradient(point)
        seen.append(value)
        if math.isfinite(value) and value > highest:
            highest, best = value, point
    if guide:
        seen = [start[0], loss.value(best)] if done else [start[0]]
    return _search(start, seen, "limit" if done == steps else "converged", ending, done)


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
