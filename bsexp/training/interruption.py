"""Ctrl-C and SIGTERM while training: finish the step, save, then stop."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A run was asked to stop and has saved its state.

    Attributes:
        signal: number of the signal that asked.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Deferred:
    """While this context is open, the first SIGINT or SIGTERM is only noted; a second one ends the program."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
