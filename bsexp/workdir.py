"""A study's folder: who works in it, what it holds, what it lacks."""

import contextlib
import dataclasses
import datetime as dt
import fcntl
import functools
import operator
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bsexp
from bsexp import config, conversion, door, items, results
from bsexp.probes import task
from bsexp.training import stopping

# What this module reads of study.json.
STUDY_KEYS = ("config", "runs", "started", "finished")
# States of a run in which a session that was killed may have left it.
UNSETTLED = ("training", "interrupted", "trained")
NO_SECONDS = {"total": 0.0, "training": 0.0, "measuring": 0.0}


class FolderError(ValueError):
    """A study's folder cannot be used: another process is computing there, or it cannot be written."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the kernel lets go of it when the process ends, however it ends.

    Raises:
        FolderError: another process holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise FolderError(f"--workdir={folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderError(
                f"--workdir={folder}: another process is computing there; wait for it, or name another folder"
            ) from error
        yield


def _published(plan: door.Plan) -> Mapping[str, Any]:
    """Return the published values of those groups whose data set, all of it as it is, and network are theirs."""
    reference = plan.study.reference
    whole = {"train_size", "validation_size", "label_noise"}
    same = {
        run.group
        for run in plan.runs
        if (run.base.data.name, run.base.model.name)
        == (reference.data, reference.model)
        and all(getattr(run.base.data, at) == getattr(config.Data, at) for at in whole)
    }
    return {
        group: values for group, values in reference.values.items() if group in same
    }


def now() -> str:
    """Return the time as results write it: UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


