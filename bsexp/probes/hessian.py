"""Trace and largest eigenvalues of the Hessian of the training loss."""

import functools
from collections.abc import Mapping
from typing import Any

import jax

from bsexp import config, counts
from bsexp.curvature import lanczos, operator, trace
from bsexp.probes import evaluation
from bsexp.probes.bench import Bench
from bsexp.probes.task import DIAGONAL, HESSIAN_VECTOR, Measurement, Point, Task

SEED = 0  # of the probes and of the Lanczos start: the same at every point, so that points compare
# The exact diagonal costs a quarter of a Hessian-vector product a class, and the control saves four of five products:
# 37 beside eight, so it pays up to about this many classes. F2's 1 973 would take hours.
MOST_CLASSES = 128
EXPECTED_ITERATIONS = 12  # of Lanczos, for the estimated time alone; seen on F1


def tasks(measure: config.Measure, examples: Mapping[str, int]) -> list[Task]:
    """List two tasks per mode, and the preconditioned eigenvalue in mode batch where it is asked for."""
    chosen = measure.hessian
    number = counts.subset(chosen.examples, examples["train"])
    listed = []
    for mode in measure.modes:
        # Where the examples of a batch depend on each other the Gauss-Newton matrix has no exact diagonal.
        control = mode == "running"
        common = {
            "examples": number,
            **evaluation.settings(measure, mode),
            "seed": SEED,
        }
        listed.append(
            Task(
                f"hessian/trace/{mode}",
                {
                    **common,
                    "probes": chosen.trace_probes,
                    "tolerance": chosen.trace_tolerance,
                    "control": "gauss_newton" if control else "",
                },
                number * (HESSIAN_VECTOR * chosen.trace_probes + DIAGONAL * control),
                functools.partial(_trace, chosen, number, mode, control),
            )
        )
        iterations = min(
            EXPECTED_ITERATIONS * chosen.eigenvalues, chosen.lanczos_iterations
        )
        listed.append(
            Task(
                f"hessian/lambda_max/{mode}",
                {
                    **common,
                    "eigenvalues": chosen.eigenvalues,
                    "iterations": chosen.lanczos_iterations,
                    "tolerance": chosen.lanczos_tolerance,
                },
                HESSIAN_VECTOR * number * (iterations + chosen.eigenvalues),
                functools.partial(_eigenvalues, chosen, number, mode),
            )
        )
        # Adam trains with the statistics of the batch. In mode running a bias in front of batch norm has curvature and
        # no second moment: it alone gave F1 an eigenvalue of 1.6e6.
        if chosen.preconditioned and mode == "batch":
            settings = {
                **common,
                "iterations": chosen.lanczos_iterations,
                "tolerance": chosen.lanczos_tolerance,
            }
            listed.append(
                Task(
                    f"hessian/preconditioned/{mode}",
                    settings,
                    HESSIAN_VECTOR * number * EXPECTED_ITERATIONS,
                    functools.partial(_preconditioned, chosen, number, mode),
                )
            )
    return listed


def _trace(
    chosen: config.Hessian,
    examples: int,
    mode: str,
    control: bool,
    bench: Bench,
    point: Point,
) -> Measurement:
    x = point.parameters
    objective = bench.objective(point.statistics, examples, mode)
    control = control and bench.num_classes <= MOST_CLASSES
    found = trace.hutchinson(
        (objective.residual if control else objective.hessian)(x),
        x,
        jax.random.key(SEED),
        chosen.trace_probes,
        tolerance=chosen.trace_tolerance,
        control=objective.gauss_newton_diagonal(x) if control else None,
    )
    detail = {
        "stderr": found.stderr,
        "probes": found.num_matvecs,
        "stopped": found.stopped,
        "examples": examples,
        "control": "gauss_newton" if control else "",
        "samples": found.samples.tolist(),
        "layers": {
            path: {"trace": layer.value, "stderr": layer.stderr}
            for path, layer in found.layers.items()
        },
    }
    return Measurement({f"hessian/trace/{mode}": found.value}, detail)


def _eigenvalues(
    chosen: config.Hessian,
    examples: int,
    mode: str,
    bench: Bench,
    point: Point,
) -> Measurement:
    objective = bench.objective(point.statistics, examples, mode)
    found = lanczos.eigenpairs(
        objective.hessian(point.parameters),
        point.parameters,
        jax.random.key(SEED),
        chosen.eigenvalues,
        iterations=chosen.lanczos_iterations,
        tolerance=chosen.lanczos_tolerance,
    )
    detail = {
        **_pairs(found, examples),
        "eigenvalues": found.values.tolist(),
        "residuals": found.residuals.tolist(),
        "all_converged": found.converged.tolist(),
    }
    return Measurement({f"hessian/lambda_max/{mode}": float(found.values[0])}, detail)


def _preconditioned(
    chosen: config.Hessian,
    examples: int,
    mode: str,
    bench: Bench,
    point: Point,
) -> Measurement:
    if point.preconditioner is None:
        return Measurement({}, {"absent": "the optimizer has no second moments"})
    objective = bench.objective(point.statistics, examples, mode)
    found = lanczos.eigenpairs(
        operator.preconditioned(
            objective.hessian(point.parameters), point.preconditioner
        ),
        point.parameters,
        jax.random.key(SEED),
        1,
        iterations=chosen.lanczos_iterations,
        tolerance=chosen.lanczos_tolerance,
    )
    name = f"hessian/preconditioned/{mode}"
    return Measurement({name: float(found.values[0])}, _pairs(found, examples))


def _pairs(found: lanczos.Eigenpairs, examples: int) -> dict[str, Any]:
    return {
        "residual": float(found.residuals[0]),
        "converged": bool(found.converged[0]),
        "matvecs": found.num_matvecs,
        "examples": examples,
    }
