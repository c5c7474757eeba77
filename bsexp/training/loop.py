"""The training loop: the runs of a cohort from their start, or from their newest whole checkpoints, to their end."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bsexp import config, results
from bsexp.training import (
    checkpoint,
    evaluation,
    feed,
    interruption,
    log,
    snapshots,
    step,
    stopping,
)
from bsexp.training.timeline import Epoch
from bsexp.training.trainer import Trainer

# How a run ended: with its last state, or with what was wrong with its loss.
End = step.State | FloatingPointError
STOPPING = "stops when the updates under way are done and saved; a second signal ends the program as soon as the devices are done"


class MissingWeightsError(RuntimeError):
    """Weights of a run are needed that are not there."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What a cohort needs; all but seeds, rates, folders and starts is shared by its runs.

    Attributes:
        trainer: mesh, data and programs.
        train: in what portions to train.
        epochs: of every run.
        seeds: of the runs, at most as many as the trainer has members.
        rates: learning rate and weight decay of each run.
        folders: of the runs.
        kept: epochs after which their states are kept for good, beside their checkpoints.
        starts: states of the runs before the first update; none: random starts by their seeds.
        precise: (states, seeds) -> the batch-norm statistics with which the runs end; None: those gathered while training.
        heard: told of each portion: its examples, examples/s, mean loss and accuracy of the epoch so far, of all runs.
    """

    trainer: Trainer
    train: config.Train
    epochs: tuple[Epoch, ...]
    seeds: tuple[int, ...]
    rates: tuple[dict[str, Any], ...]
    folders: tuple[Path, ...]
    heard: Callable[[int, float, float, float], None]
    kept: tuple[int, ...] = ()
    starts: tuple[step.State, ...] = ()
    precise: Callable[[Any, Any], list[Any]] | None = None


class _Member(NamedTuple):
    """One run of a job."""

    number: int  # in the job
    seed: int
    folder: Path
    checkpoints: checkpoint.Checkpoints
    snapshots: checkpoint.Checkpoints | None  # where an epoch is to be kept
    state: step.State  # before the first update of this session


def start(job: Job, number: int) -> step.State:
    """Return the state of a run before the first update."""
    if job.starts:
        return job.starts[number]
    return step.init(job.trainer.recipe, job.rates[number], job.seeds[number])


def restore(job: Job) -> step.State:
    """Return the last state of a job's only run, which was trained to its end.

    Raises:
        MissingWeightsError: its last checkpoint is not there, or damaged.
    """
    (folder,) = job.folders
    state = checkpoint.newest(folder, start(job, 0))
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
        interruption.Deferred(STOPPING) as stop,
        contextlib.ExitStack() as opened,
    ):
        members = [_member(job, number, opened) for number in range(len(job.seeds))]
        _check_agreement(job, members)
        ends: dict[int, End] = {}
        for _, group in itertools.groupby(sorted(members, key=_done), key=_done):
            ends |= _Session(job, list(group), stop).run()
        # It may have come after the last portion was dispatched.
        (asked,) = _asking(job, stop)()
        if asked:
            raise interruption.Interrupted(asked)
    return [ends[number] for number in range(len(job.seeds))]


def _member(job: Job, number: int, opened: contextlib.ExitStack) -> _Member:
    folder, together = job.folders[number], job.trainer.engine.processes
    checkpoints = opened.enter_context(
        checkpoint.Checkpoints(folder / results.CHECKPOINTS, processes=together)
    )
    fresh = start(job, number)
    state = jax.device_get(checkpoints.restore(fresh) or fresh)
    return _Member(
        number,
        job.seeds[number],
        folder,
        checkpoints,
        opened.enter_context(snapshots.opened(folder, together)) if job.kept else None,
        state,
    )


def _check_agreement(job: Job, members: list[_Member]) -> None:
    """Check that all processes found the same checkpoints.

    Raises:
        OSError: they do not see the same folder.
    """
    # The largest of the negatives: only where one process has found fewer updates do they differ.
    found = [-_done(member) for member in members]
    if job.trainer.engine.most(found) != found:
        raise OSError(
            f"{job.folders[0]}: process {jax.process_index()} finds other checkpoints there than the others: all must see the same folder"
        )


def _asking(job: Job, stop: interruption.Deferred) -> Callable[[], list[int]]:
    """Begin to ask for the number of the signal that came to any of the processes, 0 for none; each must call it."""
    return job.trainer.engine.agreeing(lambda: [stop.number or 0])


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
        self._log = log.Log(
            job.trainer.engine,
            files,
            self._done,
            job.heard,
            timed=bool(job.train.seconds),
        )
        # NOTE: what ended before is saved as it ended; precise statistics are not computed again.
        self._ends: dict[int, End] = {}
        for i in self._over():
            self._end(i, members[i].state)

    def run(self) -> dict[int, End]:
        """Train to the end; return how each run ended, by its number in the job."""
        most = self._job.train.steps_per_dispatch
        with contextlib.closing(self._log), contextlib.ExitStack() as opened:
            with self._log.left_out():
                fed = opened.enter_context(
                    self._job.trainer.open_feed(self._seeds, most)
                )
                self._job.trainer.prepare(self._state)
            for epoch in self._job.epochs:
                if epoch.end > self._done and self._running:
                    self._train_epoch(epoch, fed)
            self._log.read_previous(None)
        for i in self._running:
            self._ends[i] = jax.device_get(self._member(i))
        for member in self._members:
            member.checkpoints.wait()
        return {member.number: self._ends[i] for i, member in enumerate(self._members)}

    @property
    def _running(self) -> list[int]:
        """Places of the runs that have not ended and did not fail; those that fail end here."""
        self._ends |= self._log.failed
        return [i for i in range(len(self._members)) if i not in self._ends]

    def _train_epoch(self, epoch: Epoch, fed: feed.Feed) -> None:
        train = self._job.train
        first = max(self._done - epoch.first, 0)
        while first < epoch.steps and self._running:
            due = epoch.next_evaluation(first, train.evaluations)
            last = min(first + train.steps_per_dispatch, due)
            out_of_time = bool(train.seconds) and self._log.seconds >= train.seconds
            evaluated = last == due or out_of_time
            asking = _asking(self._job, self._stop)
            self._dispatch(epoch, fed, first, last, evaluated=evaluated)
            if last == epoch.steps:
                self._keep(epoch.number + 1)
            if evaluated and stopping.conditional(train):
                self._finish(self._over(), epoch.first + last)
            if epoch is self._job.epochs[-1] and last == epoch.steps:
                self._finish(self._running, epoch.end)
            (asked,) = asking()
            if asked:
                self._save(self._running, epoch.first + last)
                for member in self._members:
                    member.checkpoints.wait()
                raise interruption.Interrupted(asked)
            first = last
        if (epoch.number + 1) % train.checkpoint_every == 0:
            self._save(self._running, epoch.end)

    def _keep(self, number: int) -> None:
        """Keep the states after an epoch that is to be measured."""
        if number in self._job.kept:
            with self._to_measure(self._running) as states:
                for i, state in states.items():
                    self._members[i].snapshots.save(number, state)

    def _dispatch(
        self, epoch: Epoch, fed: feed.Feed, first: int, last: int, *, evaluated: bool
    ) -> None:
        trainer = self._job.trainer
        known = len(trainer.first_calls)
        self._state, sums = trainer.run(
            self._state, self._placed, fed, epoch.updates(first, last)
        )
        self._log.leave_out(trainer.first_calls[known:])
        read = self._log.read(trainer.engine.reading(sums))
        held_out = None
        if evaluated:
            pending = trainer.evaluate(self._state)
            held_out = self._log.read(functools.partial(evaluation.read, pending))
        size = (last - first) * epoch.batch
        began = self._log.began
        self._log.read_previous(log.Portion(epoch, last, size, read, held_out, began))

    def _over(self) -> list[int]:
        """Return the places of the runs that end now, by their rows."""
        self._log.read_previous(None)
        return [
            i
            for i in self._running
            if stopping.reason(self._log.rows[i], self._job.train)
        ]

    def _finish(self, places: list[int], number: int) -> None:
        """End runs and save their last states, with precise statistics where these are asked for."""
        with self._to_measure(places) as states:
            for i, state in states.items():
                self._checkpoint(i, number, state)
                self._end(i, jax.device_get(state))

    def _end(self, i: int, state: step.State) -> None:
        """End a run, whatever becomes of its place on the devices."""
        self._ends[i] = state
        self._log.ended.add(i)

    @contextlib.contextmanager
    def _to_measure(self, places: list[int]) -> Iterator[dict[int, step.State]]:
        """Give the states of the runs that did not fail, with precise statistics where these are asked for.

        Neither these nor what is done with the states takes time from runs whose seconds are counted.
        """
        self._log.read_previous(None)
        with self._log.left_out():
            states = {i: self._member(i) for i in places if i not in self._log.failed}
            if self._job.precise is not None and states:
                found = self._job.precise(self._state, self._placed)
                states = {i: states[i]._replace(statistics=found[i]) for i in states}
            yield states

    def _save(self, places: list[int], number: int) -> None:
        # NOTE: the epoch's row is on disk before its checkpoint, so that no resumed run lacks a row.
        self._log.read_previous(None)
        for i in places:
            if i not in self._log.failed:
                self._checkpoint(i, number, self._member(i))

    def _checkpoint(self, i: int, number: int, state: step.State) -> None:
        # NOTE: its snapshots are on disk before a later checkpoint, so that no resumed run lacks one.
        member = self._members[i]
        if member.snapshots is not None:
            member.snapshots.wait()
        member.checkpoints.save(number, state)

    def _member(self, i: int) -> step.State:
        return self._job.trainer.engine.member(self._state, i)
