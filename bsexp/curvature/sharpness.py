"""Keskar's sharpness: how far the loss rises within a small box around a point."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from bsexp.curvature import operator, search
from bsexp.curvature.operator import Objective
from bsexp.curvature.search import Box, Search
from bsexp.curvature.subspace import Subspace

Pytree = Any


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


def keskar(  # noqa: PLR0913 - of what, where, how far; how long each search goes, what leads it; in which space
    loss: Objective,
    x: Pytree,
    epsilon: float,
    *,
    iterations: int,
    steps: int,
    maximise: str = "phi",
    guide: Objective | None = None,
    subspace: Subspace | None = None,
) -> Sharpness:
    """Bound phi(epsilon, A) = 100 max_{y in C} (f(x + A y) - f(x)) / (1 + f(x)) from below by two searches.

    C is the box |y_i| <= epsilon (|(A^+ x)_i| + 1): Metric 2.1. Both searches start at y = 0: L-BFGS-B, as in the
    paper, and projected sign ascent. Either gives a lower bound, so the larger one is the better.

    Args:
        loss: f, above -1; from `operator.objective`.
        x: the point, a pytree.
        epsilon: half-width of the box, relative to |(A^+ x)_i| + 1.
        iterations: iterations of L-BFGS-B; the paper used 10.
        steps: steps of sign ascent.
        maximise: what L-BFGS-B is handed, "phi", or "loss", f, with which it may stay where x is nearly stationary: at
            minima of F1 trained with large batches it finds 0.01 with f and 345 with phi. The paper does not say.
        guide: leads the sign ascent, see `search.sign_ascent`.
        subspace: A, from `subspace.random`; the paper's has 100 columns. None: the full space, A = I.

    Raises:
        ValueError: epsilon, iterations or steps is not above 0, or f(x) or its gradient is not finite.

    Wrong to use for comparing networks that differ by a rescaling: phi changes though the function does
    not (Dinh et al. 2017, arXiv:1703.04933).

    Source: Keskar et al. 2017, arXiv:1609.04836.
    """
    numbers = {"epsilon": epsilon, "iterations": iterations, "steps": steps}
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name}={number}: must be > 0")
    value, gradient = loss.value_and_gradient(x)
    if not (math.isfinite(value) and operator.finite(gradient)):
        raise ValueError("x: the loss there, or its gradient, is not finite")
    box = _full(x, epsilon) if subspace is None else _within(subspace, x, epsilon)
    start = value, box.pull_back(gradient)
    searches = {
        "lbfgsb": search.quasi_newton(loss, box, start, iterations, maximise=maximise),
        "sign_ascent": search.sign_ascent(loss, box, start, steps, guide=guide),
    }
    found = {
        name: each.value
        for name, each in searches.items()
        if not math.isnan(each.value)
    }
    best = max(found, key=found.__getitem__, default="")
    return Sharpness(found.get(best, math.nan), best, value, searches)


def _full(x: Pytree, epsilon: float) -> Box:
    return Box(_half_width(x, epsilon), functools.partial(_added, x), lambda g: g)


def _within(subspace: Subspace, x: Pytree, epsilon: float) -> Box:
    dtype = jnp.result_type(*jax.tree.leaves(x))
    coordinates = jnp.asarray(subspace.coordinates(x), dtype)
    return Box(
        _half_width(coordinates, epsilon),
        lambda z: _added(x, subspace.expand(z)),
        subspace.project,
    )


@jax.jit
def _half_width(center: Pytree, epsilon: float) -> Pytree:
    return jax.tree.map(lambda leaf: epsilon * (jnp.abs(leaf) + 1), center)


@jax.jit
def _added(x: Pytree, y: Pytree) -> Pytree:
    return jax.tree.map(jnp.add, x, y)
