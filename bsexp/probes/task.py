"""One measurement: what it needs, what it is called, what it costs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bsexp.training.descent import Descent

# The cost of one example, in forward passes: a gradient is a forward and a backward pass of twice the products;
# a Hessian-vector product doubles both.
GRADIENT = 3
HESSIAN_VECTOR = 6
DIAGONAL = 14  # of the Gauss-Newton matrix, ten classes; seen on F1


class Point(NamedTuple):
    """A trained iterate.

    Attributes:
        run: name of its run.
        parameters: x.
        statistics: running averages of batch norm.
        start: x_0, where its training began; None for one that is only a pair's baseline any more.
        preconditioner: what Adam divides its steps by, a pytree like x; None for other optimizers.
        descent: what its optimizer would do next; None where its state is not known.
    """

    run: str
    parameters: Any
    statistics: Any
    start: Any
    preconditioner: Any | None = None
    descent: Descent | None = None


class Measurement(NamedTuple):
    """What a task found: numbers for the summary by their measure's name, and the evidence behind them."""

    values: dict[str, float]
    detail: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement that can be made, and made again, alone.

    Attributes:
        name: its key in measurements.json.
        settings: everything that decides its value beside the point; equal settings, equal value.
        cost: forward passes of one example.
        measure: (bench, point) -> measurement, or (bench, point, baseline) of a pair.
        pair: whether it measures a pair: only the compared group's runs, against the baseline of their seed.
        baseline: whether the runs of the baseline, which the other groups are compared with, are measured.
    """

    name: str
    settings: Mapping[str, Any]
    cost: float
    measure: Callable[..., Measurement]
    pair: bool = False
    baseline: bool = True
