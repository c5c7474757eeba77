"""A study: what is missing is computed, what is there is reused."""

import functools
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from bsexp import (
    config,
    door,
    environment,
    items,
    laboratory,
    models,
    probes,
    progress,
    renewal,
    report,
    results,
    sharing,
    workdir,
    workshop,
)
from bsexp.catalogue import Catalogue
from bsexp.data import augmentation, examples, sources
from bsexp.probes import task
from bsexp.report import curvature, measures, tables
from bsexp.training import optim, processes, recipe, scaling, schedules, timeline


def catalogue() -> Catalogue:
    """Return the names that a configuration may use."""
    return Catalogue(
        models={name: tuple(each) for name, each in models.NETWORKS.items()},
        probes=tuple(probes.PROBES),
        modes=models.MODES,
        is_measure=measures.is_known,
        optimizers=optim.catalogue(),
        optimizer_error=optim.error,
        training_examples=examples.training_examples,
        finished_run=results.finished_run,
        model_error=_model_error,
        normalised=_normalised,
        network_code=models.own_code,
        schedules=schedules.catalogue(),
        schedule_errors=recipe.schedule_errors,
        rules=tuple(scaling.RULES),
        scaling_error=scaling.error,
        recipe_errors=_recipe_errors,
        whole_epochs=timeline.whole_epochs,
        kept_epochs=lambda folder: results.kept_epochs(Path(folder)),
    )


def _described(base: config.Base) -> sources.Description | None:
    """Return what the data set is; None where there is no such data set, an error of its own that the door tells."""
    try:
        return sources.describe(base.data.name, base.data.dir)
    except (ValueError, OSError):
        return None


def _model_error(base: config.Base) -> str:
    model, data = base.model, _described(base)
    if model.own:
        shape, classes = (data.image_shape, data.num_classes) if data else (None, 1)
        return models.own_error(model.name, shape, classes, model.precision)
    return (
        models.image_error(model.name, model.variant, data.image_shape) if data else ""
    )


def _normalised(base: config.Base) -> bool:
    found = examples.describe(base.data)
    return recipe.normalised(
        workshop.build_model(base.model, found.image_shape, found.num_classes)
    )


def _recipe_errors(base: config.Base, size: int, number: int) -> dict[str, str]:
    # Of networks all but the user's have batch norm.
    normalised = not base.model.own or bool(_model_error(base)) or _normalised(base)
    found = recipe.errors(base, size, number, normalised=normalised)
    return found | _augmentation_errors(base)


def _augmentation_errors(base: config.Base) -> dict[str, str]:
    settings = base.augmentation
    changed = [name for name, value in vars(settings).items() if value]
    data = _described(base) if changed else None
    if data is None:
        return {}
    if len(shape := data.image_shape) != 3:
        return {
            f"augmentation.{name}": f"{base.data.name} holds vectors, not images"
            for name in changed
        }
    if settings.crop >= min(shape[:2]):
        return {
            "augmentation.crop": f"must be below the {min(shape[:2])} pixels of {base.data.name}'s shorter side: it is the width of the "
            "frame of zeros, not that of the crop"
        }
    if settings.shift and not any(augmentation.shift_limits(settings.shift, shape)):
        pixels = " x ".join(map(str, shape[:2]))
        return {
            "augmentation.shift": f"is less than a pixel of {base.data.name}'s {pixels}"
        }
    return {}


def wanted(
    plan: door.Plan, described: sources.Description | None = None
) -> list[items.Item]:
    """List every measurement of a study, on its runs' data sets or on one as described."""
    measure = plan.study.measure

    @functools.cache
    def of(data: config.Data) -> tuple[list[task.Task], list[task.Task]]:
        found = described or examples.describe(data)
        sizes = {"train": found.train_examples, "test": found.test_examples}
        if found.validation_examples:
            sizes["validation"] = found.validation_examples
        return (
            probes.tasks(measure.probes, measure, sizes),
            probes.tasks(measure.along.probes, measure, sizes),
        )

    return items.plan_items(plan, lambda run: of(run.base.data))


def run(
    plan: door.Plan,
    name: str,
    command: str,
    folder: Path,
    console: Console,
    line: processes.Line,
    began: float | None,
) -> int:
    """Compute what is missing of a study, then write and print its report.

    Args:
        plan: from `door.open_study`.
        name: of the experiment.
        command: the command line, for the report.
        folder: the study's folder.
        console: where to print.
        line: to the processes that train with this one.
        began: when its time began, of ``time.perf_counter``; None: with the program.

    Returns:
        0, or 1 where a run failed.

    Raises:
        interruption.Interrupted: SIGINT or SIGTERM came; everything finished is saved.
        workdir.FolderError: another process works in ``folder``.
    """
    with workdir.locked(folder):
        place = workdir.Workdir(folder, plan, name, command, began)
        asked = wanted(plan)
        data = data_sets(plan)
        place.check_data(data)
        place.sort_out(asked)
        renewal.check(place, asked)
        for said in (*place.differences(), *renewal.renew(place, asked)):
            console.print(said, highlight=False, markup=False, soft_wrap=True)
        missing = place.missing(asked)
        if missing:
            engines = sorted({each.base.execution.engine for each in plan.runs})
            found = {
                **environment.describe(),
                "engine": ", ".join(engines),
                "data": data,
            }
            place.open(found)
            try:
                _compute(plan, place, missing, found, console, line)
            finally:
                place.add_seconds()
        else:
            console.print(
                f"{folder}: nothing to compute.", markup=False, soft_wrap=True
            )
            console.print(
                "To compute it again, name another folder: --workdir=DIR", markup=False
            )
        place.close(complete=not place.missing(asked))
        tables.print_table(report.build(folder), console)
        if plan.study.run:
            curvature.print_details(report.folder.read(folder), console)
        _say_where(folder, place, console)
        return _tell_failures(plan, place, console)


