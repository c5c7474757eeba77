"""The gradient noise scale: of each run with its confidence interval, and of several together."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bsexp.report import tables
from bsexp.report.folder import Study, number, section
from bsexp.report.measures import describe

MEASURE = "noise_scale/"


@dataclass(frozen=True)
class NoiseScale:
    """One noise scale of one run, as text."""

    run: str
    kind: str
    value: str
    low: str
    high: str
    sample: str


def noise_scales(study: Study) -> Iterator[NoiseScale]:
    """Every noise scale with the ends of its interval, by run."""
    for runs in study.groups.values():
        for run in runs:
            record = run.measurements.get("noise_scale/running")
            detail = section(record, "detail")
            for kind in ("simple", "curved"):
                found = section(detail, kind)
                if found:
                    ends = (_text(found, key) for key in ("value", "low", "high"))
                    sample = (
                        f"{detail.get('examples')} examples in groups of "
                        f"{detail.get('group_size')}"
                    )
                    label = describe(f"noise_scale/{kind}/running").label
                    yield NoiseScale(run.title, label, *ends, sample)


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


def _text(found: Mapping[str, Any], key: str) -> str:
    """Write a number, or the infinity whose flag stands beside its null."""
    flags = {"inf": math.inf, "-inf": -math.inf}
    infinite = flags.get(str(found.get(f"{key}_flag")))
    return tables.or_infinite(infinite or number(found.get(key)))
