"""A small network with batch norm and dropout, trained on meshes of virtual devices."""

import functools

import jax
import numpy as np
from flax import linen as nn

from bsexp import config, models
from bsexp.models import dropout, normalisation
from bsexp.training import mesh, optim, recipe, step, trainer
from bsexp.training.timeline import Updates

EXAMPLES = 1_280


class Network(nn.Module):
    num_classes: int
    momentum: float
    width: int = 32
    least_side = 1

    @nn.compact
    def __call__(self, inputs, ghost, keys):
        hidden = inputs.reshape((len(inputs), -1))
        for layer in range(2):
            hidden = nn.relu(
                normalisation.NormalisedDense(self.width, self.momentum)(hidden, ghost)
            )
            hidden = dropout.dropout(hidden, keys, 0.5, layer)
        return nn.Dense(self.num_classes)(hidden)


models.NETWORKS["tiny"] = {"paper": Network}
models.NETWORKS["wide"] = {"paper": functools.partial(Network, width=512)}


def network(name="tiny"):
    return models.build(name, (28, 28, 1), 10, 0.9)


class Cohort:
    """Runs that differ in their seeds, on a mesh."""

    def __init__(
        self,
        data,
        layout=mesh.Layout(1, 1, 1),  # noqa: B008 - a tuple
        *,
        batch_size=64,
        seeds=(0,),
        optimizer=config.Optimizer(name="sgd", learning_rate=0.1),  # noqa: B008 - frozen
        rates=None,
        rolled=True,
        most=5,
        name="tiny",
        **fields,
    ):
        base = config.Base(model=config.Model(name=name), optimizer=optimizer, **fields)
        run = config.Run("test", seeds[0], batch_size, base)
        shared = recipe.build(run, network(name), EXAMPLES)._replace(rolled=rolled)
        train = data.train
        if len(train) > EXAMPLES:
            train = train.read(slice(EXAMPLES))
        test = type(data.test)(data.test.images[:303], data.test.labels[:303])
        place = trainer.place(base.execution.engine, layout, train, {"test": test})
        self.trainer = trainer.Trainer(shared, place, base)
        self.seeds, self.batch_size = list(seeds), batch_size
        rates = rates or [optim.rates(recipe.scaled_optimizer(run))] * len(seeds)
        spread = self.trainer.engine.spread
        self.feed = self.trainer.open_feed(self.seeds, most)
        self.placed = spread([np.int32(seed) for seed in seeds])
        self.state = spread(
            [
                step.init(shared, each, seed)
                for each, seed in zip(rates, seeds, strict=True)
            ]
        )

    def run(self, steps, portion=5):
        """Train, and return the mean losses of portions of the updates by member, [steps / portion, members]."""
        losses, per_epoch = [], EXAMPLES // self.batch_size
        previous = np.zeros(len(self.seeds))
        for i in range(0, steps, portion):
            epoch, first = divmod(i, per_epoch)
            if not first:
                previous = np.zeros(len(self.seeds))
            updates = Updates(epoch, self.batch_size, first, first + portion)
            sums = self.train(updates)
            total = np.array(
                [float(each.loss) for each in self.trainer.engine.read(sums)]
            )
            losses.append((total - previous) / self.batch_size / portion)
            previous = total
        return np.array(losses)

    def train(self, updates):
        self.state, sums = self.trainer.run(self.state, self.placed, self.feed, updates)
        return sums

    def member(self, number=0):
        return jax.device_get(self.trainer.engine.member(self.state, number))

    def evaluations(self):
        return self.trainer.evaluate(self.state)["test"].read()
