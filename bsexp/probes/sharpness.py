"""Keskar's sharpness of the training loss at a point, in the full space."""

import dataclasses
import functools
from collections.abc import Mapping

from bsexp import config
from bsexp.curvature import sharpness
from bsexp.probes import evaluation
from bsexp.probes.bench import Bench
from bsexp.probes.task import GRADIENT, Measurement, Point, Task


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List one task per mode and epsilon."""
    chosen = measure.sharpness
    counts = {"running": chosen.running_examples, "batch": chosen.batch_examples}
    listed = []
    for mode in measure.modes:
        number = config.resolve_subset(counts[mode], examples["train"])
        settings = {
            "examples": number,
            **evaluation.settings(measure, mode),
            "lbfgsb_iterations": chosen.lbfgsb_iterations,
            "ascent_steps": chosen.ascent_steps,
        }
        # The gradient at the point itself, then one an iteration; a line search may ask for one or two more.
        cost = GRADIENT * number * (3 + chosen.lbfgsb_iterations + chosen.ascent_steps)
        listed += [
            Task(
                name,
                settings,
                cost,
                functools.partial(_sharpness, chosen, number, mode, epsilon, name),
            )
            for epsilon in chosen.epsilons
            for name in [f"sharpness/full/{config.epsilon_name(epsilon)}/{mode}"]
        ]
    return listed


def _sharpness(
    chosen: config.Sharpness,
    examples: int,
    mode: str,
    epsilon: float,
    name: str,
    bench: Bench,
    point: Point,
) -> Measurement:
    function = bench.objective(point.statistics, examples, mode).value_and_gradient
    found = sharpness.keskar(
        function,
        point.parameters,
        function(point.parameters),
        epsilon,
        iterations=chosen.lbfgsb_iterations,
        steps=chosen.ascent_steps,
    )
    detail = {
        "loss_at_point": found.loss,
        "examples": examples,
        "best": found.best,
        "searches": {
            name: dataclasses.asdict(search) for name, search in found.searches.items()
        },
    }
    return Measurement({name: found.value}, detail)
