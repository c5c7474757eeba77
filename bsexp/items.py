"""What is to be measured: every task at every run of a study."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from bsexp import config, door, results
from bsexp.probes import task


@dataclasses.dataclass(frozen=True)
class Item:
    """One measurement of one run.

    Attributes:
        run: the run.
        baseline: the run of the same seed that it is compared with, where the task measures a pair.
        task: what to measure.
        settings: what decides its value, as JSON holds it.
        epoch: number of epochs before the point; None: the end of training.
    """

    run: config.Run
    baseline: config.Run | None
    task: task.Task
    settings: Mapping[str, Any]
    epoch: int | None = None


def plan_items(
    plan: door.Plan,
    tasks: Callable[[config.Run], tuple[list[task.Task], list[task.Task]]],
) -> list[Item]:
    """List every measurement of a study, run by run.

    Args:
        plan: the study.
        tasks: run -> its tasks at the end of training, and those after each of config.measure.along.epochs, none of a
            pair. Pairs are measured at the compared group's runs, and some tasks not at the baseline's.
    """
    epochs = sorted(plan.study.measure.along.epochs)
    listed = []
    for run in plan.runs:
        baseline = _baseline(plan, run)
        last, along = (_of(plan, run, each) for each in tasks(run))
        for each in last:
            if each.pair and baseline is None:
                continue
            partner = {"from": baseline.name} if each.pair else {}
            settings = as_json({**each.settings, **partner})
            listed.append(Item(run, baseline if each.pair else None, each, settings))
        listed += [
            Item(run, None, each, as_json(each.settings), epoch)
            for epoch in epochs
            for each in along
        ]
    return listed


def kept_epochs(plan: door.Plan, groups: set[str]) -> tuple[int, ...]:
    """Return the epochs after which the states of groups are measured, or another group begins with them."""
    begun = {
        run.base.start.epoch for run in plan.runs if run.base.start.group in groups
    }
    return tuple(sorted({*plan.study.measure.along.epochs, *begun} - {0}))


def needed_runs(missing: list[Item]) -> dict[str, config.Run]:
    """Return the runs, by name, whose weights the measurements need: their own, and their baselines."""
    return {
        run.name: run for item in missing for run in (item.run, item.baseline) if run
    }


def _of(plan: door.Plan, run: config.Run, tasks: list[task.Task]) -> list[task.Task]:
    """Return the tasks that the group of a run has: the baseline has not all."""
    first = run.group in plan.study.compare[:1]
    return [each for each in tasks if each.baseline or not first]


def _baseline(plan: door.Plan, run: config.Run) -> config.Run | None:
    if run.group not in plan.study.compare[1:]:
        return None
    return next(
        each
        for each in plan.runs
        if (each.group, each.seed) == (plan.study.compare[0], run.seed)
    )


def as_json(value: Any) -> Any:
    """Return a value as it comes back from a file of results."""
    return json.loads(json.dumps(results.strict(value)))
