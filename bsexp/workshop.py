"""What the runs of a study share while they are trained and measured: data, networks, compiled programs, states."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from bsexp import config, door, items, models, progress, results, workdir
from bsexp.data import examples, sources
from bsexp.probes import task
from bsexp.probes.bench import Bench
from bsexp.training import (
    checkpoint,
    descent,
    loop,
    mesh,
    optim,
    recipe,
    snapshots,
    statistics,
    step,
    trainer,
    warm_start,
)

# Training on one example in forward passes, for the time left: gradient, batch norm and Adam; seen on F1 at B = 256.
TRAINING = 4.5


class Workshop:
    """Builds what a run needs, once for all runs that can share it."""

    def __init__(
        self, plan: door.Plan, place: workdir.Workdir, shown: progress.Progress
    ) -> None:
        self._plan = plan
        self._folder = place
        self._progress = shown
        self._materials: dict[tuple[config.Data, config.Model], Material] = {}
        self._recipes: dict[str, step.Recipe] = {}
        self._trainers: dict[tuple[str, mesh.Layout], trainer.Trainer] = {}
        self._places: dict[tuple[config.Data, str, mesh.Layout], trainer.Place] = {}

    def material(self, run: config.Run) -> "Material":
        """Return the data of a run, its network, and what measures it; ConfigError where the data are damaged."""
        key = run.base.data, run.base.model
        if key not in self._materials:
            self._materials[key] = _build_material(
                run.base, self._plan.study.measure, self._progress.spent
            )
        return self._materials[key]

    def job(self, cohort: list[config.Run], layout: mesh.Layout) -> loop.Job:
        """Return what trains the runs of a cohort; MissingWeightsError where one begins with weights that are not there."""
        run = cohort[0]
        key = recipe.shape(run), layout
        material = self.material(run)
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
            kept=items.kept_epochs(self._plan, {each.group for each in cohort}),
            starts=tuple(map(self.start, cohort)) if run.donor else (),
            precise=self._precise(run, self._trainers[key]),
        )

    def start(self, run: config.Run) -> step.State:
        """Return a run's state before its first update; MissingWeightsError where it is another's that is not there."""
        rates = optim.rates(recipe.scaled_optimizer(run))
        if run.donor is None:
            return step.init(self._recipe(run), rates, run.seed)
        donor = self._state_after(run.donor, run.base.start.epoch)
        return warm_start.begun(self._recipe(run), rates, donor)

    def after(self, run: config.Run, epoch: int) -> task.Point:
        """Return a run's point after an epoch; MissingWeightsError where it is not there, or damaged."""
        return self.point(run, self._state_after(run, epoch))

    def point(self, run: config.Run, state: step.State) -> task.Point:
        """Return a run's state as the probes see it, on the first device."""
        state = jax.device_put(state, jax.devices()[0])
        optimizer = recipe.scaled_optimizer(run)
        return task.Point(
            run.name,
            state.parameters,
            state.statistics,
            self.start(run).parameters,
            optim.preconditioner(optimizer, state.optimizer),
            descent.at(self._recipe(run), optimizer, state),
        )

    def _recipe(self, run: config.Run) -> step.Recipe:
        key, material = recipe.shape(run), self.material(run)
        if key not in self._recipes:
            number = len(material.data.train)
            # Built for a run that decays where one does: the program of all has its penalty then.
            decaying = (
                each
                for each in (run, *self._plan.runs)
                if each.base.optimizer.weight_decay and recipe.shape(each) == key
            )
            self._recipes[key] = recipe.build(
                next(decaying, run), material.model, number
            )
        return self._recipes[key]

    def _state_after(self, run: config.Run, epoch: int) -> step.State:
        folder = self._folder.weights_folder(run)
        state = snapshots.restore(folder, epoch, self.start(run))
        if state is None:
            raise loop.MissingWeightsError(
                f"{run.group} seed {run.seed} has no whole snapshot of epoch {epoch}; the command that trained it computes it again"
            )
        return state

    def _precise(
        self, run: config.Run, where: trainer.Trainer
    ) -> Callable[[Any, Any], list[Any]] | None:
        if run.base.batch.statistics == "running":
            return None
        train = self.material(run).data.train
        ghost = run.base.batch.ghost or recipe.epochs(run, len(train))[-1].batch
        return functools.partial(
            statistics.recompute, where.engine, where.recipe, train, ghost
        )

    def _place_of(self, run: config.Run, layout: mesh.Layout) -> trainer.Place:
        kind, material = run.base.execution.engine, self.material(run)
        key = run.base.data, kind, layout
        if key not in self._places:
            # Runs that are stacked need no other copy of the data than those that are not.
            alike = [
                place
                for (*what, other), place in self._places.items()
                if (*what, other[:2]) == (*key[:2], layout[:2])
            ]
            self._places[key] = (
                trainer.beside(alike[0], layout.members)
                if alike
                else trainer.place(kind, layout, material.data.train, material.held_out)
            )
        return self._places[key]

    def _heard(self, seen: int, rate: float, loss: float, accuracy: float) -> None:
        self._progress.trained(TRAINING * seen, rate, loss, accuracy)


@dataclasses.dataclass(frozen=True)
class Material:
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


def _build_material(
    base: config.Base, measure: config.Measure, spent: Callable[[float], None]
) -> Material:
    try:
        data = examples.load(base.data)
    except ValueError as error:  # damaged records: its description was read at the door
        raise door.ConfigError(
            [f"config.data.name={base.data.name}: {error}"]
        ) from error
    model = build_model(base.model, data.train.image_shape, data.num_classes)
    bench = Bench(model, data, measure.statistics_batch, spent, _measuring_devices())
    return Material(data, model, bench)


def _measuring_devices() -> list[jax.Device]:
    """Return the devices that share a measurement: this process's, of a CPU's the first, which has all cores already."""
    devices = jax.local_devices()
    return devices[:1] if devices[0].platform == "cpu" else devices


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


def newest_state(run: config.Run, folder: Path) -> step.State | None:
    """Return the newest whole state in a run's folder, None where there is none; damaged ones are moved aside."""
    found = examples.describe(run.base.data)
    model = build_model(run.base.model, found.image_shape, found.num_classes)
    return checkpoint.newest(folder, recipe.start(run, model, found.train_examples))


def training_work(place: workdir.Workdir, run: config.Run) -> float:
    """Return what is left of training a run, in forward passes of one example."""
    folder = place.weights_folder(run)
    if math.isfinite(results.end(folder)):
        return 0.0
    rows = results.read_rows(folder / results.CURVES)
    seen = rows[-1]["examples"] if rows else 0
    return max(whole_work(run) - TRAINING * seen, 0.0)


def whole_work(run: config.Run) -> float:
    """Return what training a run takes from its start, in forward passes of one example."""
    found = examples.training_examples(run.base.data)
    return TRAINING * recipe.epochs(run, found)[-1].seen_after
