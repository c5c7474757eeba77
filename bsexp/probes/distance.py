"""How far training went."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bsexp import config
from bsexp.probes.bench import Bench
from bsexp.probes.task import Measurement, Point, Task


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:  # noqa: ARG001 - every probe has this signature
    """List the one task: |x - x_0|_2 over all parameters."""
    return [Task("distance_from_start", {}, 0, _distance)]


def _distance(_bench: Bench, point: Point) -> Measurement:
    start, end = _flat(point.start), _flat(point.parameters)
    detail = {
        "start_norm": float(jnp.linalg.norm(start)),
        "norm": float(jnp.linalg.norm(end)),
    }
    return Measurement(
        {"distance_from_start": float(jnp.linalg.norm(end - start))}, detail
    )


def _flat(parameters: Any) -> jnp.ndarray:
    return ravel_pytree(parameters)[0]
