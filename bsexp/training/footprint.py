"""What a run's compiled programs need: floating-point operations and memory, with nothing trained."""

import collections
import dataclasses
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bsexp import bounds, config, models
from bsexp.data.sources import Description
from bsexp.training import (
    division,
    engine,
    epoch,
    feed,
    gradient,
    mesh,
    recipe,
    sharded,
    step,
)

# Updates, of which the fastest counts.
TIMED = 5
# One of several processes that compiles what the others do not would wait for their part of the tuning on GPUs, for ever:
# https://github.com/openxla/xla/issues/28959
COMPILED_ALONE = {"xla_gpu_shard_autotuning": False}


class DoesNotFitError(RuntimeError):
    """A cohort that needs more memory than a device has."""


class Subject(NamedTuple):
    """A run, its network, its data set and the mesh that it trains on."""

    run: config.Run
    model: models.Model
    data: Description
    layout: mesh.Layout


def flops(subject: Subject) -> float:
    """Return the floating-point operations of all updates of a run."""
    epochs = recipe.epochs(subject.run, subject.data.train_examples)
    steps: collections.Counter[int] = collections.Counter()
    for each in epochs:
        steps[each.batch] += each.steps
    return sum(number * _update_flops(subject, size) for size, number in steps.items())


def rate(subject: Subject, size: int) -> float:
    """Return the floating-point operations a second of an update, timed on the default device: a run's at batch size B.

    The examples are blank, and the updates are those of one device, undivided.
    """
    update, batch = _update(subject, size), _blank(subject, size)
    state = jax.block_until_ready(update(_state(subject), batch))
    fastest = math.inf
    for _ in range(TIMED):
        began = time.perf_counter()
        state = jax.block_until_ready(update(state, batch))
        fastest = min(fastest, time.perf_counter() - began)
    return update.cost_analysis()["flops"] / fastest


