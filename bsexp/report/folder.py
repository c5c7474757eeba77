"""Read a study's folder as it is: whatever is missing or broken is named, never guessed."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from bsexp import results

STAND_IN = "synthetic stand-in"  # for data that are not here
PATHS = "path/"  # measurements that only the compared group's runs have
TARGET = "target/"  # when a run reached its target, if it did
# Those of which the baseline is measured as trained only, at the factor 1.
RESCALED = "invariance/"


@dataclass(frozen=True)
class Run:
    """One run: its labels, and what its folder holds (empty where a file is missing).

    ``measurements`` are those at the end of training, ``along`` those after epochs of it.
    """

    name: str
    group: str
    seed: int
    batch_size: int
    status: Mapping[str, Any]
    env: Mapping[str, Any]
    rows: list[dict[str, Any]]
    measurements: Mapping[str, Mapping[str, Any]]
    along: Mapping[int, Mapping[str, Mapping[str, Any]]]

    @property
    def title(self) -> str:
        """The run in words: group and seed."""
        return f"{self.group}, seed {self.seed}"

    @property
    def state(self) -> str:
        """The state that status.json gives."""
        return str(self.status.get("state", "state unknown"))

    @property
    def values(self) -> dict[str, float]:
        """Every measure at the end of this run, and when it reached its target; NaN where it is null, or was not reached."""
        target = section(self.status, "target")
        reached = {
            f"{TARGET}{name}": number(target.get(name))
            for name in ("epoch", "step", "examples", "seconds")
            if "target" in self.status
        }
        return {**values(self.measurements), **reached}


@dataclass(frozen=True)
class Study:
    """A study's folder: study.json, env.json, its runs in the order of study.json, and what could not be read."""

    record: Mapping[str, Any]
    env: Mapping[str, Any]
    runs: list[Run]
    problems: list[str]

    @property
    def groups(self) -> dict[str, list[Run]]:
        """Group -> its runs by seed; groups in the order of study.json."""
        names = dict.fromkeys(run.group for run in self.runs)
        return {
            name: sorted(
                (r for r in self.runs if r.group == name), key=lambda r: r.seed
            )
            for name in names
        }

    @property
    def comparison(self) -> tuple[str, str] | None:
        """The baseline group and the group compared with it, or None."""
        pair = self.record.get("comparison")
        return (pair[0], pair[1]) if pair else None

    @property
    def synthetic(self) -> list[str]:
        """The data sets that only have the shape of the data they are named after."""
        known = section(self.env, "data")
        return [name for name in known if section(known, name).get("synthetic")]

    def paper(self, group: str) -> dict[str, tuple[float, float]]:
        """The paper's (mean, std) of each measure of a group; empty where it gives none."""
        given = section(section(self.record, "reference"), group)
        return {
            measure: (number(pair[0]), number(pair[1]))
            for measure, pair in given.items()
        }


def read(workdir: str | PathLike) -> Study:
    """Read a study's folder.

    Raises:
        FileNotFoundError: there is no study.json; every other file may be missing or broken.
    """
    folder = Path(workdir)
    record = results.read_study(folder)
    problems: list[str] = []
    env = _object(folder, "env.json", problems)
    runs = [_read_run(folder, labels, problems) for labels in record["runs"]]
    return Study(record, env, runs, problems)


def missing(study: Study) -> list[str]:
    """Say in sentences what the report had to do without; empty for a complete study with finite values of all measures."""
    return [
        *absent(study),
        *_measures_without_meaning(study),
        *_ended_before(study),
        *_measures_null(study),
        *_paths_with_gaps(study),
    ]


def absent(study: Study) -> list[str]:
    """Say in sentences what the report lacks and a run could bring; empty for a complete study."""
    unfinished = [] if study.record.get("finished") else ["The study has not finished."]
    return [
        *unfinished,
        *_runs_not_done(study),
        *_epochs_absent(study),
        *study.problems,
        *_measures_absent(study),
    ]


def values(records: Mapping[str, Any]) -> dict[str, float]:
    """Every measure of a point's records; NaN where it is null."""
    return {
        measure: number(value)
        for record in records.values()
        for measure, value in section(record, "values").items()
        if not measure.endswith("_flag")
    }


def section(record: Any, key: str) -> Mapping[str, Any]:
    """The object under ``key``, or an empty one where it is missing or something else."""
    value = record.get(key) if isinstance(record, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float:
    """A JSON value as a finite float, NaN for null and for anything that is not a number."""
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    ):
        return float(value)
    return math.nan


def numbers(values: Any) -> list[float]:
    """A JSON list as floats, empty for anything that is not a list."""
    return [number(value) for value in values] if isinstance(values, list) else []


