"""Batches read from disk while the device computes, in the order of the resident path, to the bit."""

import contextlib
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grain
import jax
import numpy as np
from absl import flags

from bsexp import config
from bsexp.data import batches, examples, portions

# Portions that stand ready, for each process that reads.
AHEAD = 4
THREADS = 2
# Not through shared memory, of which Grain 0.2.18 may leave blocks behind: Python warns of them at its end.
THROUGH_PIPES = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)

_order = jax.jit(batches.epoch_order, static_argnums=2)


class Stream:
    """The batches of a run from one update on, without end; training images are never all in memory.

    Batch s of an epoch is order[B s : B (s + 1)] of `batches.epoch_order`, as `batches.batch_indices` cuts it,
    with the labels of `examples.load`: nothing depends on how it is read, or where it begins.

    Args:
        settings: the data; ``workers`` says how many processes read.
        order_key: of `batches.epoch_order`.
        batch_size: B, global.
        epoch: where to begin.
        step: where in that epoch.
        shard: the part of every batch that this process reads, of step 1.

    Raises:
        ValueError: as `examples.load`; or the batch size or the shard does not fit.
    """

    def __init__(
        self,
        settings: config.Data,
        order_key: jax.Array,
        batch_size: int,
        *,
        epoch: int = 0,
        step: int = 0,
        shard: slice = slice(None),
    ) -> None:
        training = examples.Training(settings)
        self._size = len(training)
        self._steps = batches.steps_per_epoch(self._size, batch_size)
        self._places = _places(shard, batch_size)
        self._order_key = order_key
        self._update = epoch * self._steps + step
        self._published = range(epoch, epoch)
        self._folder = tempfile.TemporaryDirectory(prefix="bsexp-orders-")
        self._orders = portions.Orders(Path(self._folder.name))
        source = portions.Portions(
            training,
            self._orders,
            batch_size,
            self._places,
            *divmod(self._update, self._steps),
        )
        self._portions = iter(_prefetched(source, settings.workers))
        self._workers = settings.workers
        self._reading_processes = False  # from the first take on
        self._image_shape = training.image_shape
        self._rest: tuple[np.ndarray, np.ndarray] | None = None

    def take(self, updates: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the next batches: images, uint8 [updates, b, H, W, C], and labels, int32 [updates, b].

        They go on over the end of an epoch. b is the length of the shard.

        Raises:
            ValueError: the records cannot be read.
        """
        if self._portions is None:
            raise ValueError("the stream is closed")
        self._publish(updates)
        self._reading_processes = self._workers > 0
        shape = updates, len(self._places)
        images = np.empty((*shape, *self._image_shape), np.uint8)
        labels = np.empty(shape, np.int32)
        self._fill(images.reshape(-1, *self._image_shape), labels.reshape(-1))
        self._update += updates
        return images, labels

    def close(self) -> None:
        """Stop reading; nothing can be taken any more."""
        # First, so that no reader waits for an order, and none reads another portion.
        self._folder.cleanup()
        if self._portions is not None:
            if self._reading_processes:
                self._drain()
            self._portions.close()
        # Let go of it now: at the end of the interpreter Grain complains that its own modules are gone.
        self._portions, self._rest = None, None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _fill(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Copy the next examples into arrays of n images and n labels, which fills them."""
        filled = 0
        while filled < len(labels):
            portion = self._rest or next(self._portions)
            count = min(len(labels) - filled, len(portion[1]))
            here = slice(filled, filled + count)
            images[here], labels[here] = (array[:count] for array in portion)
            left = tuple(array[count:] for array in portion)
            self._rest = left if len(left[1]) else None
            filled += count

    def _drain(self) -> None:
        """Take what stands ready, until every process has told that the stream is closed.

        A process cannot end before what it wrote is read: Grain would wait 25 s, then kill it.
        """
        portion: Any = ()
        while portion is not None:
            with contextlib.suppress(RuntimeError, ValueError):
                portion = next(self._portions, None)

    def _publish(self, updates: int) -> None:
        """Hand over the orders of the epochs of the next updates, and of one more epoch for those who read ahead."""
        begin = self._update // self._steps
        end = (self._update + updates) // self._steps + 2
        for epoch in range(self._published.start, begin):
            self._orders.forget(epoch)
        for epoch in range(self._published.stop, end):
            order = _order(self._order_key, epoch, self._size)
            self._orders.publish(epoch, np.asarray(order))
        self._published = range(begin, max(end, self._published.stop))


def _places(shard: slice, batch_size: int) -> range:
    """Return the places of a batch that a shard takes."""
    places = range(batch_size)[shard]
    if not len(places) or places.step != 1:
        raise ValueError(
            f"shard {shard} is no run of places of a batch of {batch_size}"
        )
    return places


def _prefetched(source: portions.Portions, workers: int) -> grain.IterDataset:
    """Read ahead by threads of this process, or by processes of their own, started afresh and not forked."""
    # Grain reads a flag of absl when it starts a process, which fails in a program that parses its own flags.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    # A process without threads: one that waits in a thread could not end after another example could not be read.
    threads = 0 if workers else THREADS
    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=AHEAD)
    ahead = grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=AHEAD
    )
    found = grain.MapDataset.source(source).to_iter_dataset(read)
    return grain.experimental.WithOptionsIterDataset(found, THROUGH_PIPES).mp_prefetch(
        ahead, worker_init_fn=portions.start_worker
    )
