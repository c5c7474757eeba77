"""Where the runs of a study are trained, cohort by cohort, and measured."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax

from bsexp import config, door, items, models, progress, results, workdir
from bsexp.data import examples, records, sources
from bsexp.probes import task
from bsexp.probes.bench import Bench
from bsexp.training import (
    descent,
    footprint,
    interruption,
    loop,
    mesh,
    optim,
    processes,
    recipe,
    snapshots,
    statistics,
    step,
    stopping,
    trainer,
)

# Training on one example in forward passes, for the time left: gradient, batch norm and Adam; seen on F1 at B = 256.
TRAINING = 4.5


class Laboratory:
    """What the runs of a study share: data on the devices, compiled programs, trained points."""

    def __init__(
        self,
        plan: door.Plan,
        place: workdir.Workdir,
        environment: dict[str, Any],
        shown: progress.Progress,
        line: processes.Line,
    ) -> None:
        self._plan = plan
        self._line = line
        self._folder = place
        self._environment = environment
        self._progress = shown
        self._points: dict[str, task.Point | None] = {}
        self._materials: dict[tuple[config.Data, config.Model], _Material] = {}
        self._recipes: dict[str, step.Recipe] = {}
        self._trainers: dict[tuple[str, mesh.Layout], trainer.Trainer] = {}
        self._places: dict[tuple[config.Data, str, mesh.Layout], trainer.Place] = {}

    def point(self, run: config.Run, later: list[config.Run]) -> task.Point | None:
        """Return a run's trained point; None where it diverged, or its weights cannot be read.

        Args:
            run: the run.
            later: runs that will be needed; those of its shape may be trained beside it.
        """
        if run.name not in self._points:
            if self._plan.study.run:
                self._restore(run)
            else:
                self._train(run, later)
        return self._points[run.name]

    def _restore(self, run: config.Run) -> None:
        self._progress.begin(f"restore {run.group} seed {run.seed}", 0.0)
        self._folder.open_run(run, self._environment)
        job = self._job([run], mesh.Layout(1, 1, 1))
        try:
            self._keep(run, loop.restore(job))
        except loop.MissingWeightsError as error:
            self._fail(run, error)

    def _train(self, run: config.Run, later: list[config.Run]) -> None:
        """Train a run, or go on with it, and as many of its shape as the devices hold."""
        began = time.perf_counter()
        shape = recipe.shape(run)
        alike = [
            each
            for each in later
            if each.name not in self._points and recipe.shape(each) == shape
        ]
        number = len(self._material(run).data.train)
        layout = recipe.layout(run, len(alike), number)
        cohort = alike[: layout.members]
        evidence = {
            **self._environment,
            "engine": run.base.execution.engine,
            "mesh": {"population": layout.population, "data": layout.data},
            "processes": jax.process_count(),
            "cohort": [each.name for each in cohort],
        }
        seeds = ", ".join(str(each.seed) for each in cohort)
        work = sum(training_work(self._plan, each) for each in cohort)
        self._progress.begin(f"train {run.group} seed {seeds}", work)
        job = self._job(cohort, layout)
        for each in cohort:
            self._folder.open_run(each, evidence)
            self._folder.set_status(each, "training")
        self._line.tell(train=[each.name for each in cohort], layout=layout)
        try:
            with processes.together():
                ends = loop.train(job)
        except interruption.Interrupted as error:
            for each in cohort:
                self._folder.set_status(each, "interrupted", reason=str(error))
            raise
        except records.DamagedError as error:
            ends = [error] * len(cohort)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            ends = [MemoryError(self._out_of_memory(run, layout))] * len(cohort)
        finally:
            share = (time.perf_counter() - began) / len(cohort)
            for each in cohort:
                self._folder.add_run_seconds(each, training=share)
        for each, end in zip(cohort, ends, strict=True):
            if isinstance(end, Exception):
                self._fail(each, end)
            else:
                self._keep(each, end)

    def follow(self) -> int:
        """Train what the leading process says, until it says that the study has ended; return its exit code."""
        runs = {run.name: run for run in self._plan.runs}
        with processes.together():
            while "end" not in (message := self._line.listen()):
                layout = mesh.Layout(*message["layout"])
                cohort = [runs[name] for name in message["train"]]
                if mesh.takes_part(layout):
                    loop.train(self._job(cohort, layout))
        return message["end"]

    def _target(self, run: config.Run) -> dict[str, Any]:
        """Return when a run reached its target, None where it did not; nothing where it had none."""
        if not run.base.train.target:
            return {}
        rows = results.read_rows(self._folder.weights_folder(run) / results.CURVES)
        row = stopping.target(rows, run.base.train)
        when = ("epoch", "step", "examples", "seconds")
        return {"target": row and {name: row[name] for name in when}}

    def _out_of_memory(self, run: config.Run, layout: mesh.Layout) -> str:
        """Say which microbatch would fit; the batch size is never changed."""
        limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0)
        subject = footprint.Subject(
            run,
            self._material(run).model,
            examples.describe(run.base.data),
            layout,
        )
        return footprint.out_of_memory(subject, limit)

    def _fail(self, run: config.Run, error: Exception) -> None:
        self._folder.set_status(run, "failed", reason=str(error))
        self._points[run.name] = None

    def _keep(self, run: config.Run, end: step.State) -> None:
        self._folder.set_status(run, "trained", **self._target(run))
        self._points[run.name] = self._point(run, end)

    def _point(self, run: config.Run, state: step.State) -> task.Point:
        state = jax.device_put(state, jax.devices()[0])
        optimizer = recipe.scaled_optimizer(run)
        return task.Point(
            run.name,
            state.parameters,
            state.statistics,
            self._start(run).parameters,
            optim.preconditioner(optimizer, state.optimizer),
            descent.at(self._recipe(run), optimizer, state),
        )

    def _start(self, run: config.Run) -> step.State:
        rates = optim.rates(recipe.scaled_optimizer(run))
        return step.init(self._recipe(run), rates, run.seed)

    def _recipe(self, run: config.Run) -> step.Recipe:
        key, material = recipe.shape(run), self._material(run)
        if key not in self._recipes:
            number = len(material.data.train)
            self._recipes[key] = recipe.build(run, material.model, number)
        return self._recipes[key]

    def _after(self, run: config.Run, epoch: int) -> task.Point:
        """Return a run's point after an epoch; MissingWeightsError where it is not there, or damaged."""
        folder = self._folder.weights_folder(run)
        state = snapshots.restore(folder, epoch, self._start(run))
        if state is None:
            raise loop.MissingWeightsError(
                f"it has no whole snapshot of epoch {epoch}; the same command computes the run again"
            )
        return self._point(run, state)

    def _job(self, cohort: list[config.Run], layout: mesh.Layout) -> loop.Job:
        run = cohort[0]
        key = recipe.shape(run), layout
        material = self._material(run)
        number = len(material.data.train)
        if key not in self._trainers:
            self._trainers[key] = trainer.Trainer(
                self._recipe(run),
                self._place_of(run, layout),
                run.base,
            )
        return loop.Job(
            trainer=self._trainers[key],
            train=run.base.train,
            epochs=recipe.epochs(run, number),
            seeds=tuple(each.seed for each in cohort),
            rates=tuple(optim.rates(recipe.scaled_optimizer(each)) for each in cohort),
            folders=tuple(self._folder.weights_folder(each) for each in cohort),
            heard=self._heard,
            kept=tuple(each for each in self._plan.study.measure.along.epochs if each),
            precise=self._precise(run, self._trainers[key]),
        )

    def _precise(
        self, run: config.Run, where: trainer.Trainer
    ) -> Callable[[Any, Any], list[Any]] | None:
        if run.base.batch.statistics == "running":
            return None
        train = self._material(run).data.train
        ghost = run.base.batch.ghost or recipe.epochs(run, len(train))[-1].batch
        return functools.partial(
            statistics.recompute, where.engine, where.recipe, train, ghost
        )

    def _place_of(self, run: config.Run, layout: mesh.Layout) -> trainer.Place:
        kind, material = run.base.execution.engine, self._material(run)
        key = run.base.data, kind, layout
        if key not in self._places:
            self._places[key] = trainer.place(
                kind, layout, material.data.train, material.held_out
            )
        return self._places[key]

    def _heard(self, seen: int, rate: float, loss: float, accuracy: float) -> None:
        self._progress.trained(TRAINING * seen, rate, loss, accuracy)

    def measure(
        self, run: config.Run, point: task.Point, missing: list[items.Item]
    ) -> None:
        """Make measurements of one run, point by point; a pair whose baseline diverged is left out."""
        try:
            for epoch, listed in itertools.groupby(missing, lambda item: item.epoch):
                here = point if epoch is None else self._after(run, epoch)
                for item in listed:
                    self._measure(item, here)
        except (_MeasuringError, loop.MissingWeightsError) as error:
            # This run cannot be measured further; the others go on.
            self._folder.set_status(run, "failed", reason=str(error))
            return
        # Only its weights are needed later, as a pair's baseline.
        self._points[run.name] = point._replace(preconditioner=None, descent=None)
        self._folder.set_status(run, "done", **self._target(run))

    def _measure(self, item: items.Item, point: task.Point) -> None:
        baseline = item.baseline and self._points.get(item.baseline.name)
        if item.baseline and baseline is None:
            return
        pair = (baseline,) if baseline else ()
        began = time.perf_counter()
        where = "" if item.epoch is None else f" after epoch {item.epoch}"
        label = f"measure {item.run.group} seed {item.run.seed}{where} {item.task.name}"
        self._progress.begin(label, item.task.cost)
        try:
            found = item.task.measure(self._material(item.run).bench, point, *pair)
        except ValueError as error:  # a number that is not finite, say
            raise _MeasuringError(f"{item.task.name}{where}: {error}") from error
        seconds = time.perf_counter() - began
        self._folder.record(item, found, seconds)
        self._folder.add_run_seconds(item.run, measuring=seconds)

    def _material(self, run: config.Run) -> "_Material":
        key = run.base.data, run.base.model
        if key not in self._materials:
            self._materials[key] = _material(
                run.base, self._plan.study.measure, self._progress.spent
            )
        return self._materials[key]


