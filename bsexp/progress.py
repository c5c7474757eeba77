"""Progress of a study: a live bar on a terminal, one plain line every ten seconds in a log."""

import time
from typing import Self

import rich.progress
from rich.console import Console

LINE_EVERY = 10.0  # seconds between two lines of a log


class Progress:
    """Counts planned work as it is done and says how long the rest takes.

    Work is measured in forward passes of one example; the time left follows from the rate seen so far.
    """

    def __init__(self, total: float, console: Console) -> None:
        self._console = console
        self._total = max(total, 1.0)
        self._planned = 0.0  # work of the parts that were begun, as planned
        self._done = 0.0  # never beyond what was planned so far
        self._label = ""
        self._numbers = ""
        self._began = time.perf_counter()
        self._last_line = self._began
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TextColumn(
                "{task.fields[left]} left  {task.fields[numbers]}", markup=False
            ),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=self._total, left="?", numbers="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, label: str, work: float) -> None:
        """Begin one part of the plan; what came before counts as done as planned."""
        self._done = self._planned
        self._planned += work
        self._label, self._numbers = label, ""
        self._show()

    def spent(self, work: float) -> None:
        """Count work of the part that was begun."""
        self._done = min(self._done + work, self._planned)
        self._show()

    def trained(self, work: float, rate: float, loss: float, accuracy: float) -> None:
        """Count a portion of training: ``rate`` in examples/s, the mean loss and accuracy of its epoch so far."""
        self._numbers = (
            f"loss {loss:.4f}  accuracy {accuracy:.2%}  {rate:,.0f} examples/s"
        )
        self.spent(work)

    def _show(self) -> None:
        left = self._left()
        self._bar.update(
            self._task,
            completed=self._done,
            description=self._label,
            left=left,
            numbers=self._numbers,
        )
        now = time.perf_counter()
        if not self._console.is_terminal and now - self._last_line >= LINE_EVERY:
            self._last_line = now
            share = self._done / self._total
            line = f"{clock(now - self._began)} {share:4.0%} {left} left  {self._label}  {self._numbers}"
            self._console.print(
                line.rstrip(), markup=False, highlight=False, soft_wrap=True
            )

    def _left(self) -> str:
        elapsed = time.perf_counter() - self._began
        if self._done <= 0 or elapsed < 1:
            return "?"
        return clock((self._total - self._done) * elapsed / self._done)


def clock(seconds: float) -> str:
    """Write a duration as m:ss or h:mm:ss.

    >>> clock(3723)
    '1:02:03'
    """
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
