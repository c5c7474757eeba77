"""Examples that are read while training, against examples that lie on the device."""

import dataclasses
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
from benchmarks import cohorts, images, timing

from bsexp import config

BATCH_SIZE = 256
# Updates a turn: several times what is read ahead, so that no turn lives on what was read in the other's.
TURNS = {"F1": 234, "C1": 60}
EXAMPLES = 20_000  # of the images of CIFAR's shape


def rows() -> Iterator[dict[str, Any]]:
    """Compare F1 on MNIST and C1 on images of CIFAR's shape, Adam, B = 256, in turn.

    First with all cores for both, so that every example read is taken from the updates; then as beside an accelerator, which
    leaves the host's cores alone: updates computed on one core, everything else on the others.
    """
    with images.prepared(EXAMPLES) as data_of_c1:
        bases = [
            config.Base(data=data, model=config.Model(name=network))
            for network, data in (("F1", config.Data()), ("C1", data_of_c1))
        ]
        for base in bases:
            yield _row(base, "the same")
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, initializer=_compute_apart) as apart:
            for base in bases:
                yield apart.submit(_row, base, "others").result()


def _compute_apart() -> None:
    """Let JAX start its threads on the first core, then go to the others: the threads that read follow."""
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {first})
    jax.devices()
    os.sched_setaffinity(0, others)


def _row(base: config.Base, cores: str) -> dict[str, Any]:
    streamed_base = dataclasses.replace(
        base, data=dataclasses.replace(base.data, streaming=True)
    )
    resident = cohorts.Cohort(base, BATCH_SIZE)
    streamed = cohorts.Cohort(streamed_base, BATCH_SIZE)
    steps = TURNS[base.model.name]
    spent, resident_spent, ratios = timing.paired(
        lambda: streamed.advance(steps), lambda: resident.advance(steps)
    )
    streamed.close()
    return {
        "benchmark": f"update of {base.model.name}, examples streamed against resident",
        "batch_size": BATCH_SIZE,
        "reading_on_cores": cores,
        "milliseconds_per_update": 1e3 * spent / steps,
        "milliseconds_per_update_resident": 1e3 * resident_spent / steps,
        **timing.spread("times_as_long", ratios),
    }
