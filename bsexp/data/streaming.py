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

from bsexp.data import batches, examples, portions

# Bytes of images that stand ready: what the device takes at once is then copied, not waited for.
AHEAD = 2**24
THREADS = 2
# Not through shared memory, of which Grain 0.2.18 may leave blocks behind: Python warns of them at its end.
THROUGH_PIPES = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)

_order = jax.jit(batches.epoch_order, static_argnums=2)


class Stream:
    """The batches of a run from one update on, without end; training images are never all in memory.

    Batch s of an epoch is order[B s : B (s + 1)] of `batches.epoch_order`, as `batches.batch_indices` cuts it,
    with the labels of `examples.load`: nothing depends on how it is read, or where it begins.

    Args:
        training: the examples on disk.
        order_key: of `batches.epoch_order`.
        batch_size: B, global.
        begin: the epoch, and the update of that epoch, to begin with.
        places: those of every batch that this process reads, int [b]; None: all B.
        workers: reading processes; 0: threads of this one.

    Raises:
        ValueError: the batch size or the places do not fit.
    """

    def __init__(
        self,
        training: examples.Training,
        order_key: jax.Array,
        batch_size: int,
        *,
        begin: tuple[int, int] = (0, 0),
        places: np.ndarray | None = None,
        workers: int = 0,
    ) -> None:
        self._size = len(training)
        self._steps = batches.steps_per_epoch(self._size, batch_size)
        places = np.arange(batch_size) if places is None else places
        self._width = _checked(places, batch_size)
        self._order_key = order_key
        epoch, step = begin
        self._update = epoch * self._steps + step
        self._published = range(epoch, epoch)
        self._drawn: jax.Array | None = None  # the order of the epoch that is next
        self._folder = tempfile.TemporaryDirectory(prefix="bsexp-orders-")
        self._orders = portions.Orders(Path(self._folder.name))
        source = portions.Portions(
            training,
            self._orders,
            batch_size,
            places,
            *divmod(self._update, self._steps),
        )
        ahead = max(AHEAD // source.bytes, 4)
        self._portions = iter(_prefetched(source, workers, ahead))
        self._workers = workers
        self._reading_processes = False  # from the first take on
        self._image_shape, self._dtype = training.image_shape, training.dtype
        self._rest: tuple[np.ndarray, np.ndarray] | None = None

    def take(self, updates: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the next batches: images, uint8 [updates, b, H, W, C], or features, float32 [updates, b, D]; labels, int32 [updates, b].

        They go on over the end of an epoch.

        Raises:
            records.DamagedError: the records cannot be read.
            portions.WorkerError: a reading process was killed.
            ValueError: the stream is closed.
        """
        if self._portions is None:
            raise ValueError("the stream is closed")
        self._publish(updates)
        self._reading_processes = self._workers > 0
        shape = updates, self._width
        images = np.empty((*shape, *self._image_shape), self._dtype)
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
            portion = self._rest or self._next()
            count = min(len(labels) - filled, len(portion[1]))
            here = slice(filled, filled + count)
            images[here], labels[here] = (array[:count] for array in portion)
            left = tuple(array[count:] for array in portion)
            self._rest = left if len(left[1]) else None
            filled += count

    def _next(self) -> tuple[np.ndarray, np.ndarray]:
        if not self._workers:
            return next(self._portions)
        # Each process is started when its first portion is due.
        with portions.stops_held():
            try:
                return next(self._portions)
            except RuntimeError as error:
                raise portions.WorkerError(
                    f"a process that reads training examples has ended ({error}); was memory short? "
                    "Fewer config.data.workers take less"
                ) from error

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
            drawn = self._drawn if self._drawn is not None else self._draw(epoch)
            # Ahead of the updates on the device's queue: the host would wait for them, and the device for the host.
            self._drawn = self._draw(epoch + 1)
            self._orders.publish(epoch, np.asarray(drawn))
        self._published = range(begin, max(end, self._published.stop))

    def _draw(self, epoch: int) -> jax.Array:
        return _order(self._order_key, epoch, self._size)


def _checked(places: np.ndarray, batch_size: int) -> int:
    """Return how many places of a batch are read."""
    if not len(places) or places.min() < 0 or places.max() >= batch_size:
        raise ValueError(f"places {places} are not all in a batch of {batch_size}")
    return len(places)


def _prefetched(
    source: portions.Portions, workers: int, portions_ahead: int
) -> grain.IterDataset:
    """Read ahead by threads of this process, or by processes of their own, started afresh and not forked."""
    # Grain reads a flag of absl when it starts a process, which fails in a program that parses its own flags.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    # A process without threads: one that waits in a thread could not end after another example could not be read.
    threads = 0 if workers else THREADS
    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=portions_ahead)
    ahead = grain.MultiprocessingOptions(
        num_workers=workers,
        per_worker_buffer_size=-(-portions_ahead // max(workers, 1)),
    )
    found = grain.MapDataset.source(source).to_iter_dataset(read)
    return grain.experimental.WithOptionsIterDataset(found, THROUGH_PIPES).mp_prefetch(
        ahead, worker_init_fn=portions.start_worker
    )
