"""The learning rate's factor as training goes on, by Optax's schedules and a warm-up.

A factor is a function of the examples seen before an update, not of updates: it means the same at every batch size,
also where the batch size changes while a run trains. An update at batch size B moves it by B.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bsexp import config

Factor = Callable[[jax.typing.ArrayLike], jax.Array]

# They join other schedules, which no configuration can hold.
_LEFT_OUT = frozenset({"join_schedules", "sgdr_schedule"})
# The arguments that are lengths. `decay_steps` counts from the start of training, `transition_steps` from the end of the
# other two.
_LENGTHS = ("transition_begin", "warmup_steps", "transition_steps", "decay_steps")


@functools.cache
def catalogue() -> dict[str, dict[str, Any]]:
    """List Optax's schedules with their arguments and the defaults of these."""
    candidates = {
        name: inspect.signature(function)
        for name, function in vars(optax).items()
        if inspect.isfunction(function) and name not in _LEFT_OUT
    }
    return {
        name: {key: each.default for key, each in signature.parameters.items()}
        for name, signature in candidates.items()
        if signature.return_annotation == optax.Schedule
    }


def factor(
    schedule: config.Schedule,
    *,
    epochs: Sequence[tuple[int, int]],
    total_examples: int,
) -> Factor:
    """Make the function from the examples seen before an update to the factor of its learning rate.

    f(p) = s(p) min(1, (p + B) / W), with s Optax's schedule at a peak of 1, B the first batch size and W the length of the
    warm-up. Both count from the start of training; the last update of the warm-up is the first at full rate, but for batches
    that grow within it, and none is at rate zero. Lengths in epochs or steps end where that epoch or update of the run ends,
    also where its batches grow; what goes on after a length, as `exponential_decay` does, goes on at the same pace by examples.

    Args:
        schedule: its configuration.
        epochs: (updates, examples an update) of each epoch, whole, without a short last batch that is left out.
        total_examples: those that the whole training sees.

    Returns:
        A function of a scalar, int32 or float32, to a float32 scalar. It computes in float32, whose spacing is 8 at
        10^8 examples: a jump can come that much early, and those of a staircase an update late.

    Raises:
        ValueError: a length is not above zero, or Optax does not take an argument.
    """
    seen = _clock(schedule.unit, epochs)
    arguments = _arguments(schedule, seen, total_examples)
    decay = getattr(optax, schedule.name)(**arguments)
    warmup, batch_size = seen(schedule.warmup), epochs[0][1]

    def at(position: jax.typing.ArrayLike) -> jax.Array:
        position = jnp.asarray(position, jnp.float32)
        ramp = jnp.minimum(1, (position + batch_size) / warmup) if warmup else 1
        return jnp.asarray(decay(position) * ramp, jnp.float32)

    return at


def _clock(unit: str, epochs: Sequence[tuple[int, int]]) -> Callable[[float], float]:
    """Return the function from a moment since the start of training, in a unit, to the examples seen by then."""
    moments, seen = _knots(unit, epochs)

    def at(moment: float) -> float:
        # What lies beyond the end goes on as the last epoch does.
        i = max(1, min(int(np.searchsorted(moments, moment)), len(moments) - 1))
        rate = (seen[i] - seen[i - 1]) / (moments[i] - moments[i - 1])
        return seen[i - 1] + (moment - moments[i - 1]) * rate

    return at


