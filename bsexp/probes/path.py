"""Loss and accuracy along the straight line between a pair of points: Figure 3 of arXiv:1609.04836."""

import functools
from collections.abc import Mapping

import numpy as np

from bsexp import config, counts, models
from bsexp.curvature import landscape
from bsexp.probes import evaluation
from bsexp.probes.bench import Bench
from bsexp.probes.task import Measurement, Point, Task


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List one task per mode, for every pair."""
    chosen = measure.path
    number = counts.subset(chosen.examples, examples["train"])
    alphas = np.linspace(chosen.first, chosen.last, chosen.points)
    return [
        Task(
            f"path/linear/{mode}",
            {
                "alpha": alphas.tolist(),
                "examples": number,
                **evaluation.settings(measure, mode),
            },
            chosen.points * (number + examples["test"]),
            functools.partial(_path, alphas, number, mode),
            pair=True,
        )
        for mode in measure.modes
    ]


def _path(
    alphas: np.ndarray,
    examples: int,
    mode: str,
    bench: Bench,
    point: Point,
    baseline: Point,
) -> Measurement:
    sizes = {"train": examples, "test": bench.examples("test")}
    curves = {f"{split}_{kind}": [] for split in sizes for kind in ("loss", "accuracy")}
    for alpha in alphas:
        parameters = landscape.line(baseline.parameters, point.parameters, float(alpha))
        statistics = models.interpolate_statistics(
            baseline.statistics, point.statistics, float(alpha)
        )
        for split, number in sizes.items():
            found = bench.evaluate(parameters, statistics, split, number, mode)
            curves[f"{split}_loss"].append(found.loss)
            curves[f"{split}_accuracy"].append(found.accuracy)
    return Measurement(
        {},
        {"from": baseline.run, "alpha": alphas.tolist(), "examples": sizes, **curves},
    )
