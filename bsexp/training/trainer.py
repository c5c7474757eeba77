"""What cohorts of one shape are trained with: a mesh, the data on it, and the compiled programs."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from bsexp import config
from bsexp.data import batches
from bsexp.data.sources import Split
from bsexp.training import engine, epoch, evaluation, mesh, recipe, step
from bsexp.training.reduction import DATA

# Examples evaluated at once: enough to keep the cores busy, few enough to fit beside the training set.
EVALUATION_CHUNK = 1_000


class Trainer:
    """The programs of one recipe on one mesh.

    Attributes:
        engine: the mesh and how programs run on it.
        recipe: what the runs share.
        held_out: "test", and "validation" where there is one -> the split, to evaluate every member at once.
        members: runs of a cohort.
        examples: N, of the training set.
    """

    def __init__(
        self,
        shared: step.Recipe,
        layout: mesh.Layout,
        settings: config.Base,
        train: Split,
        held_out: Mapping[str, Split],
    ) -> None:
        execution = settings.execution
        self.recipe = shared
        self.members = layout.members
        self.examples = len(train.labels)
        self.engine = engine.ENGINES[execution.engine](
            mesh.make(layout, jax.devices()), layout.members
        )
        self._settings = settings
        self._images = self.engine.everywhere(train.images)
        self._labels = self.engine.everywhere(train.labels)
        self.held_out = {
            name: evaluation.Cohort(
                self.engine, shared.model, split.images, split.labels, EVALUATION_CHUNK
            )
            for name, split in held_out.items()
        }
        self._programs: dict[int, epoch.Chunk] = {}

    def run(
        self,
        state: Any,
        seeds: Any,
        orders: Any,
        batch_size: int,
        first: int,
        last: int,
    ) -> tuple[Any, Any]:
        """Run updates ``first`` to ``last`` - 1 of an epoch; the state given is used up."""
        if batch_size not in self._programs:
            devices = self.engine.mesh.shape[DATA]
            self._programs[batch_size] = epoch.make_chunk(
                self.engine,
                self.recipe,
                recipe.divide(self._settings, batch_size, devices),
            )
        program, stride = self._programs[batch_size], last - first
        if not self.recipe.rolled:
            stride = 1
        for begin in range(first, last, stride):
            state, sums = program(
                state,
                seeds,
                orders,
                self._images,
                self._labels,
                np.int32(begin),
                np.int32(begin + stride),
            )
        return state, sums

    def orders(self, seeds: list[int], number: int) -> Any:
        """Return the members' orders of one epoch, on their rows."""
        return self.engine.spread(
            [_order_of(seed, number, self.examples) for seed in seeds]
        )


@functools.partial(jax.jit, static_argnums=2)
def _order_of(seed: jax.Array, number: jax.Array, examples: int) -> jax.Array:
    return batches.epoch_order(step.order_key(seed), number, examples)
