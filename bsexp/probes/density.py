"""The spectral density of the Hessian of the training loss."""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from bsexp import config, counts
from bsexp.curvature import density
from bsexp.probes import evaluation
from bsexp.probes.bench import Bench
from bsexp.probes.task import HESSIAN_VECTOR, Measurement, Point, Task

SEED = 0  # of the starts
POINTS = 400  # of the curve
# Width of the smoothing Gaussian over the range of the spectrum: below the distance between the nodes in the bulk the
# curve would show the nodes and not the spectrum.
WIDTH = 0.01
ROUNDING = 1e-6  # of a float32, relative


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List one task per mode."""
    chosen = measure.density
    number = counts.subset(chosen.examples, examples["train"])
    return [
        Task(
            f"hessian/density/{mode}",
            {
                "examples": number,
                **evaluation.settings(measure, mode),
                "starts": chosen.starts,
                "iterations": chosen.iterations,
                "seed": SEED,
            },
            HESSIAN_VECTOR * number * chosen.starts * chosen.iterations,
            functools.partial(_density, chosen, number, mode),
        )
        for mode in measure.modes
    ]


def _density(
    chosen: config.Density, examples: int, mode: str, bench: Bench, point: Point
) -> Measurement:
    objective = bench.objective(point.statistics, examples, mode)
    found = density.lanczos_quadrature(
        objective.hessian(point.parameters),
        point.parameters,
        jax.random.key(SEED),
        starts=chosen.starts,
        iterations=chosen.iterations,
    )
    low, high = float(found.nodes.min()), float(found.nodes.max())
    width = _width(low, high)
    grid = np.linspace(low - 5 * width, high + 5 * width, POINTS)
    curve, apart = density.curve(found, grid, width), density.outliers(found)
    share = density.negative(found, 0.0).share
    detail = {
        "examples": examples,
        "starts": chosen.starts,
        "matvecs": found.num_matvecs,
        "width": width,
        "grid": curve.grid.tolist(),
        "mean": curve.mean.tolist(),
        "lower": curve.lower.tolist(),
        "upper": curve.upper.tolist(),
        "outliers": apart.values.tolist(),
        "bulk": [apart.lower, apart.upper],
        "negative_share_stderr": share.stderr,
    }
    return Measurement({f"hessian/negative_share/{mode}": share.value}, detail)


def _width(low: float, high: float) -> float:
    """Return the width of the smoothing Gaussian, above 0 also where the ends are equal: of a loss without curvature both are 0."""
    return WIDTH * (max(high - low, ROUNDING * max(abs(low), abs(high))) or 1.0)
