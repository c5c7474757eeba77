"""A study: what is missing is computed, what is there is reused."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from rich.console import Console

import bsexp
from bsexp import (
    config,
    door,
    environment,
    items,
    models,
    probes,
    progress,
    report,
    results,
    workdir,
)
from bsexp.curvature import operator
from bsexp.data import sources
from bsexp.probes import task
from bsexp.probes.bench import RUNNING_CHUNK, Bench
from bsexp.report import curvature, tables
from bsexp.training import engine, evaluation, interruption, loop, optim

if TYPE_CHECKING:
    import optax

# Training on one example in forward passes, for the time left: gradient, batch norm and Adam; seen on F1 at B = 256.
TRAINING = 4.5


def catalogue() -> door.Catalogue:
    """Return the names that a configuration may use."""
    return door.Catalogue(
        models=tuple(models.NETWORKS),
        probes=tuple(probes.PROBES),
        modes=models.MODES,
        optimizers=optim.catalogue(),
        optimizer_error=optim.error,
        training_examples=lambda name, folder: (
            sources.describe(name, folder).train_examples
        ),
        finished_run=results.finished_run,
    )


def tasks(study: config.Study) -> list[task.Task]:
    """Return every task that a study does at a point."""
    found = sources.describe(study.data.name, study.data.dir)
    return probes.tasks(
        study.measure, {"train": found.train_examples, "test": found.test_examples}
    )


def run(
    plan: door.Plan, name: str, command: str, folder: Path, console: Console
) -> int:
    """Compute what is missing of a study, then write and print its report.

    Args:
        plan: from `door.open_study`.
        name: of the experiment.
        command: the command line, for the report.
        folder: the study's folder.
        console: where to print.

    Returns:
        0, or 1 where a run failed.

    Raises:
        interruption.Interrupted: SIGINT or SIGTERM came; everything finished is saved.
        workdir.FolderError: another process works in ``folder``.
    """
    with workdir.locked(folder):
        place = workdir.Workdir(folder, plan, name, command)
        wanted = items.plan_items(plan, tasks(plan.study))
        for line in (*place.differences(), *place.renew(wanted)):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        missing = place.missing(wanted)
        if missing:
            found = environment.describe()
            place.open(found)
            try:
                _compute(plan, place, missing, found, console)
            finally:
                place.add_seconds(total=time.perf_counter() - bsexp.STARTED)
        else:
            console.print(
                f"{folder}: nothing to compute.", markup=False, soft_wrap=True
            )
            console.print(
                "To compute it again, name another folder: --workdir=DIR", markup=False
            )
        place.close(complete=not place.missing(wanted))
        tables.print_table(report.build(folder), console)
        if plan.study.run:
            curvature.print_details(report.folder.read(folder), console)
        _say_where(folder, place, console)
        return _tell_failures(plan, place, console)


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
) -> None:
    """Train and measure, seed by seed, so that pairs are complete as early as possible."""
    needed = items.needed_runs(missing)
    runs = [run for run in plan.runs if run.name in needed]
    work = sum(item.task.cost for item in missing) + sum(
        _training_work(plan, run) for run in runs
    )
    with progress.Progress(work, console) as shown:
        laboratory = _Laboratory(plan, place, found, shown)
        for run in runs:
            point = laboratory.train(run)
            if point is not None:
                laboratory.measure(
                    run, point, [item for item in missing if item.run == run]
                )


def _training_work(plan: door.Plan, run: config.Run) -> float:
    if plan.study.run:
        return 0.0
    examples = sources.describe(run.base.data.name, run.base.data.dir).train_examples
    return TRAINING * run.base.train.epochs * examples


class _Laboratory:
    """What the runs of a study share: data on the device, compiled programs, trained points."""

    def __init__(
        self,
        plan: door.Plan,
        place: workdir.Workdir,
        found: dict[str, Any],
        shown: progress.Progress,
    ) -> None:
        self._plan = plan
        self._place = place
        self._environment = found
        self._progress = shown
        self._points: dict[str, task.Point] = {}
        self._materials: dict[tuple[config.Data, config.Model], _Material] = {}
        self._programs: dict[
            str, tuple[optax.GradientTransformation, engine.Chunk]
        ] = {}

    def train(self, run: config.Run) -> task.Point | None:
        """Train a run, go on with it or restore it; None where it diverged, or its weights cannot be read."""
        place, began = self._place, time.perf_counter()
        place.open_run(run, self._environment)
        verb = "restore" if self._plan.study.run else "train"
        work = _training_work(self._plan, run)
        self._progress.begin(f"{verb} {run.group} seed {run.seed}", work)
        job = self._job(run)
        place.set_status(run, "training")
        try:
            state = (loop.restore if self._plan.study.run else loop.train)(job)
        except (FloatingPointError, loop.MissingWeightsError) as error:
            place.set_status(run, "failed", reason=str(error))
            return None
        except interruption.Interrupted as error:
            place.set_status(run, "interrupted", reason=str(error))
            raise
        finally:
            place.add_run_seconds(run, training=time.perf_counter() - began)
        place.set_status(run, "trained")
        point = task.Point(
            run.name,
            state.parameters,
            state.statistics,
            loop.start(job).parameters,
            optim.preconditioner(run.base.optimizer, state.optimizer),
        )
        self._points[run.name] = point
        return point

    def measure(
        self, run: config.Run, point: task.Point, missing: list[items.Item]
    ) -> None:
        """Make measurements of one run; a pair whose baseline diverged is left out."""
        bench = self._material(run).bench
        for item in missing:
            if item.baseline and item.baseline.name not in self._points:
                continue
            pair = (self._points[item.baseline.name],) if item.baseline else ()
            began = time.perf_counter()
            label = f"measure {run.group} seed {run.seed} {item.task.name}"
            self._progress.begin(label, item.task.cost)
            try:
                found = item.task.measure(bench, point, *pair)
            except ValueError as error:
                # A number that is not finite, say. This run cannot be trusted further; the others go on.
                reason = f"{item.task.name}: {error}"
                self._place.set_status(run, "failed", reason=reason)
                return
            seconds = time.perf_counter() - began
            self._place.record(item, found, seconds)
            self._place.add_run_seconds(run, measuring=seconds)
        self._place.set_status(run, "done")

    def _job(self, run: config.Run) -> loop.Job:
        material = self._material(run)
        if run.group not in self._programs:
            optimizer = optim.build(run.base.optimizer)
            self._programs[run.group] = (
                optimizer,
                engine.make_chunk(material.model, optimizer, run.batch_size),
            )
        optimizer, chunk = self._programs[run.group]
        return loop.Job(
            run=run,
            model=material.model,
            optimizer=optimizer,
            chunk=chunk,
            forward=material.forward,
            images=material.images,
            labels=material.labels,
            test=material.test,
            folder=self._place.weights_folder(run),
            heard=self._heard,
        )

    def _heard(self, examples: int, rate: float, loss: float, accuracy: float) -> None:
        self._progress.trained(TRAINING * examples, rate, loss, accuracy)

    def _material(self, run: config.Run) -> "_Material":
        key = run.base.data, run.base.model
        if key not in self._materials:
            self._materials[key] = _material(
                run.base, self._plan.study.measure, self._progress.spent
            )
        return self._materials[key]


@dataclasses.dataclass(frozen=True)
class _Material:
    """What runs on the same data with the same network share."""

    model: models.Model
    images: jax.Array
    labels: jax.Array
    test: list[Any]
    forward: evaluation.Forward
    bench: Bench


def _material(
    base: config.Base, measure: config.Measure, spent: Callable[[float], None]
) -> _Material:
    try:
        data = sources.load(base.data.name, base.data.dir)
    except ValueError as error:  # damaged records: its description was read at the door
        raise door.ConfigError(
            [f"config.data.name={base.data.name}: {error}"]
        ) from error
    model = build_model(base.model, data.train.images.shape[1:], data.num_classes)
    test = (jnp.asarray(data.test.images), jnp.asarray(data.test.labels))
    return _Material(
        model=model,
        images=jnp.asarray(data.train.images),
        labels=jnp.asarray(data.train.labels),
        test=operator.split(test, RUNNING_CHUNK),
        forward=evaluation.make_forward(model, "running"),
        bench=Bench(model, data, measure.statistics_batch, spent),
    )


def build_model(
    network: config.Model, image_shape: tuple[int, ...], num_classes: int
) -> models.Model:
    """Build the network of a run for images of a shape."""
    return models.build(
        network.name, image_shape, num_classes, network.batch_norm_momentum
    )
