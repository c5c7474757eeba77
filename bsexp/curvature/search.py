"""Two searches for the largest loss in a box: L-BFGS-B, and projected sign ascent."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bsexp.curvature import lbfgsb
from bsexp.curvature.operator import Objective

Pytree = Any


class Box(NamedTuple):
    """The points x + A y with |y_i| <= half_width_i.

    Attributes:
        half_width: a pytree like y.
        point: y -> x + A y.
        pull_back: the gradient of f at x + A y -> A^T of it, the gradient in y.
    """

    half_width: Pytree
    point: Callable[[Pytree], Pytree]
    pull_back: Callable[[Pytree], Pytree]

    def value_and_gradient(self, loss: Objective, y: Pytree) -> tuple[float, Pytree]:
        """Return f(x + A y) and its gradient in y."""
        value, gradient = loss.value_and_gradient(self.point(y))
        return value, self.pull_back(gradient)


@dataclasses.dataclass(frozen=True)
class Search:
    """What one search for the maximum found.

    Attributes:
        value: 100 (f(x + A y) - f(x)) / (1 + f(x)) at the best y it saw, a lower bound of the sharpness; NaN
            where it saw none above f(x), which says nothing about the box.
        status: "limit" (all its iterations used), "converged", "stationary" (the gradient at x is zero, so no
            search can start) or "failed" (its line search broke down, or a loss was not finite).
        message: why it ended, in its own words.
        evaluations: values of f computed, the one at x included.
        iterations: iterations or steps done.
        moved: mean of |y_i| / half-width_i at that y: 1 in a corner of the box, near 0 where the search stalled
            and its value says little, 0 where there is no value.
    """

    value: float
    status: str
    message: str
    evaluations: int
    iterations: int
    moved: float


@dataclasses.dataclass
class _Seen:
    """The best of a search's evaluations; a loss that is not finite does not count."""

    evaluations: int = 1  # the one at x
    highest: float = -math.inf
    best: Pytree | None = None
    finite: bool = True

    def add(self, value: float, y: Pytree) -> None:
        self.evaluations += 1
        if not math.isfinite(value):
            self.finite = False
        elif value > self.highest:
            self.highest, self.best = value, y


def quasi_newton(
    loss: Objective,
    box: Box,
    start: tuple[float, Pytree],
    iterations: int,
    *,
    maximise: str = "phi",
) -> Search:
    """Maximise the loss over a box by L-BFGS-B from y = 0; ``start`` is f and its gradient in y there.

    What it is handed decides how far it comes: its first step is as long as the gradient, so that near a minimum f,
    whose gradient is 100 / (1 + f) times smaller than that of phi, may hold it where it is. The value is the best of all
    evaluations: each lies in the box, so each bounds the maximum from below.

    Args:
        loss: f.
        box: where to search.
        start: f and its gradient at y = 0.
        iterations: of L-BFGS-B.
        maximise: "phi", 100 (f(x + A y) - f(x)) / (1 + f(x)), or "loss", f itself.
    """
    origin, scale = {"phi": (start[0], 100 / (1 + start[0])), "loss": (0.0, 1.0)}[
        maximise
    ]
    flat, unravel = ravel_pytree(box.half_width)
    seen = _Seen()

    def negative(position: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = start
        if position.any():  # it asks for f at y = 0 first, which is known
            y = unravel(jnp.asarray(position, flat.dtype))
            value, gradient = box.value_and_gradient(loss, y)
            seen.add(value, y)
        return -scale * (value - origin), -scale * _flat(gradient)

    found = lbfgsb.minimise(negative, _flat(box.half_width), iterations)
    status, message = found.status, found.message
    if not seen.finite:
        status, message = "failed", f"a loss was not finite; {message}"
    return _search(start, box, seen, status, message, found.iterations)


def sign_ascent(
    loss: Objective,
    box: Box,
    start: tuple[float, Pytree],
    steps: int,
    *,
    guide: Objective | None = None,
) -> Search:
    """Maximise f over a box by y <- clip(y + b sign(gradient in y), -b, b), b its half-width, from y = 0.

    Full steps, so each coordinate is at -b, 0 or b; it ends early where a step changes nothing. Where a ``guide`` is
    given, such as the loss over a part of the data, its gradients lead, and f itself is evaluated once, at the
    iterate that the guide found highest: still a lower bound, at a fraction of the cost. Other arguments as in
    `quasi_newton`.
    """
    y = jax.tree.map(jnp.zeros_like, box.half_width)
    gradient = box.value_and_gradient(guide, y)[1] if guide else start[1]
    seen, done, status, message = _Seen(), 0, "limit", f"all {steps} steps used"
    while done < steps and seen.finite:
        y, changed = _sign_step(y, gradient, box.half_width)
        if not bool(changed):
            status, message = "converged", "a step changed nothing"
            break
        done += 1
        value, gradient = box.value_and_gradient(guide or loss, y)
        seen.add(value, y)
    if not seen.finite:
        status, message = "failed", f"the loss was not finite at step {done}"
    if guide:
        led, seen = seen, _Seen()
        if led.best is not None:
            seen.add(loss.value(box.point(led.best)), led.best)
    return _search(start, box, seen, status, message, done)


@jax.jit
def _sign_step(
    y: Pytree, gradient: Pytree, half_width: Pytree
) -> tuple[Pytree, jax.Array]:
    def moved(old: jax.Array, slope: jax.Array, width: jax.Array) -> jax.Array:
        return jnp.clip(old + width * jnp.sign(slope), -width, width)

    new = jax.tree.map(moved, y, gradient, half_width)
    changes = jax.tree.map(lambda a, b: (a != b).any(), new, y)
    return new, jnp.stack(jax.tree.leaves(changes)).any()


def _search(
    start: tuple[float, Pytree],
    box: Box,
    seen: _Seen,
    status: str,
    message: str,
    iterations: int,
) -> Search:
    """Report the best loss seen; a search that stayed at x found nothing, which is not the same as flat."""
    value, moved = math.nan, 0.0
    if not any(bool(leaf.any()) for leaf in jax.tree.leaves(start[1])):
        status, message = "stationary", "the gradient at the point is zero"
    elif seen.highest > start[0]:
        value = 100 * (seen.highest - start[0]) / (1 + start[0])
        moved = float(np.mean(np.abs(_flat(seen.best)) / _flat(box.half_width)))
    else:
        status = "failed"
    return Search(value, status, message, seen.evaluations, iterations, moved)


def _flat(tree: Pytree) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0], dtype=np.float64)
