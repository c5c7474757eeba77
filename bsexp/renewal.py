"""Which runs of a study must be computed again: their weights are gone, or were passed by, and are needed."""

import itertools
from collections.abc import Mapping

from bsexp import config, items, results, workshop
from bsexp.workdir import Workdir


def check(place: Workdir, wanted: list[items.Item]) -> None:
    """Read the checkpoints of measured runs that are needed once more: damaged ones are moved aside, and so count as gone."""
    for run in items.needed_runs(place.missing(wanted)).values():
        folder = place.run_folder(run)
        own = place.weights_folder(run) == folder
        if own and results.measurements(folder):
            workshop.newest_state(run, folder)


def renew(place: Workdir, wanted: list[items.Item]) -> list[str]:
    """Set aside runs whose weights are gone but needed again; say for each where its results went.

    Training again may end at other bits, on other hardware say: what was measured at the old weights must
    not stand beside what is measured at the new ones. The same holds of an epoch that is to be measured only now,
    after the run has trained past it.
    """
    lost, torn = again(place, wanted)
    for item in torn:
        _forget(place, item)
    runs = _runs(wanted)
    return [_set_aside(place, runs[name]) for name in sorted(lost)]


def again(
    place: Workdir, wanted: list[items.Item]
) -> tuple[set[str], list[items.Item]]:
    """Return the runs, by name, that are set aside, and the measurements of others that were made against these."""
    missing = place.missing(wanted)
    needed = items.needed_runs(missing)
    lost = {name for name, run in needed.items() if _lost(place, run)}
    lost |= {item.run.name for item in missing if _passed(place, item.run, item.epoch)}
    runs = _runs(wanted)
    lost = _with_starts(place, lost, needed, runs)
    paired = [item for item in wanted if item.baseline and item.baseline.name in lost]
    torn = {item.run.name for item in paired if _lost(place, item.run)}
    lost = _with_starts(place, lost | torn, needed, runs)
    return lost, [item for item in paired if item.run.name not in lost]


def _runs(wanted: list[items.Item]) -> dict[str, config.Run]:
    """Return the runs that are measured, by name, and those that they begin with."""
    runs = {item.run.name: item.run for item in wanted}
    return runs | {run.donor.name: run.donor for run in runs.values() if run.donor}


def _with_starts(
    place: Workdir,
    lost: set[str],
    needed: Mapping[str, config.Run],
    runs: Mapping[str, config.Run],
) -> set[str]:
    """Add the runs whose weights at a start are gone, and those that began with weights of runs that are lost."""
    again = {**needed, **{name: runs[name] for name in lost}}
    lost = lost | {run.donor.name for run in again.values() if _start_lost(place, run)}
    return lost | {
        name
        for name, run in runs.items()
        if run.donor
        and run.donor.name in lost
        and run.base.start.epoch
        and place.run_folder(run).exists()
    }


def _lost(place: Workdir, run: config.Run) -> bool:
    """Say whether a run is measured and the weights at its end are gone."""
    folder = place.weights_folder(run)
    steps = [row["step"] for row in results.read_rows(folder / results.CURVES)]
    kept = max(results.checkpoint_steps(folder), default=-1) >= max(steps, default=0)
    return bool(results.measurements(place.run_folder(run))) and not kept


def _passed(place: Workdir, run: config.Run, epoch: int | None) -> bool:
    """Say whether a run was trained beyond an epoch without a snapshot of it: it has a checkpoint of a later step."""
    folder = place.run_folder(run)
    measured = place.weights_folder(run) != folder
    if measured or not epoch or epoch in results.kept_epochs(folder):
        return False
    rows = results.read_rows(folder / results.CURVES)
    then = next((row for row in rows if row["epoch"] >= epoch), None)
    newest = max(results.checkpoint_steps(folder), default=0)
    return then is not None and newest >= then["step"]


def _start_lost(place: Workdir, run: config.Run) -> bool:
    """Say whether the weights with which a run begins are gone and do not come by themselves."""
    if run.donor is None:
        return False
    epoch = run.base.start.epoch
    if epoch in (0, *results.kept_epochs(place.run_folder(run.donor))):
        return False
    return _lost(place, run.donor) or _passed(place, run.donor, epoch)


def _forget(place: Workdir, item: items.Item) -> None:
    folder = place.run_folder(item.run)
    found = results.points(folder)
    found[item.epoch].pop(item.task.name, None)
    results.write_points(folder, found)


def _set_aside(place: Workdir, run: config.Run) -> str:
    folder = place.run_folder(run)
    names = (folder.with_name(f"{folder.name}.before-{i}") for i in itertools.count())
    target = folder.rename(next(name for name in names if not name.exists()))
    return f"{run.name}: weights that are needed are not here any more; it is computed again, the old results are in {target}"
