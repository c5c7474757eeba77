"""Where the runs of a study are trained, cohort by cohort, and measured."""

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from bsexp import config, door, items, progress, results, workdir, workshop
from bsexp.data import examples, portions, records
from bsexp.probes import task
from bsexp.training import (
    footprint,
    interruption,
    loop,
    mesh,
    processes,
    recipe,
    step,
)


class Laboratory:
    """Trains runs, and measures them; what they share is built in a workshop."""

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
        self._workshop = workshop.Workshop(plan, place, shown)

    def point(self, run: config.Run, later: list[config.Run]) -> task.Point | None:
        """Return a run's trained point; None where it failed: it diverged, say, or its weights cannot be read.

        Args:
            run: the run.
            later: runs that will be needed; those of its shape may be trained beside it.
        """
        if run.name not in self._points:
            if self._plan.study.run:
                self._restore(run)
            else:
                cohort, layout = self._cohort(run, later)
                if cohort:
                    self._train(cohort, layout)
        return self._points[run.name]

    def _restore(self, run: config.Run) -> None:
        self._progress.begin(f"restore {run.group} seed {run.seed}", 0.0)
        self._folder.open_run(run, self._environment)
        job = self._workshop.job([run], mesh.Layout(1, 1, 1))
        try:
            self._keep(run, loop.restore(job))
        except loop.MissingWeightsError as error:
            self._fail(run, error)

    def _train(self, cohort: list[config.Run], layout: mesh.Layout) -> None:
        """Train the runs of a cohort, or go on with them."""
        began = time.perf_counter()
        run = cohort[0]
        evidence = {
            **self._environment,
            "engine": run.base.execution.engine,
            "mesh": {"population": layout.population, "data": layout.data},
            "processes": jax.process_count(),
            "cohort": [each.name for each in cohort],
        }
        seeds = ", ".join(str(each.seed) for each in cohort)
        work = sum(workshop.training_work(self._folder, each) for each in cohort)
        self._progress.begin(f"train {run.group} seed {seeds}", work)
        for each in cohort:
            self._folder.open_run(each, evidence)
            self._folder.set_status(each, "training")
        try:
            job = self._workshop.job(cohort, layout)
            self._line.tell(train=[each.name for each in cohort], layout=layout)
            with processes.together():
                ends = self._ends(job, run, layout)
        except interruption.Interrupted as error:
            for each in cohort:
                self._folder.set_status(each, "interrupted", reason=str(error))
            raise
        except (
            records.DamagedError,
            portions.WorkerError,
            footprint.DoesNotFitError,
        ) as error:
            ends = [error] * len(cohort)
        finally:
            share = (time.perf_counter() - began) / len(cohort)
            for each in cohort:
                self._folder.add_run_seconds(each, training=share)
        for each, end in zip(cohort, ends, strict=True):
            if isinstance(end, Exception):
                self._fail(each, end)
            else:
                self._keep(each, end)

    def _cohort(
        self, run: config.Run, later: list[config.Run]
    ) -> tuple[list[config.Run], mesh.Layout]:
        """Return the runs to train beside a run, itself among them where it can begin, and the mesh for them."""
        kind = recipe.cohort(run)
        alike = [
            each
            for each in later
            if each.name not in self._points and recipe.cohort(each) == kind
        ]
        material = self._workshop.material(run)
        number = len(material.data.train)
        layout = recipe.layout(run, len(alike), material.model, number)
        ready = self._ready(alike[: layout.members], later)
        if 0 < len(ready) < layout.members:
            layout = recipe.layout(run, len(ready), material.model, number)
        return ready[: layout.members], layout

    def _ready(
        self, cohort: list[config.Run], later: list[config.Run]
    ) -> list[config.Run]:
        """Train what the runs of a cohort begin with; return those that have it, the others fail."""
        ready = []
        for run in cohort:
            try:
                if run.donor is not None:
                    self._train_donor(run, later)
                    self._workshop.start(run)
            except loop.MissingWeightsError as error:
                self._folder.open_run(run, self._environment)
                self._fail(run, error)
            else:
                ready.append(run)
        return ready

    def _train_donor(self, run: config.Run, later: list[config.Run]) -> None:
        """Train the run that another begins with, where it has not come so far; MissingWeightsError where it is in vain."""
        donor, epoch = run.donor, run.base.start.epoch
        if self._has_come_to(donor, epoch):
            return
        name = f"{donor.group} seed {donor.seed}"
        if self._folder.end(donor) >= epoch:
            others = [each for each in later if each.name != donor.name]
            trained = self.point(donor, [donor, *others])
            # One that diverged later has kept what it was at that epoch.
            if trained is None and not self._has_come_to(donor, epoch):
                raise loop.MissingWeightsError(f"{name}, with which it begins, failed")
        if self._folder.end(donor) < epoch:
            raise loop.MissingWeightsError(f"{name} ended before epoch {epoch}")

    def _has_come_to(self, run: config.Run, epoch: int) -> bool:
        """Say whether what a run was after an epoch is there."""
        kept = results.kept_epochs(self._folder.weights_folder(run))
        return epoch in (0, *kept)

    def follow(self) -> int:
        """Train what the leading process says, until it says that the study has ended; return its exit code."""
        runs = {run.name: run for run in self._plan.runs}
        with processes.together():
            while "end" not in (message := self._line.listen()):
                layout = mesh.Layout(*message["layout"])
                cohort = [runs[name] for name in message["train"]]
                if mesh.takes_part(layout):
                    job = self._workshop.job(cohort, layout)
                    self._ends(job, cohort[0], layout)
        return message["end"]

    def _ends(
        self, job: loop.Job, run: config.Run, layout: mesh.Layout
    ) -> list[step.State | FloatingPointError]:
        """Train a cohort, of which a run is one; DoesNotFitError, which says which microbatch would fit, where it does not."""
        try:
            return loop.train(job)
        except jax.errors.JaxRuntimeError as error:
            if not footprint.ran_out(error):
                raise
            said = self._out_of_memory(run, layout)
            raise footprint.DoesNotFitError(said) from error

    def _out_of_memory(self, run: config.Run, layout: mesh.Layout) -> str:
        """Say which microbatch would fit; the batch size is never changed."""
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
        subject = footprint.Subject(
            run,
            self._workshop.material(run).model,
            examples.describe(run.base.data),
            layout,
        )
        return footprint.out_of_memory(subject, limit)

    def _fail(self, run: config.Run, error: Exception) -> None:
        # Training again would come to the same numbers.
        diverged = {"diverged": True} if isinstance(error, FloatingPointError) else {}
        self._folder.set_status(run, "failed", reason=str(error), **diverged)
        self._points[run.name] = None

    def _keep(self, run: config.Run, end: step.State) -> None:
        self._folder.set_status(run, "trained")
        self._points[run.name] = self._workshop.point(run, end)

    def measure(
        self, run: config.Run, point: task.Point, missing: list[items.Item]
    ) -> None:
        """Make measurements of one run, point by point; one that cannot be made is told when the others are there.

        A pair whose baseline diverged is left out.
        """
        by_epoch = itertools.groupby(missing, lambda item: item.epoch)
        failures = [
            error
            for epoch, listed in by_epoch
            for error in self._measure_at(run, epoch, point, listed)
        ]
        if failures:
            reason = str(failures[0])
            self._folder.set_status(run, "failed", reason=reason, trained=True)
            return
        # Only its weights are needed later, as a pair's baseline.
        self._points[run.name] = point._replace(
            start=None, preconditioner=None, descent=None
        )
        self._folder.set_status(run, "done")

    def _measure_at(
        self,
        run: config.Run,
        epoch: int | None,
        end: task.Point,
        listed: Iterable[items.Item],
    ) -> Iterator[Exception]:
        """Make the measurements of one point, of the end where there is no epoch; yield why one cannot be made."""
        try:
            point = end if epoch is None else self._workshop.after(run, epoch)
        except loop.MissingWeightsError as error:
            yield error
            return
        for item in listed:
            try:
                self._measure(item, point)
            except _MeasuringError as error:
                yield error

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
            found = item.task.measure(
                self._workshop.material(item.run).bench, point, *pair
            )
        except ValueError as error:  # a number that is not finite, say
            raise _MeasuringError(f"{item.task.name}{where}: {error}") from error
        except jax.errors.JaxRuntimeError as error:
            if not footprint.ran_out(error):
                raise
            raise _MeasuringError(
                f"{item.task.name}{where}: out of memory; in mode batch a smaller config.measure.statistics_batch takes less"
            ) from error
        seconds = time.perf_counter() - began
        self._folder.record(item, found, seconds)
        self._folder.add_run_seconds(item.run, measuring=seconds)


class _MeasuringError(RuntimeError):
    """A measurement that cannot be made."""
