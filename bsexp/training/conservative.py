"""Conservative training: an update that minimises the loss of its batch, but does not go far."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

Pytree = Any


class Proximal(NamedTuple):
    """How an update is found from the gradients of its batch.

    Attributes:
        strength: lambda, of the term that holds the parameters back.
        iterations: of the optimizer on one batch; 1 is plain training, where the term has no gradient yet.
    """

    strength: float
    iterations: int


def update(
    proximal: Proximal,
    x: Pytree,
    first: Pytree,
    gradient_at: Callable[[Pytree], Pytree],
    descend: Callable[[Pytree, Any, Pytree], tuple[Pytree, Any]],
    optimizer: Any,
) -> tuple[Pytree, Any]:
    """Go towards argmin_y f_B(y) + lambda/2 |y - x|^2 by a few iterations of the run's own optimizer.

    Its state goes on from iteration to iteration and from batch to batch, as it does in plain training.

    Args:
        proximal: lambda and the number of iterations.
        x: parameters.
        first: gradient of f_B at x.
        gradient_at: (y) -> gradient of f_B at y, for the same batch.
        descend: (gradient, state of the optimizer, y) -> (what to add to y, state).
        optimizer: its state.

    Returns:
        (what to add to x, state of the optimizer).

    Wrong to read as the exact minimum: it is as near as the learning rate lets the iterations come.

    Source: Li et al. 2014, DOI 10.1145/2623330.2623612; Keskar et al. 2017, arXiv:1609.04836, Appendix E.2.
    """
    moved, optimizer = descend(first, optimizer, x)
    for _ in range(proximal.iterations - 1):
        y = optax.apply_updates(x, moved)
        gradient = jax.tree.map(
            lambda slope, way: slope + proximal.strength * way, gradient_at(y), moved
        )
        further, optimizer = descend(gradient, optimizer, y)
        moved = jax.tree.map(lambda way, more: way + more, moved, further)
    return moved, optimizer
