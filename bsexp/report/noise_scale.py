"""The gradient noise scale of each run with its confidence interval."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bsexp.report import tables
from bsexp.report.folder import Study, number, section
from bsexp.report.measures import describe


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


def _text(found: Mapping[str, Any], key: str) -> str:
    """Write a number, or the infinity whose flag stands beside its null."""
    flag = {"inf": "∞", "-inf": "\N{MINUS SIGN}∞"}.get(str(found.get(f"{key}_flag")))
    return flag or tables.spread(number(found.get(key)), math.nan)
