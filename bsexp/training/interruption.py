"""Ctrl-C and SIGTERM while training: finish the step, save, then stop."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

MOMENT = 0.05  # seconds, longer than a callback of the garbage collector takes


class Interrupted(BaseException):
    """Somebody asked for a stop; as with KeyboardInterrupt, no handler of errors may swallow it.

    Attributes:
        signal: number of the signal that asked.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


def stoppable(start: Callable[[], int]) -> int:
    """Return what ``start`` returns; from now on SIGINT and SIGTERM raise Interrupted."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return start()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While this context is open, no request for a stop is lost where Python drops what is raised.

    What a signal's handler raises within a callback of the garbage collector, JAX has one, or within ``__del__``, is only
    reported as unraisable. Then the signal comes once more, a moment later, when the callback is over.
    """
    previous = sys.unraisablehook

    def report(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, Interrupted | KeyboardInterrupt):
            previous(unraisable)
            return
        number = error.signal if isinstance(error, Interrupted) else signal.SIGINT
        again = threading.Timer(MOMENT, signal.raise_signal, [number])
        again.daemon = True
        again.start()

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = previous


class Deferred:
    """While this context is open, the first SIGINT or SIGTERM is only noted; a second one ends the program.

    One that was noted and that nothing was raised for comes back when the context is left.

    Args:
        said: what is told on the standard error at once, where it may take long to act upon a signal.
    """

    def __init__(self, said: str = "") -> None:
        self.number: int | None = None
        self._said = said
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        # An error that is handled further out must not make the request forgotten.
        handled = kind is None or issubclass(kind, Exception)
        if self.number is not None and handled:
            signal.raise_signal(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        if self._said:
            # NOTE: not print, which must not be entered while it is interrupted; nor may a closed terminal cost the states.
            with contextlib.suppress(OSError):
                os.write(2, f"{signal.Signals(number).name}: {self._said}\n".encode())
