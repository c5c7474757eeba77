"""Probes: what can be measured at a trained point, by name.

A probe turns the configuration into tasks; a task measures one point, or a pair of points, and can be repeated alone.
"""

from collections.abc import Callable, Mapping, Sequence

from bsexp import config
from bsexp.probes import (
    density,
    distance,
    evaluation,
    flatness,
    hessian,
    invariance,
    noise_scale,
    path,
    sharpness,
    update,
)
from bsexp.probes.task import Task

PROBES: dict[str, Callable[[config.Measure, Mapping[str, int]], list[Task]]] = {
    "evaluation": evaluation.tasks,
    "distance": distance.tasks,
    "update": update.tasks,
    "hessian": hessian.tasks,
    "density": density.tasks,
    "sharpness": sharpness.tasks,
    "flatness": flatness.tasks,
    "noise_scale": noise_scale.tasks,
    "invariance": invariance.tasks,
    "path": path.tasks,
}


def tasks(
    names: Sequence[str], measure: config.Measure, examples: Mapping[str, int]
) -> list[Task]:
    """List every task of some probes, in their order.

    Args:
        names: of the probes.
        measure: their settings.
        examples: split -> its number of examples.
    """
    return [task for name in names for task in PROBES[name](measure, examples)]
