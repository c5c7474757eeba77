"""Short runs on real MNIST, for tests and for the process that a test kills."""

import dataclasses
import functools
from pathlib import Path

from bsexp import config, models
from bsexp.data import sources
from bsexp.models import dense
from bsexp.training import loop, mesh, optim, recipe, trainer

EXAMPLES = 2_000  # real images, few enough that an epoch takes a moment
TEST_EXAMPLES = 999
ADAM = config.Optimizer()
NEUTRAL = config.Batch()
ALONE = mesh.Layout(1, 1, 1)
TRAINERS = {}


# As deep as F1: what a loop, its rows and its checkpoints do does not depend on the width, and takes a third of the time.
models.NETWORKS["narrow"] = {
    "paper": functools.partial(dense.FullyConnected, (64,) * 5)
}


@functools.cache
def network():
    return models.build("F1", (28, 28, 1), 10, 0.9)


@functools.cache
def narrow():
    return models.build("narrow", (28, 28, 1), 10, 0.9)


def first(split, number):
    return sources.Split(split.images[:number], split.labels[:number])


def make(
    data,
    folder,
    *,
    batch_size=128,
    seeds=(0,),
    epochs=3,
    optimizer=ADAM,
    heard=lambda *_: None,
    pieces=4,
    layout=ALONE,
    batch=NEUTRAL,
    **limits,
):
    base = config.Base(
        optimizer=optimizer,
        batch=batch,
        train=config.Train(
            epochs=epochs, checkpoint_every=1, steps_per_dispatch=pieces, **limits
        ),
    )
    run = config.Run("SB", seeds[0], batch_size, base)
    neutral = dataclasses.replace(
        run, base=dataclasses.replace(base, train=config.Train())
    )
    train = data.train if len(data.train) < EXAMPLES else first(data.train, EXAMPLES)
    number = len(train)
    key = recipe.shape(neutral), layout, type(train), number
    if key not in TRAINERS:
        TRAINERS[key] = trainer.Trainer(
            recipe.build(run, narrow(), number),
            trainer.place(
                "jit", layout, train, {"test": first(data.test, TEST_EXAMPLES)}
            ),
            base,
        )
    folders = (
        [Path(folder) / str(seed) for seed in seeds]
        if len(seeds) > 1
        else [Path(folder)]
    )
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    return loop.Job(
        trainer=TRAINERS[key],
        train=base.train,
        epochs=recipe.epochs(run, number),
        seeds=tuple(seeds),
        rates=(optim.rates(optimizer),) * len(seeds),
        folders=tuple(folders),
        heard=heard,
    )
