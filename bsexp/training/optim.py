"""Optimizers by their Optax name."""

import inspect

import optax

from bsexp import config

# These ask for more than a gradient at each update (the loss itself, or a line search).
_NEED_THE_LOSS = frozenset({"lbfgs", "polyak_sgd"})


def catalogue() -> dict[str, tuple[str, ...]]:
    """List every Optax optimizer that takes a learning rate, with its further keyword arguments."""
    found = {}
    for name, function in vars(optax).items():
        if not inspect.isfunction(function) or name in _NEED_THE_LOSS:
            continue
        arguments = tuple(inspect.signature(function).parameters)
        if "learning_rate" in arguments:
            found[name] = tuple(
                argument for argument in arguments if argument != "learning_rate"
            )
    return found


def build(optimizer: config.Optimizer) -> optax.GradientTransformation:
    """Build an optimizer: ``optax.<name>(learning_rate, **arguments)``."""
    return getattr(optax, optimizer.name)(
        optimizer.learning_rate, **optimizer.arguments
    )