def _read_run(root: Path, labels: Mapping[str, Any], problems: list[str]) -> Run:
    place = f"runs/{labels['run']}"
    known = {"name": labels["run"], "group": labels["group"], "seed": labels["seed"]}
    known["batch_size"] = labels["batch_size"]
    if not (root / place).is_dir():
        empty = {"env": {}, "rows": [], "measurements": {}, "along": {}}
        return Run(**known, status={"state": "not started"}, **empty)
    measured = _object(root, f"{place}/measurements.json", problems)
    return Run(
        **known,
        status=_object(root, f"{place}/status.json", problems),
        env=_object(root, f"{place}/env.json", problems),
        rows=_rows(root, f"{place}/{results.CURVES}", problems),
        measurements=section(measured, "measurements"),
        along={
            int(epoch): records
            for epoch, records in section(measured, "along").items()
            if epoch.isdecimal() and isinstance(records, Mapping)
        },
    )


def _object(root: Path, name: str, problems: list[str]) -> Mapping[str, Any]:
    if not (root / name).exists():
        problems.append(f"{name} is not there.")
        return {}
    try:
        return results.read_json(root / name)
    except (
        ValueError
    ):  # its message holds a path of the machine, which no report should show
        problems.append(f"{name} is not what it should be.")
        return {}


def _rows(root: Path, name: str, problems: list[str]) -> list[dict[str, Any]]:
    try:
        rows = results.read_rows(root / name)
    except ValueError:
        problems.append(f"{name} is not what it should be.")
        return []
    if not rows:
        problems.append(f"{name} has no rows.")
    return rows


def _runs_not_done(study: Study) -> Iterator[str]:
    for run in study.runs:
        if run.state != "done":
            details = [
                f"{key}: {value}"
                for key, value in run.status.items()
                if isinstance(value, str) and key != "state"
            ]
            yield f"{run.title}: {'; '.join([run.state, *details])} ({run.name})."


def _epochs_absent(study: Study) -> Iterator[str]:
    for run in study.runs:
        absent = [
            f"{epoch:g}"
            for epoch in _asked_along(study)
            if epoch not in run.along and not epoch > _end(run)
        ]
        if absent and run.state == "done":
            yield f"{run.title}: not measured after epoch {', '.join(absent)}."


def _ended_before(study: Study) -> Iterator[str]:
    """Name, a sentence a group, the runs that ended before an epoch after which they would have been measured."""
    last = max(_asked_along(study), default=0.0)
    for group, runs in study.groups.items():
        ended = [
            f"seed {run.seed} after {_end(run):.3g}"
            for run in runs
            if run.state == "done" and _end(run) < last
        ]
        if ended:
            yield f"{group}: ended before epoch {last:g}, the last after which it was to be measured: {', '.join(ended)}."


def _asked_along(study: Study) -> list[float]:
    """Return the epochs after which runs are measured."""
    measure = section(section(study.record, "config"), "measure")
    return numbers(section(measure, "along").get("epochs"))


def _end(run: Run) -> float:
    """Return the epochs that a run has so far; NaN where its curves are not there."""
    return number(run.rows[-1].get("epoch")) if run.rows else math.nan


def _measures_absent(study: Study) -> Iterator[str]:
    common = dict.fromkeys(
        name
        for run in study.runs
        for name in run.measurements
        if not name.startswith(PATHS)
    )
    for runs in study.groups.values():
        paths = dict.fromkeys(
            name for run in runs for name in run.measurements if name.startswith(PATHS)
        )
        for run in runs:
            absent = [
                name
                for name in [*common, *paths]
                if name not in run.measurements and not _of_others(study, run, name)
            ]
            if not run.measurements and run.state == "done":
                yield f"{run.title}: no measurements."
            elif absent and run.state == "done":
                yield f"{run.title}: not measured: {', '.join(absent)}."


def _of_others(study: Study, run: Run, name: str) -> bool:
    """Say whether a measurement is not asked for of the baseline."""
    baseline = study.comparison is not None and run.group == study.comparison[0]
    return baseline and name.startswith(RESCALED) and name != f"{RESCALED}1"


def _measures_without_meaning(study: Study) -> Iterator[str]:
    """Name what a run cannot have, such as Adam's preconditioner after SGD, and why."""
    for run in study.runs:
        for name, record in run.measurements.items():
            reason = section(record, "detail").get("absent")
            if reason:
                yield f"{run.title}: no {name}: {reason}."


def _measures_null(study: Study) -> Iterator[str]:
    for run in study.runs:
        for when, found in {
            "": run.values,
            **{f" after epoch {at}": values(run.along[at]) for at in sorted(run.along)},
        }.items():
            null = [
                name
                for name, value in found.items()
                if math.isnan(value) and not name.startswith(TARGET)
            ]
            if null:
                yield f"{run.title}{when}: no finite value of {', '.join(null)}."


def _paths_with_gaps(study: Study) -> Iterator[str]:
    for run in study.runs:
        for name, record in run.measurements.items():
            curves = section(record, "detail") if name.startswith(PATHS) else {}
            values = [v for curve in curves.values() for v in numbers(curve)]
            gaps = sum(math.isnan(value) for value in values)
            if gaps:
                yield f"{run.title}: {name} lacks {gaps} of {len(values)} values."