def _knots(unit: str, epochs: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return moments of a unit and the examples seen by then, between which they grow evenly; equal epochs are one."""
    lengths = {
        "steps": [updates for updates, _ in epochs],
        "epochs": [1 for _ in epochs],
        "examples": [updates * size for updates, size in epochs],
    }[unit]
    if len({*epochs}) == 1:
        lengths, epochs = lengths[:1], epochs[:1]
    ends = itertools.accumulate(lengths)
    seen = itertools.accumulate(updates * size for updates, size in epochs)
    return [0, *ends], [0, *seen]


def _arguments(
    schedule: config.Schedule, seen: Callable[[float], float], total: int
) -> dict[str, Any]:
    """Return the arguments for Optax, lengths in examples; a peak of 1 and lengths to the end where they are left out."""
    taken = catalogue()[schedule.name]
    lengths = {
        name: seen(float(schedule.arguments[name]))
        for name in _LENGTHS
        if name in schedule.arguments
    }
    before = sum(
        float(schedule.arguments.get(name, 0))
        for name in ("transition_begin", "warmup_steps")
    )
    if "transition_steps" in lengths:
        end = before + float(schedule.arguments["transition_steps"])
        lengths["transition_steps"] = seen(end) - seen(before)
    if "transition_begin" in lengths:  # Optax counts it from the end of the warm-up
        ramp = float(schedule.arguments.get("warmup_steps", 0))
        lengths["transition_begin"] = seen(before) - seen(ramp)
    natural = {
        "decay_steps": float(total),
        "transition_steps": float(total - seen(before)),
    }
    lengths = {name: natural[name] for name in natural if name in taken} | lengths
    for name in natural.keys() & lengths.keys():
        if lengths[name] <= 0:
            raise ValueError(f"{name} is {lengths[name]:g} examples; must be > 0")
    given = {**_peak(taken), **schedule.arguments, **lengths}
    if "boundaries_and_scales" in given:
        given["boundaries_and_scales"] = {
            seen(float(length)): scale
            for length, scale in given["boundaries_and_scales"]
        }
    return given


def _peak(taken: Collection[str]) -> dict[str, float]:
    if "peak_value" in taken:
        return {"peak_value": 1.0} | (
            {"init_value": 0.0} if "init_value" in taken else {}
        )
    return {"init_value" if "init_value" in taken else "value": 1.0}


def _longest(unit: str, epochs: Sequence[tuple[int, int]], total_examples: int) -> str:
    """Write the length of the whole training in a unit."""
    moments, seen = _knots(unit, epochs)
    # Equal epochs have two knots alone, and the end may lie beyond them.
    end = np.interp(total_examples, seen, moments)
    if total_examples > seen[-1]:
        end = moments[-1] * total_examples / seen[-1]
    return f"{end:g} {unit}"


def errors(
    schedule: config.Schedule,
    *,
    epochs: Sequence[tuple[int, int]],
    total_examples: int,
) -> dict[str, str]:
    """Return what is wrong with a schedule, field of the base run -> message. The arguments are those of `factor`."""
    seen = _clock(schedule.unit, epochs)
    longest = _longest(schedule.unit, epochs, total_examples)
    if seen(schedule.warmup) > total_examples:
        return {"schedule.warmup": f"must be at most {longest}, the whole training"}
    ramp = schedule.arguments.get("warmup_steps", 0)
    if isinstance(ramp, int | float) and seen(ramp) > total_examples:
        most = f"warmup_steps must be at most {longest}, the whole training"
        return {"schedule.arguments": most}
    if wrong := _wrong_boundaries(schedule, seen, total_examples):
        return {"schedule.arguments": f"{wrong}; the whole training is {longest}"}
    if schedule.arguments.get("staircase") and len({size for _, size in epochs}) > 1:
        wrong = "staircase cannot follow batches that grow, for its jumps are equally many examples apart; "
        return {"schedule.arguments": wrong + "piecewise_constant_schedule can"}
    try:
        made = factor(schedule, epochs=epochs, total_examples=total_examples)
        values = jax.vmap(made)(jnp.linspace(0, total_examples, 101))
    except Exception as raised:  # noqa: BLE001 - whatever a wrong argument makes Optax or JAX raise
        line = f"{type(raised).__name__}: {str(raised).partition(chr(10))[0]}"
        return {"schedule.arguments": f"{schedule.name} does not take them: {line}"}
    if not (jnp.isfinite(values).all() and (values >= 0).all() and values.any()):
        wrong = "make the learning rate negative, infinite or zero throughout"
        return {"schedule.arguments": wrong}
    # What is meant as a rate would be a factor on it. A little above 1 is rounding.
    peak = max(
        float(values.max()),
        *(float(schedule.arguments.get(name, 1.0)) for name in ("peak_value", "value")),
    )
    if peak > 1.001:
        wrong = f"rise to {peak:.4g} times config.optimizer.learning_rate, which is the peak; must be at most 1"
        return {"schedule.arguments": wrong}
    return {}


def _wrong_boundaries(
    schedule: config.Schedule, seen: Callable[[float], float], total_examples: int
) -> str:
    """Say what is wrong with the moments of a piecewise schedule, given in its unit; "" for nothing."""
    pairs = schedule.arguments.get("boundaries_and_scales", ())
    try:
        moments = [float(moment) for moment, _ in pairs]
    except (TypeError, ValueError):
        return "boundaries_and_scales must be pairs of a moment and a factor"
    rising = all(a < b for a, b in itertools.pairwise([0.0, *moments]))
    within = not moments or seen(moments[-1]) < total_examples
    if rising and within:
        return ""
    return (
        "the moments of boundaries_and_scales must rise, from above 0 to below the end"
    )
