"""Paths through the parameter space."""

from typing import Any

import jax


def line(start: Any, end: Any, alpha: float) -> Any:
    """Return (1 - alpha) start + alpha end, the point at ``alpha`` on the straight line.

    Args:
        start: pytree of the point at alpha = 0.
        end: pytree of the point at alpha = 1, of the same structure.
        alpha: position; outside [0, 1] the line is extended.

    Source: Goodfellow et al. 2015, arXiv:1412.6544.
    """
    return jax.tree.map(lambda a, b: (1 - alpha) * a + alpha * b, start, end)
