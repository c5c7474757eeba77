"""What devices have computed, read as soon as it is ready, and how long a compiler kept them waiting."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple


class Read(NamedTuple):
    """What was read, and when it was ready, by ``time.perf_counter``."""

    value: Any
    moment: float


class Reader:
    """Reads in a thread of its own: when the program comes to it, it may long have been ready. Close it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[Read] | None = None

    def read(self, wait: Callable[[], Any]) -> Future[Read]:
        """Begin to read what ``wait`` returns, after what is being read: a device does one thing after the other."""
        self._last = self._thread.submit(lambda: Read(wait(), perf_counter()))
        return self._last

    def idle(self, began: float, ended: float) -> float:
        """Return for how long, between two moments of which the later one is now, nothing that is being read was computed."""
        if self._last is None:
            return ended - began
        if not self._last.done() or self._last.exception():
            return 0.0
        return max(0.0, ended - max(began, self._last.result().moment))

    def close(self) -> None:
        """Read nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
