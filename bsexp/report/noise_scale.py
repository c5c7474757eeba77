"""The gradient noise scale: of each run with its confidence interval, and of several together."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bsexp.report import tables
from bsexp.report.folder import Run, Study, number, section, values
from bsexp.report.measures import describe

MEASURE = "noise_scale/"
# By kind: plain, and the one that B_crit is about, in which the Hessian weights noise and gradient.
NAMES = {kind: f"{MEASURE}{kind}/running" for kind in ("simple", "curved")}


@dataclass(frozen=True)
class NoiseScale:
    """One noise scale of one run, as text."""

    run: str
    kind: str
    value: str
    low: str
    high: str
    sample: str


@dataclass(frozen=True)
class Typical:
    """A noise scale over the points where it was measured: quartiles, of which one may be infinite, and their number."""

    low: float
    median: float
    high: float
    points: int


def noise_scales(study: Study) -> Iterator[NoiseScale]:
    """Every noise scale with the ends of its interval, by run."""
    for runs in study.groups.values():
        for run in runs:
            record = run.measurements.get("noise_scale/running")
            detail = section(record, "detail")
            for kind, name in NAMES.items():
                found = section(detail, kind)
                if found:
                    ends = (_text(found, key) for key in ("value", "low", "high"))
                    sample = (
                        f"{detail.get('examples')} examples in groups of "
                        f"{detail.get('group_size')}"
                    )
                    yield NoiseScale(run.title, describe(name).label, *ends, sample)


def pooled(points: Iterable[Mapping[str, Any]], name: str) -> float:
    """Return the noise scale ``name`` of several points together: the sum of their traces over that of their squared gradients.

    The mean of the quotients would be infinite where one of them is, and the mean of the others too low. Infinite, with the
    sign of the traces, where the squared gradients do not add up to more than 0; NaN where a point lacks its two estimates.
    """
    _, kind, mode = name.split("/")
    found = [
        section(section(records.get(f"{MEASURE}{mode}"), "detail"), kind)
        for records in points
    ]
    trace, squared = (
        sum(number(each.get(estimate)) for each in found)
        for estimate in ("trace_covariance", "squared_gradient")
    )
    return math.copysign(math.inf, trace) if squared <= 0 else trace / squared


def along(runs: Iterable[Run], name: str) -> dict[int, float]:
    """Return, by epoch, the noise scale ``name`` of those runs together that were measured after it."""
    points: dict[int, list[Mapping[str, Any]]] = {}
    for run in runs:
        for epoch, records in run.along.items():
            if name in values(records):
                points.setdefault(epoch, []).append(records)
    return {epoch: pooled(points[epoch], name) for epoch in sorted(points)}


def at_the_end(runs: Iterable[Run], name: str) -> float:
    """Return the noise scale ``name`` of those runs together that were measured where training ends; NaN without any."""
    points = [run.measurements for run in runs if name in values(run.measurements)]
    return pooled(points, name) if points else math.nan


def typical(groups: Iterable[Sequence[Run]]) -> dict[str, Typical]:
    """Return the typical noise scale of each kind, along training and where it ends, each group's runs together; none that was not measured."""
    listed, found = list(groups), {}
    for kind, name in NAMES.items():
        points = [
            value
            for runs in listed
            for value in (*along(runs, name).values(), at_the_end(runs, name))
            if not math.isnan(value)
        ]
        if points:
            quartiles = np.quantile(points, (0.25, 0.5, 0.75), method="inverted_cdf")
            found[kind] = Typical(*map(float, quartiles), len(points))
    return found


def _text(found: Mapping[str, Any], key: str) -> str:
    """Write a number, or the infinity whose flag stands beside its null."""
    flags = {"inf": math.inf, "-inf": -math.inf}
    infinite = flags.get(str(found.get(f"{key}_flag")))
    return tables.or_infinite(infinite or number(found.get(key)))
