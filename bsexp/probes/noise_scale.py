"""The gradient noise scale at a point: the batch size at which noise and gradient are equal."""

import functools
from collections.abc import Mapping
from typing import Any

from bsexp import config
from bsexp.curvature import gram, noise_scale
from bsexp.probes.bench import Bench
from bsexp.probes.task import GRADIENT, HESSIAN_VECTOR, Measurement, Point, Task

# Examples must not depend on each other, so there is one mode.
MODE = "running"


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List the one task; no more groups than half of the training set has, the other half is for the Hessian."""
    chosen, half = measure.noise_scale, examples["train"] // 2
    size = max(1, min(chosen.group_size, half // 2))
    groups = min(chosen.groups, half // size)
    number = groups * size
    settings = {"groups": groups, "group_size": size, "hessian_after": number}
    # The curved one: a product over all these examples for each group.
    cost = number * (2 * GRADIENT + HESSIAN_VECTOR * groups)
    return [
        Task(
            f"noise_scale/{MODE}",
            settings,
            cost,
            functools.partial(_noise_scale, number, size),
        )
    ]


def _noise_scale(examples: int, size: int, bench: Bench, point: Point) -> Measurement:
    x, loss = point.parameters, bench.loss(point.statistics, MODE)
    data = bench.batch(examples)
    # Of other examples: an example's own Hessian is large where its gradient is.
    objective = bench.objective(point.statistics, examples, MODE, after=examples)
    plain = gram.plain(loss, data, x, size)
    curved = gram.curved(loss, data, x, objective.hessian(x), size)
    bench.spent(2 * GRADIENT * examples)
    simple, weighted = noise_scale.estimate(plain), noise_scale.estimate(curved)
    detail = {
        "examples": examples,
        "group_size": size,
        "simple": _fields(simple),
        "curved": _fields(weighted),
        "layers": {
            path: _fields(each) for path, each in noise_scale.by_layer(plain).items()
        },
    }
    values = {
        f"noise_scale/simple/{MODE}": simple.value,
        f"noise_scale/curved/{MODE}": weighted.value,
    }
    return Measurement(values, detail)


def _fields(found: noise_scale.NoiseScale) -> dict[str, Any]:
    return dict(vars(found))
