"""Loss and accuracy of a point, over the whole of every split."""

import functools
from collections.abc import Mapping, Sequence

from bsexp import config
from bsexp.probes.bench import Bench
from bsexp.probes.task import Measurement, Point, Task


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List one task per mode."""
    cost = sum(examples.values())
    kept = examples.get("validation")
    validation = {"validation": kept} if kept else {}
    splits = ("train", *validation, "test")
    return [
        Task(
            f"evaluation/{mode}",
            {**settings(measure, mode), **validation},
            cost,
            functools.partial(_evaluate, mode, splits),
        )
        for mode in measure.modes
    ]


def settings(measure: config.Measure, mode: str) -> dict[str, int]:
    """Return what decides a loss in a mode, beside the examples."""
    return {"statistics_batch": measure.statistics_batch} if mode == "batch" else {}


def _evaluate(
    mode: str, splits: Sequence[str], bench: Bench, point: Point
) -> Measurement:
    # The accuracies that a reader looks for first are those of the trained network as it would be deployed.
    suffix = "" if mode == "running" else f"/{mode}"
    values = {}
    for split in splits:
        found = bench.evaluate(
            point.parameters, point.statistics, split, bench.examples(split), mode
        )
        values[f"{split}_loss{suffix}"] = found.loss
        values[f"{split}_accuracy{suffix}"] = found.accuracy
    return Measurement(values, {split: bench.examples(split) for split in splits})
