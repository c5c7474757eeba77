"""Where updates get their examples: from a data set on every device, or from batches read while the devices compute."""

import abc
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from bsexp.data import batches, examples
from bsexp.training import engine, step
from bsexp.training.division import Division
from bsexp.training.timeline import Updates

# Bytes of images that a cohort gets at once; a second portion is placed while the devices train on the first.
PORTION = 2**24

Found = tuple[jax.Array, jax.Array]


class Source(NamedTuple):
    """How a program finds the examples of an update.

    Attributes:
        find: (own, shared, update of the epoch, division) -> this device's inputs, float32, and labels, int32,
            [B / m, S / D, m / S, ...].
        divided: whether ``own`` comes from `engine.Engine.divide`, not from `engine.Engine.spread`.
    """

    find: Callable[[Any, Any, jax.Array, Division], Found]
    divided: bool


def _from_the_set(
    order: jax.Array, data: Found, update: jax.Array, division: Division
) -> Found:
    indices = batches.batch_indices(order, update, division.batch)
    return batches.gather(*data, indices[division.positions()])


def _from_a_portion(
    portion: Found, first: jax.Array, update: jax.Array, division: Division
) -> Found:
    del division  # the engine has divided what was read
    images, labels = portion
    return batches.scale(images[update - first]), labels[update - first]


RESIDENT = Source(_from_the_set, divided=False)
STREAMED = Source(_from_a_portion, divided=True)


class Portion(NamedTuple):
    """What a program needs for consecutive updates of an epoch.

    Attributes:
        own: of each member, on its row.
        shared: by all.
        first: update.
        last: update, not included.
    """

    own: Any
    shared: Any
    first: int
    last: int


