"""What the reading threads and processes of a stream run. Knows nothing of JAX: a process that starts it takes the accelerator."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import process, resource_tracker
from pathlib import Path

import numpy as np

from bsexp.data import examples

# Examples that are read at once, and their bytes. A call of the reader takes 3 ms whatever it reads: of 256 images of
# CIFAR's size that is half of the time, of 1 024 a fifth. More keep the first update waiting.
MOST_EXAMPLES = 1_024
MOST_BYTES = 2**22
WAIT = 0.005  # seconds between two looks for the next epoch's order


class ClosedError(RuntimeError):
    """The stream has been closed while a portion was read."""


class WorkerError(RuntimeError):
    """A reading process has ended that should not have."""


class Orders:
    """The orders of the epochs, handed over in files from the process that draws them to those that read.

    Args:
        folder: exists as long as the stream is open.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, epoch: int, order: np.ndarray) -> None:
        """Hand over the order of an epoch, int32 [N]."""
        unfinished = self._folder / f"{epoch}.partial"
        with unfinished.open("wb") as stream:
            np.save(stream, order)
        unfinished.replace(self._file(epoch))

    def forget(self, epoch: int) -> None:
        """Remove the order of an epoch that has been read to its end."""
        self._file(epoch).unlink(missing_ok=True)

    def read(self, epoch: int) -> np.ndarray:
        """Return the order of an epoch, waiting until it is there.

        Raises:
            ClosedError: the stream was closed.
        """
        while True:
            try:
                return np.load(self._file(epoch), mmap_mode="r")
            except FileNotFoundError:
                if not self._folder.exists():
                    raise ClosedError from None
                time.sleep(WAIT)

    def _file(self, epoch: int) -> Path:
        return self._folder / f"{epoch}.npy"


class Portions:
    """The examples that one process trains on in portions, none of two epochs: a source for Grain.

    Attributes:
        bytes: the most that a portion has in images.

    Args:
        training: the training examples.
        orders: of the epochs.
        batch_size: B.
        places: those of every batch of B that this process reads, int [b].
        epoch: where to begin.
        step: where in that epoch.
    """

    def __init__(
        self,
        training: examples.Training,
        orders: Orders,
        batch_size: int,
        places: np.ndarray,
        epoch: int,
        step: int,
    ) -> None:
        self._size = min(max(MOST_BYTES // training.image_bytes, 1), MOST_EXAMPLES)
        self.bytes = self._size * training.image_bytes
        self._training = training
        self._orders = orders
        self._batch_size = batch_size
        self._places = places
        self._epoch = epoch
        self._begin = step * len(places)
        # The last N mod B examples of the order belong to no update.
        self._of_epoch = len(training) // batch_size * len(places)

    def __len__(self) -> int:
        """Return a number that no training reaches."""
        return 2**60

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Read images, uint8 [n, H, W, C], or features, float32 [n, D], and labels, int32 [n], of a portion counted from its begin."""
        size = self._size
        later, part = divmod(number + self._begin // size, -(-self._of_epoch // size))
        first = self._begin if number == 0 else part * size
        seen = np.arange(first, min((part + 1) * size, self._of_epoch))
        step, place = np.divmod(seen, len(self._places))
        order = self._orders.read(self._epoch + later)
        found = self._training.read(
            order[step * self._batch_size + self._places[place]]
        )
        return found.images, found.labels


# A Ctrl-C, or a cluster's SIGTERM, goes to all processes at once, but training first finishes what it is doing.
_STOPS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stops_held() -> Iterator[None]:
    """Hold back the signals that stop in a process that is started meanwhile, for `start_worker` to ignore them.

    A worker begins with seconds of imports. Who starts it holds them back for its thread alone: they reach another one.
    """
    # Where it is started with a worker, it lets the signals through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(_index: int, _count: int) -> None:
    """Prepare a reading process: it ends when and only when the process that trains wants it to.

    Where that is killed and can say nothing, the worker ends by itself.
    """
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = process.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
