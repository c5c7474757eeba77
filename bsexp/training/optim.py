"""Optimizers by their Optax name, with clipping and weight decay around them."""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bsexp import config

# The first two ask for more than a gradient at each update: the loss itself, or a line search. Rprop's learning rate
# is only the size of its first step, so that no schedule could reach it.
_LEFT_OUT = frozenset({"lbfgs", "polyak_sgd", "rprop", "scale_by_rprop"})
# Others have the state of Optax's Adam too, with something else in it, or divide at times only (RAdam).
_LIKE_ADAM = frozenset({"adam", "adamw", "lamb", "nadam", "nadamw"})


class Optimizer(NamedTuple):
    """An optimizer as pure functions, with its rates in its state: runs that differ in nothing else share a program.

    Attributes:
        init: (parameters, rates as `rates` gives them) -> state.
        update: (gradient, state, parameters, factor) -> (what to add to the parameters, state), at the learning rate
            of the state times ``factor``, a scalar of `schedules.factor`. The state keeps the rate itself.
    """

    init: Callable[[Any, dict[str, jax.Array]], Any]
    update: Callable[[Any, Any, Any, jax.typing.ArrayLike], tuple[Any, Any]]


@functools.cache
def catalogue() -> dict[str, dict[str, Any]]:
    """List what Optax builds from a learning rate alone, with its further arguments and their defaults; no deprecated ones."""
    candidates = {
        name: inspect.signature(function).parameters
        for name, function in vars(optax).items()
        # NAdam is a functools.partial of Adam.
        if (inspect.isfunction(function) or isinstance(function, functools.partial))
        and not name.startswith("_")
    }
    return {
        name: {
            key: each.default for key, each in taken.items() if key != "learning_rate"
        }
        for name, taken in candidates.items()
        if "learning_rate" in taken and name not in _LEFT_OUT and _builds(name)
    }


def _builds(name: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            built = getattr(optax, name)(learning_rate=1e-3)
        except (TypeError, ValueError, Warning):
            return False
    return isinstance(built, optax.GradientTransformation)


def rates(optimizer: config.Optimizer) -> dict[str, jax.Array]:
    """Return what of an optimizer may differ between the runs of a cohort, by name, float32 scalars."""
    return {
        "learning_rate": jnp.float32(optimizer.learning_rate),
        "weight_decay": jnp.float32(optimizer.weight_decay),
    }


def without_rates(optimizer: config.Optimizer) -> config.Optimizer:
    """Return the configuration with neutral rates: runs for which it is equal share a program."""
    return dataclasses.replace(optimizer, learning_rate=1.0, weight_decay=0.0)


def build(optimizer: config.Optimizer) -> Optimizer:
    """Build an optimizer: clip the gradient, then ``optax.<name>(learning_rate, weight_decay, **arguments)``.

    An optimizer that has no weight decay of its own gets it as a penalty: weight_decay times x is added to the clipped
    gradient. For SGD that is the usual weight decay; for Adam it is not AdamW's, arXiv:1711.05101.

    Args:
        optimizer: its configuration, of which the rates are not read: they come with the state. But where its weight decay
            is 0 it adds no penalty, whatever the state says: for runs of which one decays, give that one's.

    Raises:
        ValueError: when it is used: only kernels are to decay, and the optimizer decays everything.
    """
    transformation = optax.inject_hyperparams(
        functools.partial(_chain, optimizer), hyperparam_dtype=jnp.float32
    )

    def init(parameters: Any, rates: dict[str, jax.Array]) -> Any:
        return transformation(**rates).init(parameters)

    def update(
        gradient: Any, state: Any, parameters: Any, factor: jax.typing.ArrayLike
    ) -> tuple[Any, Any]:
        kept = state.hyperparams
        now = kept | {"learning_rate": kept["learning_rate"] * factor}
        updates, moved = transformation(**kept).update(
            gradient, state._replace(hyperparams=now), parameters
        )
        return updates, moved._replace(hyperparams=kept)

    return Optimizer(init, update)


def _chain(
    optimizer: config.Optimizer, learning_rate: jax.Array, weight_decay: jax.Array
) -> optax.GradientTransformation:
    function = getattr(optax, optimizer.name)
    taken = inspect.signature(function).parameters
    arguments = {"learning_rate": learning_rate, **optimizer.arguments}
    before = []
    if optimizer.clip_norm:
        before.append(optax.clip_by_global_norm(optimizer.clip_norm))
    mask = {"all": None, "kernels": _kernels}[optimizer.decay_mask]
    decay = next((name for name in config.DECAY_ARGUMENTS if name in taken), None)
    if decay is None:
        # A penalty of nothing would read the parameters once more for each moment: 0.88 of the time of an update of F1 at
        # B = 16 without. The state stays alike, also that of a mask.
        nothing = optax.masked(optax.identity(), mask) if mask else optax.identity()
        before.append(
            optax.add_decayed_weights(weight_decay, mask)
            if optimizer.weight_decay
            else nothing
        )
    else:
        arguments[decay] = weight_decay
        if mask is not None:
            arguments[_mask_argument(optimizer)] = mask
    return optax.chain(*before, function(**arguments))


def _mask_argument(optimizer: config.Optimizer) -> str:
    for name in config.MASK_ARGUMENTS:
        if name in catalogue()[optimizer.name]:
            return name
    raise ValueError(f"{optimizer.name} decays all parameters")


def _kernels(parameters: Any) -> Any:
    """Say of each parameter whether it is a kernel, of two axes or more: no bias, and no scale or offset of batch norm."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)


def argument(optimizer: config.Optimizer, name: str) -> Any:
    """Return an argument of an optimizer: as configured, or Optax's default.

    Raises:
        KeyError: the optimizer has no such argument.
    """
    return optimizer.arguments.get(name, catalogue()[optimizer.name][name])


def preconditioner(optimizer: config.Optimizer, state: Any) -> Any | None:
    """Return what Adam divides its steps by, sqrt(v / (1 - b2^t) + eps_root) + eps, a pytree like the parameters.

    None for an optimizer that does not divide as Adam does, and before the first update, when there are no second moments.

    Args:
        optimizer: its configuration, scaled as it trained.
        state: its state, of one run.
    """
    if optimizer.name not in _LIKE_ADAM:
        return None
    (kept,) = (
        each
        for each in jax.tree.leaves(
            state, is_leaf=lambda each: isinstance(each, optax.ScaleByAdamState)
        )
        if isinstance(each, optax.ScaleByAdamState)
    )
    if not kept.count:
        return None
    b2, eps, root = (argument(optimizer, name) for name in ("b2", "eps", "eps_root"))
    corrected = optax.tree.bias_correction(kept.nu, b2, kept.count)
    return jax.tree.map(lambda v: jnp.sqrt(v + root) + eps, corrected)


def error(optimizer: config.Optimizer) -> str:
    """Return what Optax has against an optimizer's arguments, found by tracing one update; "" for nothing."""
    parameters = {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}

    def update() -> optax.Updates:
        built = build(optimizer)
        state = built.init(parameters, rates(optimizer))
        return built.update(parameters, state, parameters, 1.0)[0]

    try:
        jax.eval_shape(update)
    except Exception as raised:  # noqa: BLE001 - whatever a wrong argument makes Optax or JAX raise
        return f"{type(raised).__name__}: {str(raised).partition(chr(10))[0]}"
    return ""
