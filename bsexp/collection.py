"""Several studies, one after the other, and one report: what is missing is computed, what is there is reused.

An experiment is a collection where its configuration has ``studies``: names of other experiments with their arguments,
such as "sharp_minima:F1". Each is a study of its own in a folder of its own. ``estimated`` names studies that are too long to be
run here: their results are shown where they are there, otherwise what they would cost.
"""

import re
import shlex
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from bsexp import (
    command,
    config,
    door,
    dry_run,
    estimate,
    keskar2017,
    results,
    study,
)
from bsexp.data import sources
from bsexp.report import build, collection

FIELDS = ("question", "source", "studies", "estimated")


@dataclass(frozen=True)
class Member:
    """One study of a collection.

    Attributes:
        name: experiment and argument, such as "sharp_minima:F1".
        experiment: its file.
        folder: of its results.
        settings: its configuration, as the experiment gives it.
        plan: the study where it is to be run, or None.
        reason: why it is not; empty where it is.
    """

    name: str
    experiment: Path
    folder: Path
    settings: Mapping[str, Any]
    plan: door.Plan | None
    reason: str

    @property
    def line(self) -> str:
        """The command that runs this study alone."""
        given = _config(self.experiment, self.name.partition(":")[2])
        words = f"--config={given}", f"--workdir={self.folder}"
        return f"python -m bsexp.main {shlex.join(words)}"

    @property
    def there(self) -> bool:
        """Whether it has results, finished or not."""
        return (self.folder / "study.json").exists()


def lead(
    settings: Mapping[str, Any], asked: command.Command, folder: Path, console: Console
) -> int:
    """Show what a collection would cost where the command line asks for that, otherwise run it.

    Raises:
        interruption.Interrupted: SIGINT or SIGTERM came; everything finished is saved.
        door.ConfigError: a study is wrong, or a folder, or what is in it, cannot be used.
    """
    members = open_members(settings, asked, folder)
    if asked.dry_run or asked.print_config:
        trained: set[str] = set()
        for member in members:
            trained |= {*_show(member, console, trained, cost=asked.dry_run)}
        return 0
    try:
        return run(members, settings, asked, folder, console)
    except (OSError, results.BrokenFileError) as error:
        raise door.ConfigError([str(error)]) from error


def open_members(
    settings: Mapping[str, Any], asked: command.Command, folder: Path
) -> list[Member]:
    """Open every study of a collection before the first one starts.

    Args:
        settings: of the collection.
        asked: the command line.
        folder: of the collection's results.

    Raises:
        ConfigError: with all errors of all studies.
    """
    errors = [
        f"config.{name}={value}: belongs to one study of the collection; run that one with --config"
        for name, value in asked.overrides
    ]
    errors += [f"config.{name}: unknown field" for name in settings.keys() - {*FIELDS}]
    if asked.place or jax.process_count() > 1:
        errors.append(
            "--coordinator: a collection runs in one process; its studies, one by one, in several"
        )
    members = []
    for kind in ("studies", "estimated"):
        names = settings.get(kind, ())
        if not _are_names(names):
            errors.append(
                f"config.{kind}={names!r}: must be a tuple of names of experiments beside this one, such as ('sharp_minima:F1',)"
            )
            continue
        for name in names:
            try:
                members.append(
                    _open(name, asked.experiment, folder, run=kind == "studies")
                )
            except door.ConfigError as error:
                errors += [f"{name}: {line}" for line in error.errors]
    if not members and not errors:
        errors.append("config.studies=(): names no study to run")
    if errors:
        raise door.ConfigError(errors)
    return members


def _show(
    member: Member, console: Console, trained: set[str], *, cost: bool
) -> Collection[str]:
    """Print a study, and of one that is to be run what it costs, or its fields; nothing is trained and nothing is written.

    ``trained`` are the runs of the studies before it; the ones that it trains itself are returned.
    """
    state = member.reason or ("has results" if member.there else "to be computed")
    console.print(f"\n{member.name}: {state}", markup=False, soft_wrap=True)
    if member.plan is None:
        return ()
    if cost:
        return dry_run.show(member.plan, member.folder, console, trained)
    command.print_config(member.plan, console)
    return ()


