"""The rows of the runs of a cohort: one an evaluation, written while the devices already work on the next."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bsexp import results
from bsexp.training import engine, evaluation, processes, reading
from bsexp.training.timeline import Epoch


class Portion(NamedTuple):
    """What was dispatched last: read only after the next dispatch, so that the device never waits for the host.

    Attributes:
        epoch: of which it is a part.
        last: updates of the epoch done after it.
        size: examples in it, of one run.
        sums: `step.Sums` of every run, since the epoch began.
        held_out: name of a split -> the evaluation of every run, where one is due after the portion.
        began: when each run began, later by all that it has waited for a compiler until this was dispatched.
    """

    epoch: Epoch
    last: int
    size: int
    sums: Future[reading.Read]
    held_out: Future[reading.Read] | None
    began: tuple[float, ...]


class Log:
    """Writes every run's metrics.jsonl, one portion late; of several processes the leading one does, all keep the rows.

    Attributes:
        rows: of every run.
        failed: place of a run among the members -> what was wrong with its loss; its rows end there.
        ended: places of the runs that ended well; the devices may go on with them beside others, their rows end too.
    """

    def __init__(
        self,
        mesh_engine: engine.Engine,
        files: Sequence[Path],
        done: int,
        heard: Callable[[int, float, float, float], None],
        *,
        timed: bool,
    ) -> None:
        self._engine, self._files, self._heard = mesh_engine, files, heard
        self._timed = timed
        self._writes = processes.leads()
        self.failed: dict[int, FloatingPointError] = {}
        self.ended: set[int] = set()
        self.rows = [_kept(file, done) for file in files]
        if self._writes:
            for file, rows in zip(files, self.rows, strict=True):
                results.write_rows(file, rows)
        self._read = time.perf_counter()
        self._began = [
            self._read - (rows[-1]["seconds"] if rows else 0.0) for rows in self.rows
        ]
        self._previous: Portion | None = None
        self._reader = reading.Reader()
        self.read, self.close = self._reader.read, self._reader.close

    @property
    def seconds(self) -> float:
        """Time that the run which began first, of those that go on, has trained, in all its sessions.

        Of a session that was stopped it counts up to its last row; compilation is left out.
        """
        began = [self._began[i] for i in self._going_on(len(self._files))]
        return self._agreed(time.perf_counter() - min(began))

    @property
    def began(self) -> tuple[float, ...]:
        """When each run began, as `Portion` has it."""
        return tuple(self._began)

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Leave out the time of what is not training, while the devices are not given any."""
        began = time.perf_counter()
        yield
        self.leave_out([(began, time.perf_counter())])

    def leave_out(self, waits: Iterable[tuple[float, float]]) -> None:
        """Leave out times, up to now, in which the devices waited, for a compiler say: other runs find the program ready."""
        for first, last in waits:
            waited = self._reader.idle(first, last)
            self._began = [began + waited for began in self._began]

    def _agreed(self, seconds: float) -> float:
        """Return the leading process's time, where it ends runs: that must be the same everywhere. In milliseconds."""
        own = round(1e3 * seconds)
        (agreed,) = self._engine.most([own * self._writes]) if self._timed else (own,)
        return agreed / 1e3

    def read_previous(self, dispatched: Portion | None) -> None:
        """Read what was dispatched before, and keep what was dispatched now for the next call."""
        portion, self._previous = self._previous, dispatched
        if portion is None:
            return
        read, moment = portion.sums.result()
        found = read[: len(self._files)]
        train = [
            evaluation.Evaluation(
                float(sums.loss / sums.examples), float(sums.correct / sums.examples)
            )
            for sums in found
        ]
        self._note_failures(portion, train)
        well = self._going_on(len(train))
        self._tell([train[i] for i in well], portion.size, moment - self._read)
        self._read = moment
        if portion.held_out is not None:
            held_out, moment = portion.held_out.result()
            for i in well:
                named = {name: found[i] for name, found in held_out.items()}
                seconds = self._agreed(moment - portion.began[i])
                self._write(i, portion, seconds, {"train": train[i], **named})

    def _going_on(self, number: int) -> list[int]:
        return [i for i in range(number) if not (i in self.failed or i in self.ended)]

    def _tell(
        self, found: list[evaluation.Evaluation], size: int, seconds: float
    ) -> None:
        if found:
            loss, accuracy = np.mean(found, axis=0).tolist()
            examples = size * len(found)
            self._heard(examples, examples / seconds, loss, accuracy)

    def _note_failures(
        self, portion: Portion, train: list[evaluation.Evaluation]
    ) -> None:
        for i in self._going_on(len(train)):
            if not math.isfinite(loss := train[i].loss):
                self.failed[i] = FloatingPointError(
                    f"the training loss is {loss} in epoch {portion.epoch.number + 1}: "
                    "try a smaller config.optimizer.learning_rate"
                )

    def _write(
        self,
        i: int,
        portion: Portion,
        seconds: float,
        found: dict[str, evaluation.Evaluation],
    ) -> None:
        epoch = portion.epoch
        whole = portion.last == epoch.whole
        row = {
            "epoch": epoch.number + (1 if whole else portion.last / epoch.whole),
            "step": epoch.first + portion.last,
            "examples": epoch.seen + portion.last * epoch.batch,
            "seconds": seconds,
        }
        for name, (loss, accuracy) in found.items():
            row |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
        self.rows[i].append(row)
        if self._writes:
            results.append_row(self._files[i], row)


def _kept(file: Path, done: int) -> list[dict[str, Any]]:
    """Return the rows up to ``done`` updates."""
    return [row for row in results.read_rows(file) if row["step"] <= done]
