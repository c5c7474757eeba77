"""Sums of weighted pytrees, and how they round."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Pytree = Any
ACCUMULATIONS = ("plain", "compensated", "float64")


class Sum:
    """A sum of weighted pytrees.

    "plain" adds in the arrays' own precision, "compensated" carries the rounding errors of the additions along (Knuth's
    two-sum), "float64" adds in double precision; either of the last two rounds once, at the end.
    """

    def __init__(self, weights: list[np.ndarray], accumulation: str) -> None:
        self._weights = weights
        self._accumulation = accumulation
        self._state: Any = None

    def add(self, index: int, part: Pytree) -> None:
        """Add a pytree times the weight of chunk ``index``."""
        weight = self._weights[index]
        if self._accumulation == "compensated":
            self._state = _add_compensated(self._state, weight, part)
        elif self._accumulation == "float64":
            with jax.enable_x64(True):
                self._state = _add_double(self._state, weight, part)
        else:
            self._state = _add(self._state, weight, part)

    def total(self, like: Pytree) -> Pytree:
        """Return the sum in the precision of ``like``."""
        if self._accumulation == "compensated":
            return jax.tree.map(jnp.add, *self._state)
        if self._accumulation == "float64":
            with jax.enable_x64(True):
                return jax.tree.map(
                    lambda leaf, other: leaf.astype(other.dtype), self._state, like
                )
        return self._state


def _weigh(weight: jax.Array, part: Pytree) -> Pytree:
    """Multiply by one weight, or by one for each device along the leading axis."""
    return jax.tree.map(
        lambda leaf: (
            leaf
            * weight.astype(leaf.dtype).reshape(
                weight.shape + (1,) * (leaf.ndim - weight.ndim)
            )
        ),
        part,
    )


@functools.partial(jax.jit, donate_argnums=0)
def _add(state: Pytree | None, weight: jax.Array, part: Pytree) -> Pytree:
    weighed = _weigh(weight, part)
    return weighed if state is None else jax.tree.map(jnp.add, state, weighed)


@functools.partial(jax.jit, donate_argnums=0)
def _add_double(state: Pytree | None, weight: jax.Array, part: Pytree) -> Pytree:
    double = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), part)
    return _add(state, weight, double)


@functools.partial(jax.jit, donate_argnums=0)
def _add_compensated(
    state: tuple[Pytree, Pytree] | None, weight: jax.Array, part: Pytree
) -> tuple[Pytree, Pytree]:
    weighed = _weigh(weight, part)
    if state is None:
        return weighed, jax.tree.map(jnp.zeros_like, weighed)
    old, lost = state
    new = jax.tree.map(jnp.add, old, weighed)

    def rounding(a: jax.Array, b: jax.Array, total: jax.Array) -> jax.Array:
        added = total - a
        return (a - (total - added)) + (b - added)

    errors = jax.tree.map(rounding, old, weighed, new)
    return new, jax.tree.map(jnp.add, lost, errors)
