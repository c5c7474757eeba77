"""What cohorts of one shape are trained with: a mesh, the data on it, and the compiled programs."""

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Place:
    """A mesh with a data set on it, for the runs of all shapes that train there.

    Attributes:
        engine: the mesh and how programs run on it.
        images: uint8 [N, H, W, C], on every device.
        labels: int32 [N], on every device.
        examples: N.
        held_out: "test", and "validation" where there is one.
    """

    engine: engine.Engine
    images: Any
    labels: Any
    examples: int
    held_out: dict[str, evaluation.HeldOut]


def place(
    kind: str, layout: mesh.Layout, train: Split, held_out: Mapping[str, Split]
) -> Place:
    """Place a data set on the devices of a mesh; ``kind`` is a key of `engine.ENGINES`."""
    made = engine.ENGINES[kind](mesh.make(layout, jax.devices()), layout.members)
    return Place(
        made,
        made.everywhere(train.images),
        made.everywhere(train.labels),
        len(train.labels),
        {
            name: evaluation.place(made, split.images, split.labels, EVALUATION_CHUNK)
            for name, split in held_out.items()
        },
    )


class Trainer:
    """The programs of one recipe at one place.

    Attributes:
        recipe: what the runs share.
        place: mesh and data.
        engine: of the place.
    """

    def __init__(
        self, shared: step.Recipe, where: Place, settings: config.Base
    ) -> None:
        self.recipe = shared
        self.place = where
        self.engine = where.engine
        self._settings = settings
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
        program = self._program(batch_size)
        data = self.place.images, self.place.labels
        stride = last - first if self.recipe.rolled else 1
        for i in range(first, last, stride):
            state, sums = program(
                state, seeds, orders, *data, np.int32(i), np.int32(i + stride)
            )
        return state, sums

    def compiled(self, state: Any, seeds: Any, orders: Any, batch_size: int) -> str:
        """Return the compiled program of an epoch's updates as text; by engine jit."""
        data = self.place.images, self.place.labels
        program = self._program(batch_size)
        lowered = program.lower(state, seeds, orders, *data, np.int32(0), np.int32(1))
        return lowered.compile().as_text()

    def _program(self, batch_size: int) -> epoch.Chunk:
        if batch_size not in self._programs:
            devices = self.engine.mesh.shape[DATA]
            self._programs[batch_size] = epoch.make_chunk(
                self.engine,
                self.recipe,
                recipe.divide(self._settings, batch_size, devices),
            )
        return self._programs[batch_size]

    def orders(self, seeds: list[int], number: int) -> Any:
        """Return the members' orders of one epoch, on their rows."""
        return self.engine.spread(
            [_order_of(seed, number, self.place.examples) for seed in seeds]
        )

    def evaluate(self, state: Any) -> dict[str, evaluation.CohortPending]:
        """Hand the evaluation of all members on every held-out split to the devices."""
        return {
            name: evaluation.dispatch_cohort(
                self.engine, self.recipe.model, split, state
            )
            for name, split in self.place.held_out.items()
        }


@functools.partial(jax.jit, static_argnums=2)
def _order_of(seed: jax.Array, number: jax.Array, examples: int) -> jax.Array:
    return batches.epoch_order(step.order_key(seed), number, examples)
