"""Short runs on real MNIST, for tests and for the process that a test kills."""

import functools
from pathlib import Path

import jax.numpy as jnp

from bsexp import config, models
from bsexp.curvature import operator
from bsexp.training import engine, evaluation, loop, optim

EXAMPLES = 2_000  # real images, few enough that an epoch takes a moment
TEST_EXAMPLES = 999
ADAM = config.Optimizer()


@functools.cache
def network():
    return models.build("F1", (28, 28, 1), 10, 0.9)


@functools.cache
def program(name, learning_rate, batch_size):
    optimizer = optim.build(config.Optimizer(name=name, learning_rate=learning_rate))
    return optimizer, engine.make_chunk(network(), optimizer, batch_size)


def make(
    data,
    folder,
    *,
    batch_size=128,
    seed=0,
    epochs=3,
    optimizer=ADAM,
    heard=lambda *_: None,
    pieces=4,
):
    base = config.Base(
        optimizer=optimizer,
        train=config.Train(
            epochs=epochs, checkpoint_every=1, steps_per_dispatch=pieces
        ),
    )
    transformation, chunk = program(optimizer.name, optimizer.learning_rate, batch_size)
    Path(folder).mkdir(exist_ok=True)
    test = (
        jnp.asarray(data.test.images[:TEST_EXAMPLES]),
        jnp.asarray(data.test.labels[:TEST_EXAMPLES]),
    )
    return loop.Job(
        run=config.Run("SB", seed, batch_size, base),
        model=network(),
        optimizer=transformation,
        chunk=chunk,
        forward=evaluation.make_forward(network(), "running"),
        images=jnp.asarray(data.train.images[:EXAMPLES]),
        labels=jnp.asarray(data.train.labels[:EXAMPLES]),
        test=operator.split(test, 400),
        folder=Path(folder),
        heard=heard,
    )
