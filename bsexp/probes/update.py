"""The next update on the loss of some training examples, as one batch: its gradient, its length, and the curvature up to which it is stable."""

import functools
from collections.abc import Mapping

import optax

from bsexp import config, counts
from bsexp.probes import evaluation
from bsexp.probes.bench import Bench
from bsexp.probes.task import GRADIENT, Measurement, Point, Task

ABSENT = Measurement({}, {"absent": "the optimizer's state was not kept"})
# Matrix of the limit -> its measure.
LIMITS = {
    "hessian": "update/stability_limit",
    "preconditioned": "update/preconditioned_limit",
}


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List one task per mode, over the examples of config.measure.hessian, and that of the learning rate."""
    number = counts.subset(measure.hessian.examples, examples["train"])
    return [
        Task("update/learning_rate", {}, 0, _learning_rate),
        *(
            Task(
                f"update/{mode}",
                {"examples": number, **evaluation.settings(measure, mode)},
                GRADIENT * number,
                functools.partial(_update, number, mode),
            )
            for mode in measure.modes
        ),
    ]


def _learning_rate(_bench: Bench, point: Point) -> Measurement:
    """Find eta of the update that would come next, and the largest stable eigenvalue where it is known."""
    if point.descent is None:
        return ABSENT
    rate, limit = point.descent.learning_rate, point.descent.limit
    values = {"update/learning_rate": rate}
    if limit is not None:
        values[LIMITS[limit.matrix]] = limit.value
    return Measurement(values, {})


def _update(examples: int, mode: str, bench: Bench, point: Point) -> Measurement:
    """Find |grad f| and |u(grad f)|; without the dropout and the augmentation of training, f has neither."""
    if point.descent is None:
        return ABSENT
    objective = bench.objective(point.statistics, examples, mode)
    gradient, update = point.descent.update(
        lambda x: objective.value_and_gradient(x)[1]
    )
    values = {
        f"update/gradient_norm/{mode}": float(optax.tree.norm(gradient)),
        f"update/update_norm/{mode}": float(optax.tree.norm(update)),
    }
    return Measurement(values, {"examples": examples})
