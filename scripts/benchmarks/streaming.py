"""Examples that are read while training, against examples that lie on the device."""

import dataclasses
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks import cohorts, images, timing

from bsexp import config

BATCH_SIZE = 256
# Updates a turn: several times what is read ahead, so that no turn lives on what was read in the other's.
TURNS = {"F1": 234, "C1": 60}
EXAMPLES = 20_000  # of the images of CIFAR's shape


def rows() -> Iterator[dict[str, Any]]:
    """Compare F1 on MNIST and C1 on images of CIFAR's shape, Adam, B = 256, in turn."""
    with images.prepared(EXAMPLES) as data_of_c1:
        for network, data in (("F1", config.Data()), ("C1", data_of_c1)):
            yield _row(config.Base(data=data, model=config.Model(name=network)))


def _row(base: config.Base) -> dict[str, Any]:
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
        "milliseconds_per_update": 1e3 * spent / steps,
        "milliseconds_per_update_resident": 1e3 * resident_spent / steps,
        "times_as_long": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
    }
