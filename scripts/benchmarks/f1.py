"""F1 on MNIST: trained points, and their loss over the first examples."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from bsexp import config, models
from bsexp.curvature import operator
from bsexp.data import batches, sources
from bsexp.probes import bench
from bsexp.training import mesh, optim, recipe, step, trainer
from bsexp.training.timeline import Updates

MODEL = models.build("F1", (28, 28, 1), 10, config.Model().batch_norm_momentum)
EXAMPLES = 2_000
ALONE = mesh.Layout(1, 1, 1)
EPOCHS = 20


class Point(NamedTuple):
    """A trained iterate, in one precision.

    Attributes:
        parameters: pytree of arrays.
        statistics: running averages of batch norm.
        inputs: images [EXAMPLES, 28, 28, 1] in [0, 1].
        labels: int32 [EXAMPLES].
    """

    parameters: Any
    statistics: Any
    inputs: Any
    labels: Any


def training_set() -> tuple[jax.Array, jax.Array]:
    """Return MNIST's 60 000 images, uint8, and labels."""
    train = sources.load("mnist", "").train
    return jnp.asarray(train.images), jnp.asarray(train.labels)


def train(batch_size: int, epochs: int = EPOCHS) -> Point:
    """Train F1 as the default study does, Adam at 1e-3 from seed 0; return where it ends."""
    cohort = Cohort(batch_size)
    for epoch in range(epochs):
        cohort.run(
            epoch,
            batches.steps_per_epoch(len(cohort.trainer.place.training), batch_size),
        )
    state = cohort.trainer.engine.member(cohort.state, 0)
    images, labels = training_set()
    return Point(
        state.parameters,
        state.statistics,
        batches.scale(images[:EXAMPLES]),
        labels[:EXAMPLES].astype(jnp.int32),
    )


class Cohort:
    """Runs of F1 with Adam at 1e-3 on MNIST that differ in their seeds.

    Attributes:
        trainer: mesh, data and programs.
        state: of all runs.
    """

    def __init__(self, batch_size: int, layout: mesh.Layout = ALONE) -> None:
        data = sources.load("mnist", "")
        run = config.Run("F1", 0, batch_size, config.Base())
        shared = recipe.build(run, MODEL, len(data.train.labels))
        place = trainer.place("jit", layout, data.train, {"test": data.test})
        self.trainer = trainer.Trainer(shared, place, run.base)
        self._batch_size = batch_size
        seeds = list(range(layout.members))
        self._feed = self.trainer.open_feed(seeds, config.Train().steps_per_dispatch)
        rates = optim.rates(run.base.optimizer)
        spread = self.trainer.engine.spread
        self._placed = spread([np.int32(seed) for seed in seeds])
        self.state = spread([step.init(shared, rates, seed) for seed in seeds])

    def run(self, epoch: int, steps: int) -> Any:
        """Run the first steps of an epoch; return the sums, which the devices may still be working on."""
        updates = Updates(epoch, self._batch_size, 0, steps)
        self.state, sums = self.trainer.run(
            self.state, self._placed, self._feed, updates
        )
        return sums

    def compiled(self, epoch: int) -> str:
        """Return the compiled program of the epoch's updates, as text."""
        updates = Updates(epoch, self._batch_size, 0, 1)
        return self.trainer.compiled(self.state, self._placed, self._feed, updates)


def double(point: Point) -> Point:
    """Return the same numbers in float64; call it under `jax.enable_x64`."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(
            np.asarray(leaf), None if leaf.dtype == jnp.int32 else jnp.float64
        ),
        point,
    )


def objective(point: Point, chunk: int = bench.RUNNING_CHUNK) -> operator.Objective:
    """Return the mean loss over a point's examples, in chunks of the size that the study uses."""
    return operator.objective(
        loss(point), operator.split((point.inputs, point.labels), chunk)
    )


def loss(point: Point) -> operator.Loss:
    """Return (parameters, (inputs, labels)) -> mean cross-entropy in mode running."""
    return Partial(_mean_loss, point.statistics)


def _mean_loss(statistics: Any, parameters: Any, batch: Any) -> jax.Array:
    inputs, labels = batch
    logits = MODEL.apply(parameters, statistics, inputs, "running")
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
