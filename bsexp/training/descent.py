"""What the optimizer of a run would do next, from a state and a loss of one's own choice."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from bsexp import config
from bsexp.training import stability, step

Pytree = Any
Gradient = Callable[[Pytree], Pytree]


class Descent(NamedTuple):
    """The next update at a state; it changes nothing.

    Attributes:
        learning_rate: of the update, with scaling and schedule.
        limit: the curvature up to which such updates are stable, where it is known.
        update: (gradient of a loss as a function of the parameters) -> (gradient at x, what would be added to x), with
            the state's moments, weight decay, clipping, sharpness-aware minimisation and conservative training.
    """

    learning_rate: float
    limit: stability.Limit | None
    update: Callable[[Gradient], tuple[Pytree, Pytree]]


def at(recipe: step.Recipe, optimizer: config.Optimizer, state: step.State) -> Descent:
    """Return the next update of a run.

    Args:
        recipe: what trains the run.
        optimizer: its configuration, scaled as it trains.
        state: of the run.
    """
    rate = optimizer.learning_rate * float(recipe.factor(state.examples))
    compiled = recipe._replace(
        optimizer=recipe.optimizer._replace(update=jax.jit(recipe.optimizer.update))
    )

    def update(gradient_at: Gradient) -> tuple[Pytree, Pytree]:
        plain = gradient_at(state.parameters)
        return plain, step.next_update(compiled, state, gradient_at, plain)[0]

    # Several iterations on one batch, towards where the update began, change the bound; and it is one for the curvature of
    # the loss that is descended.
    known = recipe.proximal.iterations == 1 and recipe.counted is None
    return Descent(rate, stability.limit(optimizer, rate) if known else None, update)
