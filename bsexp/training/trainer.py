"""What cohorts of one shape are trained with: a mesh, the data on it, and the compiled programs."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from bsexp import config
from bsexp.data.sources import Examples, Split
from bsexp.training import (
    division,
    engine,
    epoch,
    evaluation,
    feed,
    mapped,
    mesh,
    recipe,
    sharded,
    step,
)
from bsexp.training.reduction import DATA
from bsexp.training.timeline import Updates

# Examples evaluated at once: enough to keep the cores busy, few enough to fit beside the training set.
EVALUATION_CHUNK = 1_000
ENGINES: dict[str, type[engine.Engine]] = {"jit": sharded.Jit, "pmap": mapped.Pmap}


@dataclasses.dataclass(frozen=True)
class Place:
    """A mesh with a data set for it, for the runs of all shapes that train there.

    Attributes:
        engine: the mesh and how programs run on it.
        training: the training examples, in memory or on disk.
        data: their images, uint8 [N, H, W, C], or features, float32 [N, D], and labels, int32 [N], on every device; None
            where they are streamed.
        held_out: "test", and "validation" where there is one.
    """

    engine: engine.Engine
    training: Examples
    data: Any
    held_out: dict[str, evaluation.HeldOut]


def place(
    kind: str, layout: mesh.Layout, train: Examples, held_out: Mapping[str, Split]
) -> Place:
    """Place a data set on the devices of a mesh, all but training examples on disk.

    ``kind`` is a key of `ENGINES`.
    """
    made = ENGINES[kind](mesh.make(layout, jax.devices()), layout.members)
    return Place(
        made,
        train,
        made.everywhere((train.images, train.labels))
        if isinstance(train, Split)
        else None,
        {
            name: evaluation.place(made, split.images, split.labels, EVALUATION_CHUNK)
            for name, split in held_out.items()
        },
    )


def beside(there: Place, members: int) -> Place:
    """Return a place on the same mesh with the same data, not copied, for another number of runs."""
    return dataclasses.replace(
        there, engine=type(there.engine)(there.engine.mesh, members)
    )


class Trainer:
    """The programs of one recipe at one place.

    Attributes:
        recipe: what the runs share.
        place: mesh and data.
        engine: of the place.
        first_calls: from when to when, by ``time.perf_counter``, each program was called first, and so compiled.
    """

    def __init__(
        self, shared: step.Recipe, where: Place, settings: config.Base
    ) -> None:
        self.recipe = shared
        self.place = where
        self.engine = where.engine
        self._settings = settings
        self._normalised = recipe.normalised(shared.model)
        self._programs: dict[int, epoch.Chunk] = {}
        self._called: set[int | str] = set()
        self.first_calls: list[tuple[float, float]] = []

    def open_feed(self, seeds: Sequence[int], most: int) -> feed.Feed:
        """Open what gives the members their examples, of at most ``most`` updates at once."""
        if self.place.data is not None:
            number = len(self.place.training)
            return feed.Resident(self.engine, self.place.data, number, seeds)
        return feed.Streamed(
            self.engine,
            self.place.training,
            seeds,
            divide=self._divide,
            most=most,
            workers=self._settings.data.workers,
        )

    def prepare(self, state: Any) -> None:
        """Compile what evaluates, once, and wait for it: beside the first updates it would take cores from them."""
        if "evaluation" not in self._called:
            with self._first_call("evaluation"):
                for split in self.place.held_out.values():
                    # The last chunk may be a smaller one.
                    ends = evaluation.HeldOut([split.chunks[0], split.chunks[-1]], 1)
                    self._evaluation(ends, state).read()

    def run(
        self, state: Any, seeds: Any, fed: feed.Feed, updates: Updates
    ) -> tuple[Any, Any]:
        """Run consecutive updates of an epoch; the state given is used up."""
        program = self._program(updates.batch)
        for portion in fed.portions(updates):
            first, last = portion.first, portion.last
            stride = last - first if self.recipe.rolled else 1
            for i in range(first, last, stride):
                with self._first_call(updates.batch):
                    state, sums = program(
                        *(state, seeds, portion.own, portion.shared),
                        *map(np.int32, (updates.epoch, i, i + stride)),
                    )
            fed.dispatched(sums)
        return state, sums

    def compiled(self, state: Any, seeds: Any, fed: feed.Feed, updates: Updates) -> str:
        """Return the compiled program of consecutive updates as text; by engine jit."""
        portion = next(fed.portions(updates))
        lowered = self._program(updates.batch).lower(
            *(state, seeds, portion.own, portion.shared),
            *map(np.int32, (updates.epoch, 0, 1)),
        )
        return lowered.compile().as_text()

    def _divide(self, batch_size: int) -> division.Division:
        devices = self.engine.mesh.shape[DATA]
        return recipe.divide(
            self._settings, batch_size, devices, normalised=self._normalised
        )

    def _program(self, batch_size: int) -> epoch.Chunk:
        if batch_size not in self._programs:
            resident = self.place.data is not None
            self._programs[batch_size] = epoch.make_chunk(
                self.engine,
                self.recipe,
                self._divide(batch_size),
                feed.RESIDENT if resident else feed.STREAMED,
            )
        return self._programs[batch_size]

    def evaluate(self, state: Any) -> dict[str, evaluation.CohortPending]:
        """Hand the evaluation of all members on every held-out split to the devices."""
        return {
            name: self._evaluation(split, state)
            for name, split in self.place.held_out.items()
        }

    def _evaluation(
        self, split: evaluation.HeldOut, state: Any
    ) -> evaluation.CohortPending:
        return evaluation.dispatch_cohort(self.engine, self.recipe.model, split, state)

    @contextlib.contextmanager
    def _first_call(self, program: int | str) -> Iterator[None]:
        """Note the time of a program's first call, in which it is compiled."""
        began = time.perf_counter()
        yield
        if program not in self._called:
            self._called.add(program)
            self.first_calls.append((began, time.perf_counter()))