class _MeasuringError(RuntimeError):
    """A measurement that cannot be made."""


@dataclasses.dataclass(frozen=True)
class _Material:
    """What runs on the same data with the same network share."""

    data: sources.Dataset
    model: models.Model
    bench: Bench

    @property
    def held_out(self) -> dict[str, sources.Split]:
        """The splits that are evaluated while training."""
        data = self.data
        validation = {"validation": data.validation} if data.validation else {}
        return {**validation, "test": data.test}


def _material(
    base: config.Base, measure: config.Measure, spent: Callable[[float], None]
) -> _Material:
    try:
        data = examples.load(base.data)
    except ValueError as error:  # damaged records: its description was read at the door
        raise door.ConfigError(
            [f"config.data.name={base.data.name}: {error}"]
        ) from error
    model = build_model(base.model, data.train.image_shape, data.num_classes)
    return _Material(data, model, Bench(model, data, measure.statistics_batch, spent))


def build_model(
    network: config.Model, image_shape: tuple[int, ...], num_classes: int
) -> models.Model:
    """Build the network of a run for images of a shape."""
    return models.build(
        network.name,
        image_shape,
        num_classes,
        network.batch_norm_momentum,
        network.variant,
        network.precision,
    )


def training_work(plan: door.Plan, run: config.Run) -> float:
    """Return what training a run costs, in forward passes of one example."""
    if plan.study.run:
        return 0.0
    found = examples.training_examples(run.base.data)
    last = recipe.epochs(run, found)[-1]
    return TRAINING * (last.seen + last.steps * last.batch)
