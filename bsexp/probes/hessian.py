"""Trace and largest eigenvalue of the Hessian of the training loss."""

import functools
from collections.abc import Mapping

import jax

from bsexp import config, counts
from bsexp.curvature import lanczos, trace
from bsexp.probes import evaluation
from bsexp.probes.bench import Bench
from bsexp.probes.task import HESSIAN_VECTOR, Measurement, Point, Task

SEED = 0  # of the probes and of the Lanczos start: the same at every point, so that points compare
EXPECTED_ITERATIONS = 12  # of Lanczos, for the estimated time alone; seen on F1


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List two tasks per mode."""
    chosen = measure.hessian
    number = counts.subset(chosen.examples, examples["train"])
    listed = []
    for mode in measure.modes:
        common = {
            "examples": number,
            **evaluation.settings(measure, mode),
            "seed": SEED,
        }
        listed.append(
            Task(
                f"hessian/trace/{mode}",
                {**common, "probes": chosen.trace_probes},
                HESSIAN_VECTOR * number * chosen.trace_probes,
                functools.partial(_trace, chosen, number, mode),
            )
        )
        listed.append(
            Task(
                f"hessian/lambda_max/{mode}",
                {
                    **common,
                    "iterations": chosen.lanczos_iterations,
                    "tolerance": chosen.lanczos_tolerance,
                },
                HESSIAN_VECTOR
                * number
                * min(EXPECTED_ITERATIONS, chosen.lanczos_iterations),
                functools.partial(_lambda_max, chosen, number, mode),
            )
        )
    return listed


def _trace(
    chosen: config.Hessian,
    examples: int,
    mode: str,
    bench: Bench,
    point: Point,
) -> Measurement:
    objective = bench.objective(point.statistics, examples, mode)
    found = trace.hutchinson(
        objective.hessian(point.parameters),
        point.parameters,
        jax.random.key(SEED),
        chosen.trace_probes,
    )
    detail = {
        "stderr": found.stderr,
        "probes": chosen.trace_probes,
        "examples": examples,
        "samples": found.samples.tolist(),
    }
    return Measurement({f"hessian/trace/{mode}": found.value}, detail)


def _lambda_max(
    chosen: config.Hessian,
    examples: int,
    mode: str,
    bench: Bench,
    point: Point,
) -> Measurement:
    objective = bench.objective(point.statistics, examples, mode)
    found = lanczos.largest(
        objective.hessian(point.parameters),
        point.parameters,
        jax.random.key(SEED),
        iterations=chosen.lanczos_iterations,
        tolerance=chosen.lanczos_tolerance,
    )
    detail = {
        "residual": found.residual,
        "converged": found.converged,
        "matvecs": found.num_matvecs,
        "examples": examples,
    }
    return Measurement({f"hessian/lambda_max/{mode}": found.value}, detail)
