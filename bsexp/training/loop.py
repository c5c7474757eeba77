"""The training loop: the runs of a cohort from their start, or from their newest whole checkpoints, to their end."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bsexp import config, results
from bsexp.training import checkpoint, interruption, log, step, stopping
from bsexp.training.timeline import Epoch
from bsexp.training.trainer import Trainer

# How a run ended: with its last state, or with what was wrong with its loss.
End = step.State | FloatingPointError


class MissingWeightsError(RuntimeError):
    """A run that was trained to its end has no checkpoint of it any more."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What a cohort needs; all but seeds, rates and folders is shared by its runs.

    Attributes:
        trainer: mesh, data and programs.
        train: in what portions to train.
        epochs: of every run.
        seeds: of the runs, at most as many as the trainer has members.
        rates: learning rate and weight decay of each run.
        folders: of the runs.
        heard: told of each portion: its examples, examples/s, mean loss and accuracy of the epoch so far, of all runs.
    """

    trainer: Trainer
    train: config.Train
    epochs: tuple[Epoch, ...]
    seeds: tuple[int, ...]
    rates: tuple[dict[str, Any], ...]
    folders: tuple[Path, ...]
    heard: Callable[[int, float, float, float], None]


class _Member(NamedTuple):
    """One run of a job."""

    number: int  # in the job
    seed: int
    folder: Path
    checkpoints: checkpoint.Checkpoints
    state: step.State  # before the first update of this session


def start(job: Job, number: int) -> step.State:
    """Return the state of a run before the first update."""
    return step.init(job.trainer.recipe, job.rates[number], job.seeds[number])


def restore(job: Job) -> step.State:
    """Return the last state of a job's only run, which was trained to its end.

    Raises:
        MissingWeightsError: its last checkpoint is not there, or damaged.
    """
    (folder,) = job.folders
    with (
        interruption.Deferred(),
        checkpoint.Checkpoints(folder / "checkpoints") as checkpoints,
    ):
        state = checkpoints.restore(start(job, 0))
    if state is None or not _ended(job, folder, int(state.step)):
        raise MissingWeightsError(f"{folder} has no whole checkpoint of its last step")
    return state


def _ended(job: Job, folder: Path, done: int) -> bool:
    """Say whether a run ends after ``done`` updates."""
    rows = [
        row for row in results.read_rows(folder / results.CURVES) if row["step"] <= done
    ]
    early = stopping.reason(rows, job.train) and rows[-1]["step"] == done
    return bool(early) or done == job.epochs[-1].end


def train(job: Job) -> list[End]:
    """Train every run of a cohort to its end; return its last state, or what was wrong with its loss.

    The numbers are a pure function of (configuration, seed): a run that was killed and started again ends with the
    same bits, since batches depend on (seed, epoch, step) alone and the state carries everything else. Runs that were
    stopped at different steps go on one group after the other.

    Raises:
        interruption.Interrupted: SIGINT or SIGTERM came; the states are saved.
    """
    with (
        # NOTE: outermost, so that no signal cuts off a checkpoint that is being closed.
        interruption.Deferred() as stop,
        contextlib.ExitStack() as opened,
    ):
        members = [_member(job, number, opened) for number in range(len(job.seeds))]
        ends: dict[int, End] = {}
        for _, group in itertools.groupby(sorted(members, key=_done), key=_done):
            ends |= _Session(job, list(group), stop).run()
        if stop.number is not None:  # it came after the last portion was dispatched
            raise interruption.Interrupted(stop.number)
    return [ends[number] for number in range(len(job.seeds))]


def _member(job: Job, number: int, opened: contextlib.ExitStack) -> _Member:
    folder = job.folders[number]
    checkpoints = opened.enter_context(checkpoint.Checkpoints(folder / "checkpoints"))
    fresh = start(job, number)
    return _Member(
        number,
        job.seeds[number],
        folder,
        checkpoints,
        checkpoints.restore(fresh) or fresh,
    )


def _done(member: _Member) -> int:
    return int(member.state.step)


class _Session:
    """Trains runs that have done equally many updates; those missing to a whole cohort are copies of the first."""

    def __init__(
        self, job: Job, members: list[_Member], stop: interruption.Deferred
    ) -> None:
        self._job, self._members, self._stop = job, members, stop
        self._done = _done(members[0])
        whole = members + members[:1] * (job.trainer.engine.members - len(members))
        self._seeds = [member.seed for member in whole]
        spread = job.trainer.engine.spread
        self._placed = spread([np.int32(seed) for seed in self._seeds])
        self._state = spread([member.state for member in whole])
        files = [member.folder / results.CURVES for member in members]
        self._log = log.Log(job.trainer.engine, files, self._done, job.heard)
        self._ends: dict[int, End] = {}
        self._end_early()

    def run(self) -> dict[int, End]:
        """Train to the end; return how each run ended, by its number in the job."""
        for epoch in self._job.epochs:
            if epoch.end > self._done and self._running:
                self._train_epoch(epoch)
        self._log.read_previous(None)
        for i in self._running:
            self._ends[i] = self._member(i)
        for member in self._members:
            member.checkpoints.wait()
        return {member.number: self._ends[i] for i, member in enumerate(self._members)}

    @property
    def _running(self) -> list[int]:
        """Places of the runs that have not ended and did not fail; those that fail end here."""
        self._ends |= self._log.failed
        return [i for i in range(len(self._members)) if i not in self._ends]

    def _train_epoch(self, epoch: Epoch) -> None:
        train = self._job.train
        orders = self._job.trainer.orders(self._seeds, epoch.number)
        first = max(self._done - epoch.first, 0)
        while first < epoch.steps and self._running:
            last = min(first + train.steps_per_dispatch, epoch.steps)
            out_of_time = bool(train.seconds) and self._log.seconds >= train.seconds
            ends = last == epoch.steps or out_of_time
            self._dispatch(epoch, orders, first, last, ends=ends)
            if ends and stopping.conditional(train):
                self._end_early()
            if self._stop.number is not None:
                self._save(self._running, epoch.first + last)
                for member in self._members:
                    member.checkpoints.wait()
                raise interruption.Interrupted(self._stop.number)
            first = last
        due = (epoch.number + 1) % train.checkpoint_every == 0
        if due or epoch is self._job.epochs[-1]:
            self._save(self._running, epoch.end)

    def _dispatch(
        self, epoch: Epoch, orders: Any, first: int, last: int, *, ends: bool
    ) -> None:
        trainer = self._job.trainer
        self._state, sums = trainer.run(
            self._state, self._placed, orders, epoch.batch, first, last
        )
        held_out = trainer.evaluate(self._state) if ends else {}
        size = (last - first) * epoch.batch
        self._log.read_previous(log.Portion(epoch, last, size, sums, held_out))

    def _end_early(self) -> None:
        """End the runs whose rows say so; their states are saved."""
        self._log.read_previous(None)
        for i in self._running:
            rows = self._log.rows[i]
            if stopping.reason(rows, self._job.train):
                self._save([i], rows[-1]["step"])
                self._ends[i] = self._member(i)

    def _save(self, places: list[int], number: int) -> None:
        # NOTE: the epoch's row is on disk before its checkpoint, so that no resumed run lacks a row.
        self._log.read_previous(None)
        for i in places:
            if i not in self._log.failed:
                self._members[i].checkpoints.save(number, self._member(i))

    def _member(self, i: int) -> step.State:
        return self._job.trainer.engine.member(self._state, i)
