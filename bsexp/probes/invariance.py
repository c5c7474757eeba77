"""Which measures of sharpness a change of scale fools that leaves the network's function as it is."""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from bsexp import config
from bsexp.models.normalisation import EPSILON
from bsexp.probes import evaluation, flatness, hessian, sharpness
from bsexp.probes.bench import Bench
from bsexp.probes.task import Measurement, Point, Task

MEASURED = (evaluation, sharpness, hessian, flatness)


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List one task per factor: 1, for the point itself, and the powers of two up to 2^doublings.

    Each measures what other probes do, with the settings that they have at the end of training. The baseline is
    measured as trained: that is what the others are to look flatter than.
    """
    inner = [task for probe in MEASURED for task in probe.tasks(measure, examples)]
    factors = [2**power for power in range(measure.invariance.doublings + 1)]
    return [
        Task(
            f"invariance/{factor}",
            {task.name: task.settings for task in inner},
            sum(task.cost for task in inner),
            functools.partial(_invariance, factor, inner),
            baseline=factor == 1,
        )
        for factor in factors
    ]


def rescaled(point: Point, factor: float) -> Point:
    """Multiply every layer in front of a batch norm by a factor; batch norm takes it out again.

    W -> c W, b -> c b, and with them the running averages: mean -> c mean, v + e -> c^2 (v + e), e = 1e-5. In mode
    running the function is the same up to rounding, in mode batch up to e beside the variance of a batch. That
    holds for any W, so a measure that changes by c tells scales of parameters, not functions, apart.

    Args:
        point: a trained point; what its optimizer knows belongs to the old scale and is left out.
        factor: c, at least 1: below it no running variance could stand for a small one.

    Raises:
        ValueError: the network has no batch norm.

    Source: Dinh et al. 2017, arXiv:1703.04933, of ReLU networks; here with the scale that batch norm leaves free.
    """
    if not point.statistics:
        raise ValueError("there is no batch norm that could take a factor out again")
    parameters, statistics = _rescaled(point.parameters, point.statistics, factor)
    return point._replace(
        parameters=parameters, statistics=statistics, preconditioner=None, descent=None
    )


def _rescaled(parameters: Any, statistics: Any, factor: float) -> tuple[Any, Any]:
    """Rescale the layers that have statistics, wherever in the network they are."""
    if "variance" in statistics:
        moved = {key: factor * parameters[key] for key in ("kernel", "bias")}
        variance = factor**2 * (statistics["variance"] + EPSILON) - EPSILON
        averages = {
            "mean": factor * statistics["mean"],
            "variance": jnp.maximum(variance, 0),
        }
        return {**parameters, **moved}, averages
    both = {
        name: _rescaled(parameters[name], inner, factor)
        for name, inner in statistics.items()
    }
    return (
        {**parameters, **{name: layer for name, (layer, _) in both.items()}},
        {name: averages for name, (_, averages) in both.items()},
    )


def _invariance(
    factor: float, inner: list[Task], bench: Bench, point: Point
) -> Measurement:
    there = rescaled(point, factor)
    found: dict[str, Any] = {}
    for task in inner:
        found |= task.measure(bench, there).values
    # As detail: the table of all measures has one value of each at a run's end.
    return Measurement({}, {"factor": factor, "measures": found})
