"""Runs that train side by side, as a study trains them, without its checkpoints and rows."""

from typing import Any

import numpy as np

from bsexp import config, workshop
from bsexp.data import batches, examples
from bsexp.training import mesh, optim, recipe, step, trainer
from bsexp.training.timeline import Updates

ALONE = mesh.Layout(1, 1, 1)


class Cohort:
    """Runs that differ in their seeds.

    Attributes:
        trainer: mesh, data and programs.
        state: of all runs.
    """

    def __init__(
        self, base: config.Base, batch_size: int, layout: mesh.Layout = ALONE
    ) -> None:
        data = examples.load(base.data)
        number = len(data.train)
        model = workshop.build_model(
            base.model, data.train.image_shape, data.num_classes
        )
        run = config.Run("benchmark", 0, batch_size, base)
        shared = recipe.build(run, model, number)
        place = trainer.place("jit", layout, data.train, {})
        self.trainer = trainer.Trainer(shared, place, base)
        self._batch_size = batch_size
        self._whole = batches.steps_per_epoch(number, batch_size)
        self._epoch = self._first = 0
        seeds = list(range(layout.members))
        self._feed = self.trainer.open_feed(seeds, base.train.steps_per_dispatch)
        rates = optim.rates(base.optimizer)
        spread = self.trainer.engine.spread
        self._placed = spread([np.int32(seed) for seed in seeds])
        self.state = spread([step.init(shared, rates, seed) for seed in seeds])

    def advance(self, steps: int) -> Any:
        """Run the next updates; return the sums of their epoch, which the devices may still be working on."""
        sums = None
        while steps:
            last = min(self._first + steps, self._whole)
            updates = Updates(self._epoch, self._batch_size, self._first, last)
            self.state, sums = self.trainer.run(
                self.state, self._placed, self._feed, updates
            )
            steps -= last - self._first
            self._first = last
            if last == self._whole:
                self._epoch, self._first = self._epoch + 1, 0
        return sums

    def compiled(self) -> str:
        """Return the compiled program of an epoch's updates, as text."""
        updates = Updates(0, self._batch_size, 0, 1)
        return self.trainer.compiled(self.state, self._placed, self._feed, updates)

    def close(self) -> None:
        """Stop reading."""
        self._feed.close()
