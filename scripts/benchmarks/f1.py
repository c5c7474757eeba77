"""F1 on MNIST: trained points, and their loss over the first examples."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from benchmarks import cohorts
from jax.tree_util import Partial

from bsexp import config, models
from bsexp.curvature import operator
from bsexp.data import batches, sources
from bsexp.probes import bench

MODEL = models.build("F1", (28, 28, 1), 10, config.Model().batch_norm_momentum)
EXAMPLES = 2_000
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
    cohort = cohorts.Cohort(config.Base(), batch_size)
    number = len(cohort.trainer.place.training)
    cohort.advance(epochs * batches.steps_per_epoch(number, batch_size))
    state = cohort.trainer.engine.member(cohort.state, 0)
    images, labels = training_set()
    return Point(
        state.parameters,
        state.statistics,
        batches.scale(images[:EXAMPLES]),
        labels[:EXAMPLES].astype(jnp.int32),
    )


def double(point: Point) -> Point:
    """Return the same numbers in float64; call it under `jax.enable_x64`."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(
            np.asarray(leaf), None if leaf.dtype == jnp.int32 else jnp.float64
        ),
        point,
    )


def objective(point: Point) -> operator.Objective:
    """Return the mean loss over a point's examples, in chunks of the size that the study uses."""
    return operator.objective(
        loss(point),
        operator.split((point.inputs, point.labels), bench.RUNNING_CHUNK),
    )


def loss(point: Point) -> operator.Loss:
    """Return (parameters, (inputs, labels)) -> mean cross-entropy in mode running."""
    return Partial(_mean_loss, point.statistics)


def _mean_loss(statistics: Any, parameters: Any, batch: Any) -> jax.Array:
    inputs, labels = batch
    logits = MODEL.apply(parameters, statistics, inputs, "running")
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