class Feed(abc.ABC):
    """Gives a cohort its examples, update after update. Close it: it may read ahead."""

    @abc.abstractmethod
    def portions(self, updates: Updates) -> Iterator[Portion]:
        """Place what updates need, portion by portion."""

    @abc.abstractmethod
    def dispatched(self, sums: Any) -> None:
        """Hear what the program returns that was asked to train on the portion given last."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop reading."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Resident(Feed):
    """A data set on every device: a portion is the epoch's order.

    Args:
        mesh_engine: where the cohort trains.
        data: images, uint8 [N, H, W, C], or features, float32 [N, D], and labels, int32 [N], everywhere.
        examples: N.
        seeds: of the members.
    """

    def __init__(
        self,
        mesh_engine: engine.Engine,
        data: Any,
        examples: int,
        seeds: Sequence[int],
    ) -> None:
        self._engine, self._data = mesh_engine, data
        self._examples, self._seeds = examples, seeds
        self._epoch, self._orders = -1, None
        # Those of the first epoch; with them the program that draws is compiled, before a run's seconds are counted.
        self._drawn = 0, self._draw(0)

    def portions(self, updates: Updates) -> Iterator[Portion]:
        """Place the orders, once an epoch, drawn while the one before it was dispatched."""
        number = updates.epoch
        if number != self._epoch:
            drawn = self._drawn[1] if self._drawn[0] == number else self._draw(number)
            self._epoch, self._orders = number, self._engine.spread(drawn)
            # Ahead of the updates on the device's queue: the host would wait for them, and the device for the host.
            self._drawn = number + 1, self._draw(number + 1)
        yield Portion(self._orders, self._data, updates.first, updates.last)

    def dispatched(self, sums: Any) -> None:
        """Do nothing: all examples are placed."""

    def close(self) -> None:
        """Do nothing."""

    def _draw(self, number: int) -> list[jax.Array]:
        return [_order_of(seed, number, self._examples) for seed in self._seeds]


@functools.partial(jax.jit, static_argnums=2)
def _order_of(seed: jax.Array, number: jax.Array, examples: int) -> jax.Array:
    return batches.epoch_order(step.order_key(seed), number, examples)


class Streamed(Feed):
    """Batches read from disk, in the order of the resident ones and with their bits; of each, a device gets its own part.

    Members with the same seed are read once. The first portion, and the first after the batch size changes, is waited
    for.

    Args:
        mesh_engine: where the cohort trains.
        training: the examples on disk.
        seeds: of the members.
        divide: batch size -> its division.
        most: updates that are dispatched at once.
        workers: reading processes of each stream.
    """

    def __init__(
        self,
        mesh_engine: engine.Engine,
        training: examples.Training,
        seeds: Sequence[int],
        *,
        divide: Callable[[int], Division],
        most: int,
        workers: int,
    ) -> None:
        members, self._columns = mesh_engine.held
        self._seeds = [seeds[member] for member in members]
        # All processes must cut portions alike, whichever seeds they hold.
        self._streamed = len(set(seeds))
        self._engine, self._training = mesh_engine, training
        self._divide, self._most, self._workers = divide, most, workers
        self._opened = contextlib.ExitStack()
        self._streams: dict[int, Any] = {}  # by seed
        self._next: tuple[int, int] | None = None  # batch size, update since the start
        self._dispatched: Any = None

    def portions(self, updates: Updates) -> Iterator[Portion]:
        """Read what the devices take at once; what is missing to a whole portion is zeros, which no update sees."""
        whole = batches.steps_per_epoch(len(self._training), updates.batch)
        begin = updates.epoch * whole
        if self._next != (updates.batch, begin + updates.first):
            self._open(updates)
        size = portion_updates(
            min(self._most, whole),
            updates.batch * self._streamed * self._training.image_bytes,
        )
        for first in range(updates.first, updates.last, size):
            last = min(first + size, updates.last)
            self._next = updates.batch, begin + last
            yield Portion(
                self._read(updates.batch, last - first, size),
                np.int32(first),
                first,
                last,
            )

    def dispatched(self, sums: Any) -> None:
        """Wait for the portion before: one is trained on and the next one placed; a faster host would fill the device."""
        jax.block_until_ready(self._dispatched)
        self._dispatched = sums

    def close(self) -> None:
        """Stop reading; processes and threads have ended afterwards."""
        self._opened.close()

    def _open(self, updates: Updates) -> None:
        from bsexp.data import streaming  # noqa: PLC0415 - Grain, which most runs do not need, is imported with it

        self._opened.close()
        places = np.arange(updates.batch).reshape(self._divide(updates.batch).shape)
        for seed in set(self._seeds):
            stream = streaming.Stream(
                self._training,
                step.order_key(seed),
                updates.batch,
                begin=(updates.epoch, updates.first),
                places=self._own(places, updates.batch).ravel(),
                workers=self._workers,
            )
            self._streams[seed] = self._opened.enter_context(stream)

    def _own(self, shards: np.ndarray, batch: int) -> np.ndarray:
        """Return those of the shards [B / m, S, m / S] that this process trains on."""
        local = self._divide(batch).reduction.local
        return shards[:, self._columns.start * local : self._columns.stop * local]

    def _read(self, batch: int, updates: int, size: int) -> Any:
        """Place the next updates of every member, as if they were ``size``."""
        shards, _, shard = self._divide(batch).shape
        taken = {
            seed: tuple(
                _padded(array, size).reshape(size, shards, -1, shard, *array.shape[2:])
                for array in stream.take(updates)
            )
            for seed, stream in self._streams.items()
        }
        return self._engine.divide([taken[seed] for seed in self._seeds])


def portion_updates(most: int, update_bytes: int) -> int:
    """Return how many updates are placed at once.

    Args:
        most: that are dispatched at once; portions are equal parts of it.
        update_bytes: of the images of an update, of all members.
    """
    parts = -(-most // max(PORTION // update_bytes, 1))
    return -(-most // parts)


def _padded(array: np.ndarray, length: int) -> np.ndarray:
    """Append zeros, so that a shorter portion does not need a program of its own."""
    whole = np.zeros((length, *array.shape[1:]), array.dtype)
    whole[: len(array)] = array
    return whole