def peak_bytes(subject: Subject) -> int:
    """Return the peak memory of a device at the largest batch size: data, states and temporaries.

    Of several processes any one may ask for it, alone.
    The data are the training set or, where it is streamed, a portion; while it is trained on, the next one is placed.
    """
    run, layout, number = subject.run, subject.layout, subject.data.train_examples
    size = max(each.batch for each in recipe.epochs(run, number))
    shared = recipe.build(run, subject.model, number)
    place = sharded.Jit(mesh.make(layout, jax.devices()), layout.members)
    parts = recipe.divide(
        run.base, size, layout.data, normalised=recipe.normalised(subject.model)
    )
    source, portion, everywhere = _data(subject, parts)
    program = epoch.make_chunk(place, shared, parts, source)
    spread = jax.tree.map(
        lambda leaf: _shaped(leaf.dtype, layout.members, *leaf.shape),
        [jax.eval_shape(lambda: _state(subject)), _shaped(jnp.int32), portion],
    )
    numbers = 3 * [_shaped(jnp.int32)]
    lowered = program.lower(*spread, everywhere, *numbers)
    options = engine.known_options(COMPILED_ALONE) if jax.process_count() > 1 else None
    memory = lowered.compile(options).memory_analysis()
    next_portion = source.divided * sum(
        leaf.size * leaf.dtype.itemsize // (layout.population * layout.data)
        for leaf in jax.tree.leaves(spread[2])
    )
    return (
        next_portion
        + memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def _data(subject: Subject, parts: division.Division) -> tuple[feed.Source, Any, Any]:
    """Return how examples are found, and what of a `feed.Portion` is each member's own and what is shared."""
    base, data = subject.run.base, subject.data
    number, image = data.train_examples, data.image_shape
    if not base.data.streaming:
        everywhere = _shaped(data.dtype, number, *image), _shaped(jnp.int32, number)
        return feed.RESIDENT, _shaped(jnp.int32, number), everywhere
    updates = feed.portion_updates(
        min(base.train.steps_per_dispatch, number // parts.batch),
        subject.layout.members * parts.batch * data.image_bytes,
    )
    shape = updates, *parts.shape
    portion = _shaped(data.dtype, *shape, *image), _shaped(jnp.int32, *shape)
    return feed.STREAMED, portion, _shaped(jnp.int32)


def ran_out(error: jax.errors.JaxRuntimeError) -> bool:
    """Say whether a program failed for want of memory: RESOURCE_EXHAUSTED on accelerators, INTERNAL on CPU."""
    return any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory"))


def out_of_memory(subject: Subject, limit: int) -> str:
    """Say what to do where a run does not fit in ``limit`` bytes a device; 0: not known."""
    try:
        return _what_would_fit(subject, limit)
    except jax.errors.JaxRuntimeError:  # nor does what the compiler tries out
        return "out of memory; try a smaller config.batch.microbatch"


def _what_would_fit(subject: Subject, limit: int) -> str:
    needed = f"out of memory: a device needs {peak_bytes(subject) / 2**20:,.0f} MiB"
    if not limit:
        return f"{needed}; try a smaller config.batch.microbatch"
    known = f"{needed} and has {limit / 2**20:,.0f} MiB"
    if subject.run.base.optimizer.sam_examples:
        return f"{known}; config.optimizer.sam_examples is the microbatch: try more devices or a smaller one, which trains otherwise"
    microbatch = fitting_microbatch(subject, limit)
    if microbatch is not None:
        return f"{known}; config.batch.microbatch={microbatch} would fit"
    return f"{known}; no microbatch that keeps the ghost batches fits: try more devices or a smaller config.batch.ghost"


def fitting_microbatch(subject: Subject, limit: int) -> int | None:
    """Return a microbatch with which a run fits in ``limit`` bytes a device; None where none does.

    It keeps the ghost batches, and so the numbers. Each try is compiled, and at most half the one before.
    """
    base, size = subject.run.base, subject.run.batch_size
    normalised = recipe.normalised(subject.model)
    ghost = (base.batch.ghost or size) if normalised else 1
    microbatch = base.batch.microbatch or size

    def divided(microbatch: int) -> config.Base:
        batch = dataclasses.replace(base.batch, microbatch=microbatch)
        return dataclasses.replace(base, batch=batch)

    def divides(microbatch: int) -> bool:
        try:
            recipe.divide(
                *(divided(microbatch), size, subject.layout.data), normalised=normalised
            )
        except bounds.FieldError:
            return False
        return True

    parts = [each for each in range(ghost, size, ghost) if size % each == 0]
    smaller = [each for each in parts if divides(each)]
    while tried := [each for each in smaller if each <= microbatch // 2]:
        microbatch = tried[-1]
        run = dataclasses.replace(subject.run, base=divided(microbatch))
        if peak_bytes(subject._replace(run=run)) <= limit:
            return microbatch
    return None


def _update_flops(subject: Subject, size: int) -> float:
    return _update(subject, size).cost_analysis()["flops"]


def _update(subject: Subject, size: int) -> jax.stages.Compiled:
    """Compile one update, for one device and undivided: of a loop the compiler would count the body once."""
    shared = recipe.build(subject.run, subject.model, subject.data.train_examples)
    update = step.make(shared, division.divide(size, 0, 0, 1, ordered=False))
    shapes = jax.eval_shape(lambda: (_state(subject), _blank(subject, size)))
    return jax.jit(update, donate_argnums=0).lower(*shapes).compile()


def _blank(subject: Subject, size: int) -> gradient.Batch:
    return gradient.Batch(
        jnp.zeros((1, 1, size, *subject.data.image_shape)),
        jnp.zeros((1, 1, size), jnp.int32),
        jax.random.split(jax.random.key(0), (1, 1, size)),
    )


def _state(subject: Subject) -> step.State:
    return recipe.start(subject.run, subject.model, subject.data.train_examples)


def _shaped(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)
