"""The report's page: one self-contained HTML file, everything in it escaped, nothing in it loaded."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bsexp.report import batch_sizes, curvature, steps_to_target, tables
from bsexp.report.folder import (
    STAND_IN,
    Run,
    Study,
    absent,
    missing,
    number,
    section,
)
from bsexp.report.invariance import rescalings
from bsexp.report.measures import SEARCHES, SECTIONS, STALLED, describe
from bsexp.report.noise_scale import noise_scales
from bsexp.report.spectra import spectra
from bsexp.report.vector import inline

STATUSES = {
    "converged": "converged",
    "limit": "stopped at its iteration limit",
    "failed": "failed",
    "stationary": "did not leave the point, whose gradient is zero",
}
FOUND_NOTHING = ("failed", "stationary")


@dataclass(frozen=True)
class Search:
    """One sharpness measurement of one run: what each search found and how L-BFGS-B ended, in words."""

    run: str
    measure: str
    mode: str
    values: dict[str, str]
    best: str
    status: str
    message: str
    effort: str
    found_nothing: bool


def render(
    study: Study, summary: Mapping[str, Any], figures: Mapping[str, tuple[str, str]]
) -> str:
    """Render the page from the folder as read, its summary, and figure name -> (SVG text, description)."""
    rows = tables.rows(summary)
    # ours and free of scripts: matplotlib escapes what it draws, inline() escapes the description
    drawn = {name: inline(svg, name, label) for name, (svg, label) in figures.items()}
    svgs = {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704
    page = templates().get_template("page.html")
    return page.render(
        study=study.record,
        summary=summary,
        sections={
            name: [row for row in rows if row.section == name] for name in SECTIONS
        },
        papers={group: tables.has_paper(summary, group) for group in summary["groups"]},
        figures=svgs,
        searches=list(searches(study)),
        spectra=list(spectra(study)),
        eigenvalues=list(curvature.eigenvalues(study)),
        noise_scales=list(noise_scales(study)),
        rescalings=list(rescalings(study)),
        facts=dict(facts(study)),
        config=json.dumps(study.record.get("config", {}), indent=2, ensure_ascii=False),
        incomplete=bool(absent(study)),
        missing=missing(study),
        stand_ins=[f"{name}: {STAND_IN}" for name in study.synthetic],
        savings=list(steps_to_target.answer(study)),
        thresholds=list(batch_sizes.thresholds(study)),
    )


def templates() -> jinja2.Environment:
    """Return the pages' templates: everything escaped, nothing undefined."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def searches(study: Study) -> Iterator[Search]:
    """What the searches for the largest loss found, by run and measure."""
    for runs in study.groups.values():
        for run in runs:
            for measure, record in run.measurements.items():
                found = section(section(record, "detail"), "searches")
                if measure.startswith("sharpness/") and found:
                    yield _search(run, measure, section(record, "detail"))


def facts(study: Study) -> Iterator[tuple[str, str]]:
    """What another person needs to reproduce the study, as name -> text; absent facts are called unknown."""
    env = study.env or next((run.env for run in study.runs if run.env), {})
    yield "command", str(study.record.get("command", "unknown"))
    yield "commit", _commit(env)
    yield "seeds", ", ".join(map(str, sorted({run.seed for run in study.runs})))
    yield "Python", str(env.get("python", "unknown"))
    yield (
        "packages",
        ", ".join(
            f"{name} {version}" for name, version in section(env, "packages").items()
        )
        or "unknown",
    )
    yield "platform", str(env.get("platform", "unknown"))
    yield "processor", _processor(env)
    yield "devices", ", ".join(map(str, env.get("devices") or ["unknown"]))
    yield "engine", str(env.get("engine", "unknown"))
    yield "time", ", ".join(_times(section(study.env, "seconds"))) or "unknown"
    yield "started", str(study.record.get("started", "unknown"))
    yield "finished", str(study.record.get("finished") or "not yet")


def cores(number: object) -> str:
    """Write a number of cores, whatever stands there."""
    return f"{number} core{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Write seconds as a person would: 8.2 s, 13 min 32 s, 2 h 05 min; NaN as unknown."""
    if math.isnan(seconds):
        return "unknown"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest} s"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60:02d} min"
    )


def _search(run: Run, measure: str, detail: Mapping[str, Any]) -> Search:
    meaning, found = describe(measure), section(detail, "searches")
    quasi_newton, best = section(found, "lbfgsb"), str(detail.get("best", "unknown"))
    status = str(quasi_newton.get("status", "not run"))
    counts = [
        (quasi_newton.get("evaluations"), "evaluations"),
        (quasi_newton.get("iterations"), "iterations"),
        (detail.get("examples"), "examples"),
    ]
    reached = number(quasi_newton.get("value"))
    other = number(section(found, "sign_ascent").get("value"))
    behind = status not in FOUND_NOTHING and reached < STALLED * other
    words = STATUSES.get(status, status)
    return Search(
        run=run.title,
        measure=meaning.label,
        mode=meaning.mode,
        values={
            title: _value(section(found, name)) for name, title in SEARCHES.items()
        },
        best=SEARCHES.get(best, best),
        status=f"{words}, far below sign ascent" if behind else words,
        message=str(quasi_newton.get("message", "")),
        effort=", ".join(
            [
                *(f"{count} {what}" for count, what in counts if count is not None),
                *_moved(quasi_newton),
            ]
        ),
        found_nothing=behind or status in FOUND_NOTHING,
    )


def _moved(search: Mapping[str, Any]) -> Iterator[str]:
    """How far from the point the best one lies, where the search recorded it."""
    share = number(search.get("moved"))
    if math.isfinite(share):
        yield f"went {100 * share:.2g} % of the way to the faces of the box"


def _value(search: Mapping[str, Any]) -> str:
    return tables.spread(number(search.get("value")), math.nan)


def _commit(env: Mapping[str, Any]) -> str:
    commit = env.get("commit")
    if not commit:
        return "unknown"
    dirty = env.get("dirty")
    state = (
        "with uncommitted changes"
        if dirty
        else "clean"
        if dirty is False
        else "unknown whether changed"
    )
    return f"{commit} ({state})"


def _processor(env: Mapping[str, Any]) -> str:
    known = [
        (env.get("cpu"), str),
        (env.get("cores"), cores),
        (env.get("memory_gib"), "{} GiB of memory".format),
    ]
    return (
        ", ".join(write(value) for value, write in known if value is not None)
        or "unknown"
    )


def _times(seconds: Mapping[str, Any]) -> Iterator[str]:
    for name, value in seconds.items():
        yield f"{name} {duration(number(value))}"
