"""What one per cent of the trace of F1's Hessian costs, method by method, in Hessian-vector products of time."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from benchmarks import f1, timing
from jax.tree_util import Partial
from matplotlib import style
from matplotlib.figure import Figure

from bsexp.curvature import block, composite, estimate, operator, trace
from bsexp.probes import bench

SAMPLES = 200  # from which the spread of one sample is known to 5 %
DIRECTIONS = 30
REPEATS = 8  # of XTrace, whose samples are whole runs: their spread is known to 27 %
TARGET = 0.01  # relative standard error
FIGURE = Path(__file__).parents[2] / "results" / "benchmarks" / "trace_cost.svg"
COLOURS = ("#0072B2", "#D55E00", "#009E73")


class Method(NamedTuple):
    """A way to estimate the trace.

    Attributes:
        name: in words.
        estimate: () -> an estimate with enough samples to know their spread.
        fixed_seconds: time before the first sample.
        sample_seconds: time of each sample.
        least: samples that it takes at least.
    """

    name: str
    estimate: Callable[[], estimate.Estimate]
    fixed_seconds: float
    sample_seconds: float
    least: int


class Curve(NamedTuple):
    """The error of a method against its cost, both in units of Hessian-vector products of time.

    Attributes:
        fixed: cost before the first sample.
        sample: cost of a sample.
        least: samples that it takes at least.
        spread: relative standard deviation of a sample.
    """

    fixed: float
    sample: float
    least: int
    spread: float


def rows(points: dict[str, f1.Point]) -> Iterator[dict[str, Any]]:
    """Measure every method's cost at every point, and draw error against cost."""
    curves: dict[str, dict[str, Curve]] = {}
    for name, point in points.items():
        curves[name] = {}
        product, methods = _methods(point)
        plain = None
        for method in methods:
            row, curve = _row(name, method, product)
            plain = plain or row["products_of_time"]
            row["times_cheaper_than_hutchinson"] = plain / row["products_of_time"]
            curves[name][method.name] = curve
            yield row
    _draw(curves, FIGURE)


def _row(name: str, method: Method, product: float) -> tuple[dict[str, Any], Curve]:
    found = method.estimate()
    spread = float(found.samples.std(ddof=1) / abs(found.value))
    needed = max(spread**2 / TARGET**2, method.least)
    seconds = method.fixed_seconds + needed * method.sample_seconds
    row = {
        "benchmark": f"trace of F1's Hessian at {name} to {TARGET:.0%}",
        "examples": f1.EXAMPLES,
        "method": method.name,
        "trace": found.value,
        "stderr": found.stderr,
        "spread_of_one_sample": spread,
        "samples_needed": needed,
        "seconds": seconds,
        "products_of_time": seconds / product,
    }
    fixed, each = method.fixed_seconds / product, method.sample_seconds / product
    return row, Curve(fixed, each, method.least, spread)


def _methods(point: f1.Point) -> tuple[float, list[Method]]:
    """Return the seconds of one Hessian-vector product, and the methods; times are medians over rounds."""
    x = point.parameters
    chunks = operator.split((point.inputs, point.labels), bench.RUNNING_CHUNK)
    objective = composite.composite(
        Partial(_predict, point.statistics), composite.CROSS_ENTROPY, chunks
    )
    hessian, residual = objective.hessian(x), objective.residual(x)
    probes = block.rademacher(jax.random.key(0), x, block.WIDTH)
    spent, other, _ = timing.paired(lambda: hessian(probes), lambda: residual(probes))
    product, rest = spent / block.WIDTH, other / block.WIDTH
    control, _, _ = timing.paired(
        lambda: objective.gauss_newton_diagonal(x), lambda: hessian(probes)
    )
    known = objective.gauss_newton_diagonal(x)
    sketch, run = 2 * DIRECTIONS, 4 * DIRECTIONS
    key = jax.random.key(1)
    least = estimate.LEAST_SAMPLES + estimate.RECENT

    def deflated(matrix: operator.Operator, diagonal: Any) -> trace.Trace:
        return trace.hutchpp(
            matrix,
            x,
            key,
            sketch + SAMPLES // 2,
            directions=DIRECTIONS,
            control=diagonal,
        )

    def repeated(matrix: operator.Operator, diagonal: Any) -> estimate.Estimate:
        budget = REPEATS * run
        return trace.xtrace(matrix, x, key, budget, repeats=REPEATS, control=diagonal)

    return product, [
        Method(
            "Hutchinson",
            lambda: trace.hutchinson(hessian, x, key, SAMPLES),
            0.0,
            product,
            least,
        ),
        Method(
            f"Hutch++, {DIRECTIONS} directions",
            lambda: deflated(hessian, None),
            sketch * product,
            product,
            least,
        ),
        Method(
            f"XTrace, {2 * DIRECTIONS} vectors",
            lambda: repeated(hessian, None),
            0.0,
            run * product,
            REPEATS,
        ),
        Method(
            "Gauss-Newton as control, Hutchinson",
            lambda: trace.hutchinson(residual, x, key, SAMPLES, control=known),
            control,
            rest,
            least,
        ),
        Method(
            f"Gauss-Newton as control, Hutch++, {DIRECTIONS} directions",
            lambda: deflated(residual, known),
            control + sketch * rest,
            rest,
            least,
        ),
        Method(
            f"Gauss-Newton as control, XTrace, {2 * DIRECTIONS} vectors",
            lambda: repeated(residual, known),
            control,
            run * rest,
            REPEATS,
        ),
    ]


def _predict(statistics: Any, parameters: Any, inputs: jax.Array) -> jax.Array:
    return f1.MODEL.apply(parameters, statistics, inputs, "running")


def _draw(curves: dict[str, dict[str, Curve]], file: Path) -> None:
    """Draw relative standard error, spread / sqrt(samples), against cost; with the control dashed."""
    with style.context(["default", {"svg.hashsalt": "bsexp", "axes.grid": True}]):
        figure = Figure(figsize=(9, 4), layout="constrained")
        panels = figure.subplots(1, len(curves), sharey=True)
        costs = np.geomspace(1, 10_000, 400)
        for panel, (name, methods) in zip(panels, curves.items(), strict=True):
            kinds = itertools.product(("-", "--"), COLOURS)
            for (method, curve), (line, colour) in zip(
                methods.items(), kinds, strict=True
            ):
                samples = (costs - curve.fixed) / curve.sample
                taken = samples >= curve.least
                error = curve.spread / np.sqrt(samples[taken])
                panel.plot(costs[taken], error, line, color=colour, label=method)
            panel.axhline(TARGET, color="0.5", linewidth=0.8, linestyle=":")
            panel.set(xscale="log", yscale="log", title=f"{name} minimum of F1")
            panel.set_xlabel("cost, Hessian-vector products of time")
        panels[0].set_ylabel("relative standard error of the trace")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.savefig(file, metadata={"Date": None})
