"""Rescalings that leave a ReLU network's function as it is and change its sharpness."""

import math
from typing import Any

import jax

from bsexp.curvature import selection

Pytree = Any
Patterns = str | tuple[str, ...]


def rescale(
    x: Pytree, alpha: float, *, multiplied: Patterns, divided: Patterns
) -> Pytree:
    """Multiply one layer's parameters by alpha and divide the next one's by it.

    Since relu(alpha z) = alpha relu(z) for alpha > 0, the function is the same where ``multiplied`` holds everything
    that makes the layer's outputs (kernel and bias; with batch norm after it, scale and offset) and ``divided`` the
    kernel of every layer that reads them. Keskar's sharpness, SAM's and the Hessian's trace and eigenvalues change,
    by up to alpha^2 or alpha^-2 each; adaptive sharpness does not.

    Args:
        x: parameters, a pytree.
        alpha: above 0.
        multiplied: globs over the paths of the leaves to multiply, such as ("first/kernel", "first/bias").
        divided: globs over the paths of the leaves to divide, such as "second/kernel".

    Raises:
        ValueError: alpha is not above 0 or not finite, a pattern matches nothing, or a leaf is in both.

    Wrong to use across an activation other than ReLU and its like, or for the kernel in front of a batch norm that takes
    the batch's statistics: that one can be multiplied alone.

    Source: Dinh et al. 2017, arXiv:1703.04933.
    """
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha={alpha}: must be finite and > 0")
    up = _matching(x, "multiplied", multiplied)
    down = _matching(x, "divided", divided)
    both = [
        path
        for path, *chosen in zip(
            selection.paths(x), jax.tree.leaves(up), jax.tree.leaves(down), strict=True
        )
        if all(chosen)
    ]
    if both:
        raise ValueError(f"multiplied and divided: both match {', '.join(both)}")
    return jax.tree.map(
        lambda leaf, grown, shrunk: leaf * alpha ** (int(grown) - int(shrunk)),
        x,
        up,
        down,
    )


def _matching(x: Pytree, argument: str, patterns: Patterns) -> Pytree:
    try:
        return selection.matching(x, patterns)
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from None
