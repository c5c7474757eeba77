"""How well each run's Hessian numbers are known: the trace's standard error, the eigenvalue's residual."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bsexp.report import tables
from bsexp.report.folder import Study, number, section
from bsexp.report.measures import MODES


@dataclass(frozen=True)
class Spectrum:
    """The Hessian of one run in one batch-norm mode, as text."""

    run: str
    mode: str
    trace: str
    probes: str
    largest: str
    residual: str
    converged: str


def spectra(study: Study) -> Iterator[Spectrum]:
    """The trace with its standard error and the largest eigenvalue with its residual, by run and mode."""
    for runs in study.groups.values():
        for run in runs:
            for mode in MODES:
                trace = run.measurements.get(f"hessian/trace/{mode}")
                largest = run.measurements.get(f"hessian/lambda_max/{mode}")
                if trace or largest:
                    yield _spectrum(run.title, mode, trace, largest)


def _spectrum(run: str, mode: str, trace: Any, largest: Any) -> Spectrum:
    estimate, pair = section(trace, "detail"), section(largest, "detail")
    value = number(section(trace, "values").get(f"hessian/trace/{mode}"))
    top = number(section(largest, "values").get(f"hessian/lambda_max/{mode}"))
    converged = {True: "yes", False: "no"}.get(pair.get("converged"), tables.ABSENT)
    return Spectrum(
        run=run,
        mode=mode,
        trace=tables.spread(value, number(estimate.get("stderr"))),
        probes=str(estimate.get("probes", tables.ABSENT)),
        largest=tables.spread(top, math.nan),
        residual=tables.spread(number(pair.get("residual")), math.nan),
        converged=converged,
    )
