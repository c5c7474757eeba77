"""How far the training loss rises around a point, in the senses that came after Keskar's."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from bsexp import config, counts
from bsexp.curvature import operator, perturbation
from bsexp.probes import evaluation
from bsexp.probes.bench import Bench
from bsexp.probes.task import GRADIENT, Measurement, Point, Task

SEED = 0  # of the noise: the same at every point, so that points compare


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List one task per mode."""
    chosen = measure.flatness
    number = counts.subset(chosen.examples, examples["train"])
    fields = {name: value for name, value in vars(chosen).items() if name != "examples"}
    # Two balls, one ball for every group, two noises.
    cost = GRADIENT * 3 * (1 + chosen.steps) + 2 * (1 + chosen.evaluations)
    return [
        Task(
            f"flatness/{mode}",
            {
                "examples": number,
                **evaluation.settings(measure, mode),
                **fields,
                "seed": SEED,
            },
            number * cost,
            functools.partial(_flatness, chosen, number, mode),
        )
        for mode in measure.modes
    ]


def _flatness(
    chosen: config.Flatness, examples: int, mode: str, bench: Bench, point: Point
) -> Measurement:
    x = point.parameters
    objective = bench.objective(point.statistics, examples, mode)
    sizes = jax.tree.map(jnp.abs, x)
    groups = operator.split(bench.batch(examples), chosen.sam_examples)
    worst = functools.partial(perturbation.worst_case, objective, x, steps=chosen.steps)
    average = functools.partial(
        perturbation.average_case,
        objective,
        x,
        key=jax.random.key(SEED),
        budget=chosen.evaluations,
    )
    rises = {
        "sam": worst(chosen.sam_radius),
        "adaptive": worst(chosen.adaptive_radius, scale=sizes),
    }
    grouped = perturbation.m_sharpness(
        bench.loss(point.statistics, mode),
        groups,
        x,
        chosen.sam_radius,
        steps=chosen.steps,
    )
    bench.spent(GRADIENT * (1 + chosen.steps) * examples)
    noisy = {
        "noise": average(chosen.noise),
        "adaptive_noise": average(chosen.adaptive_noise, scale=sizes),
    }
    values = {
        **{name: rise.value for name, rise in rises.items()},
        "m_sharpness": grouped.value,
        **{name: found.value for name, found in noisy.items()},
    }
    detail = {
        "examples": examples,
        "loss_at_point": rises["sam"].loss,
        **{name: dict(vars(rise)) for name, rise in rises.items()},
        "groups": len(groups),
        "groups_without_value": grouped.stationary + grouped.failed,
        **{f"{name}_stderr": found.stderr for name, found in noisy.items()},
    }
    return Measurement(
        {f"flatness/{name}/{mode}": value for name, value in values.items()}, detail
    )
