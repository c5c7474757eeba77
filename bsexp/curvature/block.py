"""Blocks of vectors: pytrees whose leaves have a leading axis of k vectors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

Pytree = Any
# Vectors that share one call of an operator; more of them cost memory and save little.
WIDTH = 4


def size(block: Pytree) -> int:
    """Return k, the number of vectors of a block."""
    return jax.tree.leaves(block)[0].shape[0]


def vector(block: Pytree, index: int) -> Pytree:
    """Return one vector of a block."""
    return jax.tree.map(lambda leaf: leaf[index], block)


@jax.jit
def vectors(block: Pytree) -> list[Pytree]:
    """Return all vectors of a block."""
    return [vector(block, index) for index in range(size(block))]


def stack(vectors: list[Pytree]) -> Pytree:
    """Make a block of vectors."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *vectors)


def joined(blocks: list[Pytree]) -> Pytree:
    """Make one block of several."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *blocks)


def applied(operator: Callable[[Pytree], Pytree], block: Pytree) -> Pytree:
    """Return A block, at most WIDTH vectors a call."""
    return joined(
        [
            operator(jax.tree.map(lambda leaf, i=first: leaf[i : i + WIDTH], block))
            for first in range(0, size(block), WIDTH)
        ]
    )


def as_matrix(block: Pytree) -> tuple[jax.Array, Callable[[jax.Array], Pytree]]:
    """Return a block as a matrix [k, n], and the function that makes a block of such a matrix again."""
    first = jax.tree.map(lambda leaf: leaf[0], block)
    restore = jax.vmap(ravel_pytree(first)[1])
    return jax.vmap(lambda tree: ravel_pytree(tree)[0])(block), restore


def rademacher(key: jax.Array, like: Pytree, number: int) -> Pytree:
    """Draw a block of vectors of independent signs -1 and 1.

    Args:
        key: random key; equal keys give equal signs.
        like: a pytree that gives shapes and dtypes.
        number: k.
    """
    return _draw(jax.random.rademacher, key, like, number)


def normal(key: jax.Array, like: Pytree, number: int) -> Pytree:
    """Draw a block of vectors of independent standard normal numbers; arguments as in `rademacher`."""
    return _draw(jax.random.normal, key, like, number)


def _draw(sampler: Any, key: jax.Array, like: Pytree, number: int) -> Pytree:
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        sampler(each, (number, *jnp.shape(leaf)), jnp.result_type(leaf))
        for each, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


@jax.jit
def inner_products(a: Pytree, b: Pytree) -> Pytree:
    """Return a_i^T b_i of two blocks, leaf by leaf: a pytree of arrays [k]; its sum over leaves is the whole."""
    return jax.tree.map(lambda u, v: (u * v).reshape(u.shape[0], -1).sum(axis=1), a, b)
