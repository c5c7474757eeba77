"""Loss and accuracy along paths between a pair of points: Figures 3 and 7 of arXiv:1609.04836."""

import functools
import math
from collections.abc import Mapping

import numpy as np

from bsexp import config, counts, models
from bsexp.curvature import landscape
from bsexp.probes import evaluation
from bsexp.probes.bench import Bench
from bsexp.probes.task import Measurement, Point, Task

SHAPES = {"linear": landscape.line, "arc": landscape.arc}


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List one task per shape and mode, for every pair."""
    chosen = measure.path
    number = counts.subset(chosen.examples, examples["train"])
    alphas = np.linspace(chosen.first, chosen.last, chosen.points)
    return [
        Task(
            f"path/{shape}/{mode}",
            {
                "alpha": alphas.tolist(),
                "examples": number,
                **evaluation.settings(measure, mode),
            },
            chosen.points * (number + examples["test"]),
            functools.partial(_path, shape, alphas, number, mode),
            pair=True,
        )
        for shape in chosen.shapes
        for mode in measure.modes
    ]


def share(shape: str, alpha: float) -> float:
    """Return how far the running averages of batch norm have come from the first point's to the second's.

    On the line as far as the weights. On the arc, whose weights are cos x_0 + sin x_1, it is sin^2: at every whole alpha
    the weights are plus or minus one of the points, and the averages are that point's.
    """
    return alpha if shape == "linear" else math.sin(alpha * math.pi / 2) ** 2


def _path(
    shape: str,
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
        parameters = SHAPES[shape](baseline.parameters, point.parameters, float(alpha))
        statistics = models.interpolate_statistics(
            baseline.statistics, point.statistics, share(shape, float(alpha))
        )
        for split, number in sizes.items():
            found = bench.evaluate(parameters, statistics, split, number, mode)
            curves[f"{split}_loss"].append(found.loss)
            curves[f"{split}_accuracy"].append(found.accuracy)
    return Measurement(
        {},
        {"from": baseline.run, "alpha": alphas.tolist(), "examples": sizes, **curves},
    )
