"""Inner products between the gradients of groups of examples, plain or weighted with a Hessian."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from bsexp.curvature import block, operator, precise, selection
from bsexp.curvature.operator import Loss, Operator

Pytree = Any
# Groups share a compiled call as long as it has at most so many examples and its gradients so many bytes. On two cores
# that is 5 to 20 times as fast on small networks (13 000 parameters, b = 1: 225 us a group alone, 10 us in 32) and
# 1 to 4 times on F1. There 32 groups of one example in a call, 187 MB, took 13 times as long as one by one.
BUNDLE_EXAMPLES = 32
BUNDLE_BYTES = 2**22
# Gradients of one tile of the Gram matrix. Two tiles are held at once, and one more while it is put together.
TILE_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class Gram:
    """Inner products between the gradients of groups of examples.

    Attributes:
        layers: path of a leaf, such as "layer/kernel" -> float64 [K, K], symmetric; the whole is their sum.
        group_size: b, examples of a group.
    """

    layers: dict[str, np.ndarray]
    group_size: int


def plain(loss: Loss, data: Pytree, x: Pytree, group_size: int = 1) -> Gram:
    """Compute g_k^T g_l for the mean gradients of all groups of ``group_size`` successive examples.

    Args:
        loss: (x, batch) -> scalar, the mean over the batch's examples.
        data: pytree of arrays [N, ...], N = K b, in random order.
        x: the point.
        group_size: b. One is most precise for a number of examples; more make larger data affordable.

    Gradients that do not fit into one tile of TILE_BYTES are computed again for each pair of tiles: K (T + 1) / 2
    group gradients for T tiles.

    Raises:
        ValueError: fewer than 2 groups, ``group_size`` does not divide N, or a gradient is not finite.

    Wrong to use with batch normalisation in training mode: a group's examples are then not independent, and the
    noise scale is that of another loss for every b.
    """
    return _gram(loss, data, x, group_size, None)


def curved(
    loss: Loss, data: Pytree, x: Pytree, hessian: Operator, group_size: int = 1
) -> Gram:
    """Compute g_k^T H g_l, for the curvature-weighted noise scale; one operator product for each group.

    A leaf's matrix holds the leaf's part of that sum, made symmetric: it involves H beyond the leaf's own block. Of
    T tiles it takes K T group gradients.

    Args:
        loss: see `plain`, as the next two.
        data: N = K b examples.
        x: the point.
        hessian: H at x, symmetric, taken as exact: `Objective.hessian` over examples that are not those of ``data``, or
            over very many. Over the same N examples each meets its own Hessian, which is large where its gradient is:
            the estimate of tr(H Sigma) is then about mean_i g_i^T H_i g_i / N too large.
        group_size: b.

    Raises:
        ValueError: as `plain`, or a product is not finite.
    """
    return _gram(loss, data, x, group_size, hessian)


def _gram(
    loss: Loss, data: Pytree, x: Pytree, group_size: int, hessian: Operator | None
) -> Gram:
    carried = operator.as_partial(loss)
    tiles = _tiles(data, x, group_size)
    ends = np.cumsum([sum(map(block.size, tile)) for tile in tiles])
    spans = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
    layers = {path: np.zeros((ends[-1], ends[-1])) for path in selection.paths(x)}
    for i, tile in enumerate(tiles):
        left = _gradients(carried, x, tile)
        images = left if hessian is None else _images(hessian, left)
        for j in range(i if hessian is None else 0, len(tiles)):
            right = left if j == i else _gradients(carried, x, tiles[j])
            share = 1.0 if hessian is None and j > i else 0.5
            parts = jax.tree.leaves(_products(images, right))
            for matrix, part in zip(layers.values(), parts, strict=True):
                matrix[spans[i], spans[j]] += share * np.asarray(part, np.float64)
                matrix[spans[j], spans[i]] += share * np.asarray(part, np.float64).T
    return Gram(layers, group_size)


def _tiles(data: Pytree, x: Pytree, group_size: int) -> list[list[Pytree]]:
    """Cut the data into tiles of bundles [v, b, ...] of groups."""
    lengths = [leaf.shape[0] for leaf in jax.tree.leaves(data)]
    if group_size < 1 or any(length % group_size for length in lengths):
        raise ValueError(
            f"group_size={group_size}: must be >= 1 and divide the number of examples {lengths[0]}"
        )
    if min(lengths) < 2 * group_size:
        raise ValueError(
            f"data: {lengths[0]} examples are fewer than 2 groups of {group_size}"
        )
    groups = jax.tree.map(
        lambda leaf: leaf.reshape(-1, group_size, *leaf.shape[1:]), data
    )
    vector = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(x))
    capacity = max(1, TILE_BYTES // vector)
    few = max(1, BUNDLE_EXAMPLES // group_size)
    bundles = operator.split(groups, min(few, max(4, BUNDLE_BYTES // vector), capacity))
    count = capacity // max(map(block.size, bundles))
    return [bundles[i : i + count] for i in range(0, len(bundles), count)]


def _gradients(loss: Partial, x: Pytree, tile: list[Pytree]) -> Pytree:
    """Return the mean gradients of a tile's groups, as a block."""
    found = block.joined([_bundle_gradients(loss, x, bundle) for bundle in tile])
    if not operator.finite(found):
        raise ValueError("x: the gradient of a group there is not finite")
    return found


def _images(hessian: Operator, vectors: Pytree) -> Pytree:
    found = block.applied(hessian, vectors)
    if not operator.finite(found):
        raise ValueError("hessian: returned a value that is not finite")
    return found


@jax.jit
def _bundle_gradients(loss: Partial, x: Pytree, bundle: Pytree) -> Pytree:
    return jax.vmap(jax.grad(loss), (None, 0))(x, bundle)


@jax.jit
def _products(a: Pytree, b: Pytree) -> Pytree:
    """Return a_i^T b_j of two blocks, leaf by leaf."""
    return jax.tree.map(
        lambda u, v: precise.matmul(
            u.reshape(u.shape[0], -1), v.reshape(v.shape[0], -1).T
        ),
        a,
        b,
    )
