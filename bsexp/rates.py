"""What is wrong with an optimizer, its schedule or its rule: names of Optax, their arguments, whether they fit each other."""

import math
from collections.abc import Mapping
from typing import Any

from bsexp import bounds, config, conversion
from bsexp.catalogue import Catalogue

# Bounds that Optax does not check itself: what weighs the past in a running average, and what is added to a divisor.
ARGUMENTS = {
    **dict.fromkeys(("b1", "b2", "b3", "momentum", "decay", "rho"), bounds.below_one),
    **dict.fromkeys(("eps", "eps_root"), bounds.not_negative),
}


def check_optimizer(
    optimizer: config.Optimizer, catalogue: Catalogue
) -> dict[str, str]:
    """Check the names, the arguments and the decay of an optimizer; return what is wrong by field."""
    name = optimizer.name
    if name not in catalogue.optimizers:
        return {
            "optimizer.name": f"unknown optimizer; {conversion.did_you_mean(name, catalogue.optimizers)}"
        }
    taken = catalogue.optimizers[name]
    found = _check_arguments("optimizer", name, optimizer.arguments, taken)
    fields = dict.fromkeys(config.DECAY_ARGUMENTS, "weight_decay")
    fields |= dict.fromkeys(config.MASK_ARGUMENTS, "decay_mask")
    for key in fields.keys() & optimizer.arguments.keys():
        found[f"optimizer.arguments.{key}"] = (
            f"is set by config.optimizer.{fields[key]}"
        )
    for key, value in optimizer.arguments.items():
        bound = ARGUMENTS.get(key)
        # Optax says below whether it takes another type.
        if bound and type(value) in (int, float) and bound(value):
            found.setdefault(f"optimizer.arguments.{key}", bound(value))
    decays = set(taken).intersection(config.DECAY_ARGUMENTS)
    masks = set(taken).intersection(config.MASK_ARGUMENTS)
    if optimizer.decay_mask != "all" and decays and not masks:
        found["optimizer.decay_mask"] = (
            f"{name} decays every parameter or none; must be all"
        )
    if not found and (error := catalogue.optimizer_error(optimizer)):
        found["optimizer.arguments"] = f"{name} does not take them: {error}"
    return found


def check_rates(
    base: config.Base, size: int, examples: int, catalogue: Catalogue
) -> dict[str, str]:
    """Check how the learning rate follows training and batch size, for updates of ``size`` of ``examples``."""
    found = _check_schedule(base, size, examples, catalogue)
    rule = base.scaling.rule
    if rule not in catalogue.rules:
        found["scaling.rule"] = (
            f"unknown rule; {conversion.did_you_mean(rule, catalogue.rules)}"
        )
    elif (
        rule != config.Scaling.rule
        and not check_optimizer(base.optimizer, catalogue)
        and (error := catalogue.scaling_error(base.optimizer, base.scaling, size))
    ):
        found["scaling.rule"] = error
    return found


def _check_schedule(
    base: config.Base, size: int, examples: int, catalogue: Catalogue
) -> dict[str, str]:
    """Check how the learning rate changes while a run of ``size`` examples per update trains on ``examples``."""
    if base.schedule == config.Schedule():
        return {}
    name = base.schedule.name
    if name not in catalogue.schedules:
        return {
            "schedule.name": f"unknown schedule; {conversion.did_you_mean(name, catalogue.schedules)}"
        }
    taken = catalogue.schedules[name]
    return _check_arguments(
        "schedule", name, base.schedule.arguments, taken
    ) or catalogue.schedule_errors(base, size, examples)


def _check_arguments(
    field: str, name: str, arguments: Mapping[str, Any], taken: Mapping[str, Any]
) -> dict[str, str]:
    """Check the keyword arguments of an Optax function, ``name``, that takes those of ``taken``, with these defaults."""
    found = {}
    for key, value in arguments.items():
        if key not in taken:
            found[f"{field}.arguments.{key}"] = (
                f"unknown argument of {name}; {conversion.did_you_mean(key, taken)}"
            )
        elif not _is_plain(value):
            found[f"{field}.arguments.{key}"] = (
                "must be text, a finite number, True, False, None or a tuple of these"
            )
        # Any text is true to Python, "false" too, and True is 1.
        elif type(taken[key]) is bool and type(value) is not bool:
            found[f"{field}.arguments.{key}"] = "must be True or False"
        elif type(taken[key]) in (int, float) and type(value) is bool:
            found[f"{field}.arguments.{key}"] = "must be a number"
    return found


def _is_plain(value: Any) -> bool:
    """Say whether JSON can hold a value, so that it can enter the hash of a run."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)