class Workdir:
    """The files of one study, as described in `bsexp.results`."""

    def __init__(
        self,
        folder: Path,
        plan: door.Plan,
        name: str,
        command: str,
        began: float | None = None,
    ) -> None:
        """Open a folder; its time counts from ``began``, of ``time.perf_counter``, or from the program's start."""
        self.folder = folder
        study, self._runs = plan.study, plan.runs
        runs = [
            {
                "run": run.name,
                "group": run.group,
                "seed": run.seed,
                "batch_size": run.batch_size,
            }
            for run in plan.runs
        ]
        self._new = {
            "schema": results.SCHEMA,
            "name": name,
            "question": study.question,
            "source": study.source,
            "command": command,
            "config": items.as_json(dataclasses.asdict(study)),
            "reference": items.as_json(_published(plan)),
            "comparison": list(study.compare) or None,
            "runs": runs,
        }
        self._measured = Path(study.run) if study.run else None
        self._counted = bsexp.STARTED if began is None else began
        file = folder / "study.json"
        self._old = results.read_json(file, *STUDY_KEYS) if file.exists() else {}

    def run_folder(self, run: config.Run) -> Path:
        """Return the folder of one run."""
        return self.folder / "runs" / run.name

    def weights_folder(self, run: config.Run) -> Path:
        """Return the folder of the run that holds its checkpoints: its own, or the finished run that is measured."""
        return self._measured or self.run_folder(run)

    def differences(self) -> list[str]:
        """Say in which fields the configuration differs from the one this folder was last used with."""
        if not self._old:
            return []
        # A folder that is older than a field was computed with that field's default.
        defaults = conversion.leaves(items.as_json(dataclasses.asdict(config.Study())))
        old, new = (
            conversion.leaves(self._old["config"]),
            conversion.leaves(self._new["config"]),
        )
        changed = [
            key
            for key in {**old, **new}
            if old.get(key, defaults.get(key)) != new.get(key) and key != "data.dir"
        ]
        if not changed:
            return []
        lines = [
            f"  config.{key}: was {old.get(key)!r}, is {new.get(key)!r}"
            for key in changed
        ]
        return [
            f"{self.folder} was last used with another configuration; equal runs are reused:",
            *lines,
        ]

    def check_data(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Check that the runs which are there were computed with the data sets of now, where that is written down.

        Args:
            found: data set -> what is written down of it.

        Raises:
            FolderError: another data set has taken the name of one.
        """
        for run in self._runs:
            name = run.base.data.name
            for folder in {self.run_folder(run), self.weights_folder(run)}:
                old, new = results.data_digest(folder, name), found[name]["digest"]
                if old and old != new:
                    raise FolderError(
                        f"config.data.name={name}: {folder} was computed with other data of that name, whose metadata have "
                        f"the digest {old} and not {new}: prepare those, or name another folder, --workdir=DIR"
                    )

    def missing(self, wanted: list[items.Item]) -> list[items.Item]:
        """Return the measurements that are not there, or were made with other settings.

        A run that ended before an epoch lacks nothing there, and one that diverged nothing at all, nor does a pair with it
        or what would begin with its weights.
        """
        runs = items.needed_runs(wanted)
        vain = {name for name, run in runs.items() if self._in_vain(run)}
        found = {
            name: [
                (at, each["settings"]) for at, each in _records(self.run_folder(run))
            ]
            for name, run in runs.items()
        }
        ends = {name: self.end(run) for name, run in runs.items()}

        def has(item: items.Item) -> bool:
            return (_place(item), item.settings) in found[item.run.name]

        return [
            item
            for item in wanted
            if not has(item)
            and (item.epoch or 0) <= ends[item.run.name]
            and not vain & items.needed_runs([item]).keys()
        ]

    def sort_out(self, wanted: list[items.Item]) -> None:
        """Put those measurements aside that the study does not ask for, and bring back the ones that it does.

        A report, and who loads the results, then see what was measured with the settings of study.json alone.
        """
        by_folder: dict[Path, dict[tuple[int | None, str], Mapping[str, Any]]] = {}
        for item in wanted:
            asked = by_folder.setdefault(self.run_folder(item.run), {})
            asked[_place(item)] = item.settings
        for folder, asked in by_folder.items():
            kept: dict[int | None, dict[str, Any]] = {None: {}}
            others = []
            for (epoch, name), record in _records(folder):
                point = kept.setdefault(epoch, {})
                if asked.get((epoch, name)) == record["settings"] and name not in point:
                    point[name] = record
                else:
                    others.append({"epoch": epoch, "name": name, **record})
            if others != results.aside(folder):
                results.write_points(folder, {None: {}, **kept}, others)

    def _in_vain(self, run: config.Run) -> bool:
        """Say whether a run diverged, or the one with whose weights it begins before it came there."""
        if run.donor is not None and self._in_vain(run.donor):
            kept = results.kept_epochs(self.weights_folder(run.donor))
            if run.base.start.epoch not in (0, *kept):
                return True
        return bool(self.status(run).get("diverged"))

    def end(self, run: config.Run) -> float:
        """Return the epochs that a run which was trained to its end has; infinity for one that may go on."""
        return results.end(self.run_folder(run))

    @property
    def finished(self) -> str | None:
        """When this very study was finished, or None."""
        return self._old["finished"] if self._same() else None

    def _same(self) -> bool:
        others = self._new.keys() - {"command", "config"}
        return (
            bool(self._old)
            and not self.differences()
            and all(self._old.get(key) == self._new[key] for key in others)
        )

    def open(self, environment: Mapping[str, Any]) -> None:
        """Write down what is going to be computed, and where.

        The time spent goes on from that of this very study, or from what runs that are there have taken.
        """
        going_on = self._same() and self._old["finished"] is None
        seconds = self.seconds() if going_on else self._spent_on_runs()
        started = self._old["started"] if going_on else now()
        self.folder.mkdir(parents=True, exist_ok=True)
        # NOTE: the evidence first: a study that is killed between the two files has lost nothing.
        results.write_json(
            self.folder / "env.json", {**environment, "seconds": seconds}
        )
        self._write_study(started=started, finished=None)

    def _spent_on_runs(self) -> dict[str, float]:
        """Return the time that another configuration's sessions spent on runs that are this one's too.

        Their start and compilation are not in it, and neither is the training that another study did.
        """
        found = dict(NO_SECONDS)
        for run in self._runs:
            file = self.run_folder(run) / "env.json"
            if not file.exists():
                continue
            evidence = results.read_json(file, "seconds")
            spent = dict(evidence["seconds"])
            if "trained_by" in evidence:
                spent["training"] = 0.0
            for kind, seconds in spent.items():
                found[kind] += seconds
                found["total"] += seconds
        return {kind: round(seconds, 3) for kind, seconds in found.items()}

    def close(self, *, complete: bool) -> None:
        """Write down whether the study is finished; what was finished before and lacked nothing keeps its time."""
        if complete:
            self._settle()
        if self.finished is not None:
            return
        old = {"started": now(), "finished": None, **self._old}
        finished = (old["finished"] or now()) if complete else None
        self._write_study(started=old["started"], finished=finished)

    def _settle(self) -> None:
        """Call runs done that lack nothing: one may have been killed before it said so, or was asked for more then."""
        for run in self._runs:
            status = self.status(run)
            state = status.get("state")
            if state in (*UNSETTLED, "done") or self._failed_later(run, status):
                # What stopped it is past, and the target may have become another one.
                old = ("reason", "target", "trained")
                kept = {key: status[key] for key in status if key not in old}
                done = {**kept, "state": "done", **self._target(run)}
                if done != status:
                    results.write_json(self.run_folder(run) / "status.json", done)

    def _failed_later(self, run: config.Run, status: Mapping[str, Any]) -> bool:
        """Say whether a run that failed was trained: then it lacked what is asked for no more."""
        if status.get("state") != "failed" or status.get("diverged"):
            return False
        known = results.measurements(self.run_folder(run))
        return results.is_trained(status) or bool(known)

    def _target(self, run: config.Run) -> dict[str, Any]:
        """Return when a run reached its target, None where it did not; nothing where it had none."""
        if not run.base.train.target:
            return {}
        rows = results.read_rows(self.weights_folder(run) / results.CURVES)
        row = stopping.target(rows, run.base.train)
        when = ("epoch", "step", "examples", "seconds")
        return {"target": row and {name: row[name] for name in when}}

    def _write_study(self, **times: str | None) -> None:
        self._old = {**self._new, **times}
        results.write_json(self.folder / "study.json", self._old)

    def seconds(self) -> dict[str, float]:
        """Return the time spent so far, over all the sessions that computed this study, see `open`."""
        file = self.folder / "env.json"
        return (
            results.read_json(file, "seconds")["seconds"]
            if file.exists()
            else dict(NO_SECONDS)
        )

    def add_seconds(self, **spent: float) -> None:
        """Add to the time spent on the study: ``spent`` to its parts, and to the total all since the last call.

        A session that is killed has lost the same in the total as in the parts.
        """
        moment = time.perf_counter()
        total, self._counted = moment - self._counted, moment
        _add_seconds(self.folder / "env.json", {"total": total, **spent})

    def open_run(self, run: config.Run, environment: Mapping[str, Any]) -> None:
        """Write down what a run is and where it is computed; of a run that is there already, where else."""
        folder = self.run_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        results.write_json(
            folder / "config.json",
            {"run": run.name, "group": run.group, **run.identity},
        )
        curves = self.weights_folder(run) / results.CURVES
        if curves.exists() and not (folder / results.CURVES).exists():
            results.write_rows(folder / results.CURVES, results.read_rows(curves))
        file = folder / "env.json"
        if file.exists():
            found = _continued(results.read_json(file, "seconds"), environment)
        else:
            found = {**environment, "seconds": {"training": 0.0, "measuring": 0.0}}
        results.write_json(file, found)

    def set_status(self, run: config.Run, state: str, **more: Any) -> None:
        """Write status.json: training, trained, done, interrupted or failed; when it reached its target once it is trained."""
        status = {"state": state, "time": now(), **more}
        reached = self._target(run) if results.is_trained(status) else {}
        results.write_json(self.run_folder(run) / "status.json", {**status, **reached})

    def status(self, run: config.Run) -> dict[str, Any]:
        """Read status.json; empty before the run began."""
        file = self.run_folder(run) / "status.json"
        return results.read_json(file, "state") if file.exists() else {}

    def add_run_seconds(self, run: config.Run, **spent: float) -> None:
        """Add to the time spent on one run, and on the study."""
        _add_seconds(self.run_folder(run) / "env.json", spent)
        self.add_seconds(**spent)

    def record(
        self, item: items.Item, measurement: task.Measurement, seconds: float
    ) -> None:
        """Add one measurement to its run."""
        folder = self.run_folder(item.run)
        entry = {
            "settings": item.settings,
            "values": measurement.values,
            "detail": measurement.detail,
            "seconds": round(seconds, 3),
        }
        found = results.points(folder)
        found.setdefault(item.epoch, {})[item.task.name] = entry
        results.write_points(folder, found)


def _place(item: items.Item) -> tuple[int | None, str]:
    """Return where a measurement stands among those of its run: the epoch of its point, and its name."""
    return item.epoch, item.task.name


def _records(
    folder: Path,
) -> list[tuple[tuple[int | None, str], Mapping[str, Any]]]:
    """List a run's measurements by where they stand, those first that its study asks for."""
    points = results.points(folder)
    shown = [
        ((epoch, name), record)
        for epoch, records in points.items()
        for name, record in records.items()
    ]
    own = {"epoch", "name"}
    others = [
        (
            (each["epoch"], each["name"]),
            {key: value for key, value in each.items() if key not in own},
        )
        for each in results.aside(folder)
    ]
    return shown + others


def _continued(
    evidence: Mapping[str, Any], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a run's evidence with what is otherwise in this session, which trains it further or measures it."""
    sessions = evidence.get("later", [])
    known = functools.reduce(operator.or_, sessions, dict(evidence))
    changed = {
        key: value for key, value in environment.items() if known.get(key) != value
    }
    if not changed:
        return dict(evidence)
    return {**evidence, "later": [*sessions, {"time": now(), **changed}]}


def _add_seconds(file: Path, spent: Mapping[str, float]) -> None:
    content = results.read_json(file, "seconds")
    for kind, seconds in spent.items():
        content["seconds"][kind] = round(content["seconds"][kind] + seconds, 3)
    results.write_json(file, content)
