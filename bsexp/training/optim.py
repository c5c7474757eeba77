"""Optimizers by their Optax name."""

import functools
import inspect
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bsexp import config

# These ask for more than a gradient at each update: the loss itself, or a line search.
_NEED_THE_LOSS = frozenset({"lbfgs", "polyak_sgd"})


@functools.cache
def catalogue() -> dict[str, tuple[str, ...]]:
    """List what Optax builds from a learning rate alone, with its further keyword arguments; deprecated ones are left out."""
    candidates = {
        name: tuple(inspect.signature(function).parameters)
        for name, function in vars(optax).items()
        if inspect.isfunction(function) and not name.startswith("_")
    }
    return {
        name: tuple(argument for argument in arguments if argument != "learning_rate")
        for name, arguments in candidates.items()
        if "learning_rate" in arguments and name not in _NEED_THE_LOSS and _builds(name)
    }


def _builds(name: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            built = getattr(optax, name)(learning_rate=1e-3)
        except (TypeError, ValueError, Warning):
            return False
    return isinstance(built, optax.GradientTransformation)


def build(optimizer: config.Optimizer) -> optax.GradientTransformation:
    """Build an optimizer: ``optax.<name>(learning_rate, **arguments)``."""
    return getattr(optax, optimizer.name)(
        optimizer.learning_rate, **optimizer.arguments
    )


def preconditioner(optimizer: config.Optimizer, state: Any) -> Any | None:
    """Return what Adam divides its steps by, sqrt(v / (1 - b2^t)) + eps, a pytree like the parameters.

    None for an optimizer that does not keep second moments as Adam does.

    Args:
        optimizer: its configuration.
        state: its Optax state.
    """
    kept = [
        each
        for each in jax.tree.leaves(
            state, is_leaf=lambda each: isinstance(each, optax.ScaleByAdamState)
        )
        if isinstance(each, optax.ScaleByAdamState)
    ]
    if len(kept) != 1 or "b2" not in catalogue()[optimizer.name]:
        return None
    defaults = inspect.signature(getattr(optax, optimizer.name)).parameters
    b2, eps = (
        optimizer.arguments.get(name, defaults[name].default) for name in ("b2", "eps")
    )
    corrected = optax.tree.bias_correction(kept[0].nu, b2, kept[0].count)
    return jax.tree.map(lambda v: jnp.sqrt(v) + eps, corrected)


def error(optimizer: config.Optimizer) -> str:
    """Return what Optax has against an optimizer's arguments, found by tracing one update; "" for nothing."""
    parameters = {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}

    def update() -> optax.Updates:
        transformation = build(optimizer)
        return transformation.update(
            parameters, transformation.init(parameters), parameters
        )[0]

    try:
        jax.eval_shape(update)
    except Exception as raised:  # noqa: BLE001 - whatever a wrong argument makes Optax or JAX raise
        return f"{type(raised).__name__}: {str(raised).partition(chr(10))[0]}"
    return ""