def lead(
    plan: door.Plan,
    name: str,
    command: str,
    folder: Path,
    console: Console,
    began: float | None = None,
) -> int:
    """Run a study as the leading process, or the only one, and tell the others when it has ended.

    Takes and returns what `run` does.

    Raises:
        interruption.Interrupted: SIGINT or SIGTERM came; everything finished is saved.
        door.ConfigError: the folder, or what is in it, cannot be used.
        bounds.FieldError: another process is about to train something else.
    """
    processes.check_agreement(_fingerprint(plan))
    line = processes.Line()
    code = 1  # of an error
    try:
        code = run(plan, name, command, folder, console, line, began)
    except (OSError, workdir.FolderError, results.BrokenFileError) as error:
        raise door.ConfigError([str(error)]) from error
    finally:
        line.tell(end=code)
    return code


def follow(plan: door.Plan, name: str, folder: Path) -> int:
    """Train with the process that leads until its study has ended; return its exit code.

    Args:
        plan: as in the leading process.
        name: of the experiment.
        folder: the study's folder, which all processes see.

    Raises:
        interruption.Interrupted: SIGINT or SIGTERM came to one of the processes.
        bounds.FieldError: another process is about to train something else.
    """
    processes.check_agreement(_fingerprint(plan))
    place = workdir.Workdir(folder, plan, name, "")
    with progress.Progress(0.0, Console(quiet=True)) as unseen:
        return laboratory.Laboratory(plan, place, {}, unseen, processes.Line()).follow()


def _fingerprint(plan: door.Plan) -> str:
    """Write out what all processes must have alike: every field but where the data lie, and what these are."""
    return f"{door.fields(plan)} {json.dumps(data_sets(plan))}"


def data_sets(plan: door.Plan) -> dict[str, dict[str, Any]]:
    """Return what is written down of each data set of a study: its version, its digest, and whether it is synthetic.

    Raises:
        door.ConfigError: two groups mean other data by the same name, by which alone runs and their evidence know them.
    """
    places = {(run.base.data.name, run.base.data.dir) for run in plan.runs}
    found: dict[str, dict[str, Any]] = {}
    for name, place in sorted(places):
        described = sources.describe(name, place)
        here = {
            "version": described.version,
            "digest": sources.digest(name, place),
            "synthetic": described.synthetic,
        }
        if found.setdefault(name, here) != here:
            wrong = f"config.data.dir={place}: holds other data under the name {name} than the folder of another group"
            raise door.ConfigError([f"{wrong}; give one of them another name"])
    return found


def _say_where(folder: Path, place: workdir.Workdir, console: Console) -> None:
    console.print(f"Report: {folder / 'report.html'}", markup=False, soft_wrap=True)
    seconds = place.seconds()
    console.print(
        f"Computed in {progress.clock(seconds['total'])}, start and compilation included: "
        f"training {progress.clock(seconds['training'])}, measuring {progress.clock(seconds['measuring'])}."
    )


def _tell_failures(plan: door.Plan, place: workdir.Workdir, console: Console) -> int:
    failed = [
        (run, place.status(run))
        for run in plan.runs
        if place.status(run).get("state") == "failed"
    ]
    for run, status in failed:
        console.print(
            f"failed: {run.name}: {status['reason']}", markup=False, soft_wrap=True
        )
    return 1 if failed else 0


def _compute(
    plan: door.Plan,
    place: workdir.Workdir,
    missing: list[items.Item],
    found: dict[str, Any],
    console: Console,
    line: processes.Line,
) -> None:
    """Train and measure, seed by seed, so that pairs are complete as early as possible."""
    needed = items.needed_runs(missing)
    runs = [run for run in plan.runs if run.name in needed]
    starts = [run.donor for run in runs if run.donor]
    for said in sharing.take_over(place, plan, runs + starts):
        console.print(said, highlight=False, markup=False, soft_wrap=True)
    work = sum(item.task.cost for item in missing) + sum(
        workshop.training_work(place, run) for run in runs
    )
    with progress.Progress(work, console) as shown:
        opened = laboratory.Laboratory(plan, place, found, shown, line)
        for run in runs:
            point = opened.point(run, runs)
            if point is not None:
                own = [item for item in missing if item.run == run]
                # Once more: a run that ended early lacks nothing at the epochs that it does not have.
                opened.measure(run, point, place.missing(own))
