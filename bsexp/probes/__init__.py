"""Probes: what can be measured at a trained point, by name.

A probe turns the configuration into tasks; a task measures one point, or a pair of points, and can be repeated alone.
"""

from collections.abc import Callable, Mapping

from bsexp import config
from bsexp.probes import (
    density,
    distance,
    evaluation,
    flatness,
    hessian,
    noise_scale,
    path,
    sharpness,
)
from bsexp.probes.task import Task

PROBES: dict[str, Callable[[config.Measure, Mapping[str, int]], list[Task]]] = {
    "evaluation": evaluation.tasks,
    "distance": distance.tasks,
    "hessian": hessian.tasks,
    "density": density.tasks,
    "sharpness": sharpness.tasks,
    "flatness": flatness.tasks,
    "noise_scale": noise_scale.tasks,
    "path": path.tasks,
}


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List every task of the probes that a study names, in its order.

    Args:
        measure: what is measured.
        examples: split -> its number of examples.
    """
    return [task for name in measure.probes for task in PROBES[name](measure, examples)]