def run(
    members: Sequence[Member],
    settings: Mapping[str, Any],
    asked: command.Command,
    folder: Path,
    console: Console,
) -> int:
    """Compute what is missing of every study, in their order, and write the one report after each.

    Args:
        members: from `open_members`.
        settings: of the collection.
        asked: the command line.
        folder: of the collection's results.
        console: where to print.

    Returns:
        0, or 1 where a run of a study failed.

    Raises:
        interruption.Interrupted: SIGINT or SIGTERM came; everything finished is saved.
        door.ConfigError: the folder of a study, or what is in it, cannot be used.
        OSError: the collection's folder cannot be used.
        results.BrokenFileError: what is in it is not what it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "schema": results.SCHEMA,
        "name": asked.experiment.stem,
        "question": settings.get("question", ""),
        "source": settings.get("source", ""),
        "command": f"python -m bsexp.main --config={_config(asked.experiment, asked.argument)}",
    }
    code, began = 0, None
    known = _estimates(folder)
    for member in members:
        console.print(f"\n{member.name}", markup=False, style="bold")
        if member.plan is not None:
            name = member.experiment.stem
            code |= study.lead(
                member.plan, name, member.line, member.folder, console, began
            )
        elif member.there:
            console.print("taken as it is", markup=False)
            build(member.folder)
        else:
            console.print(
                f"not run here: {member.reason}", markup=False, soft_wrap=True
            )
            known[member.name] = _estimate(member, known.get(member.name))
        studies = [_entry(each, known.get(each.name)) for each in members]
        results.write_json(folder / results.COLLECTION, {**record, "studies": studies})
        answer = collection.build(folder)
        began = time.perf_counter()
    console.print(f"\n{answer}", markup=False, soft_wrap=True)
    console.print(f"Report: {folder / 'report.html'}", markup=False, soft_wrap=True)
    return code


def _are_names(names: Any) -> bool:
    """Say whether these are experiments with their arguments: files of one folder, by their stems."""
    return isinstance(names, tuple | list) and all(
        isinstance(name, str) and re.fullmatch(r"[\w.-]+", name.partition(":")[0])
        for name in names
    )


def _open(name: str, beside: Path, folder: Path, *, run: bool) -> Member:
    """Open a study that stands beside the collection's file, or say why it is not run."""
    stem, _, argument = name.partition(":")
    experiment = beside.with_name(f"{stem}.py")
    settings = command.load_settings(experiment, argument)
    place = folder / command.default_workdir(experiment, argument).name
    member = Member(name, experiment, place, settings, None, "")
    data = _data(settings)
    if not run:
        reason = f"needs the data set {data['name']} and the time below: {member.line}"
        return replace(member, reason=reason)
    if _is_missing(data):
        reason = (
            f"the data set {data['name']} is not prepared; see scripts/prepare_data.py"
        )
        return replace(member, reason=reason)
    return replace(member, plan=door.open_study(settings, (), study.catalogue()))


def _is_missing(data: Mapping[str, Any]) -> bool:
    """Say whether a data set is not there; where it is there and cannot serve, the door says why."""
    try:
        sources.describe(data["name"], data["dir"])
    except (ValueError, OSError) as error:
        return isinstance(error, sources.DatasetNotFoundError)
    return False


def _config(experiment: Path, argument: str) -> str:
    return f"{experiment}:{argument}" if argument else str(experiment)


def _entry(member: Member, estimated: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what collection.json says of a study; where it has results they speak for themselves."""
    absent = not member.there
    return {
        "name": member.name,
        "folder": member.folder.name,
        "reason": (member.reason or "not reached yet") if absent else "",
        "estimate": estimated if absent else None,
    }


def _estimates(folder: Path) -> dict[str, Any]:
    """Read the estimates that were made before, on whatever machine: the report does not depend on who rebuilds it."""
    file = folder / results.COLLECTION
    studies = results.read_json(file, "studies")["studies"] if file.exists() else []
    return {each["name"]: each["estimate"] for each in studies if each["estimate"]}


def _estimate(
    member: Member, old: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    if _data(member.settings)["name"] not in keskar2017.DATA:
        return None
    plan = estimate.plan(member.settings)
    now = estimate.VERSION, [each.name for each in plan.runs]
    same = old and (old.get("version"), old["names"]) == now
    return old if same else estimate.estimate(plan)


def _data(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data set of a study's configuration, and its folder."""
    given = settings.get("data", {})
    return {"name": config.Data.name, "dir": config.Data.dir, **given}
