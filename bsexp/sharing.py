"""Runs that another study of the same collection has trained: they are taken over, not trained again."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from bsexp import config, door, items, results
from bsexp.workdir import Workdir


def take_over(
    place: Workdir, plan: door.Plan, runs: Iterable[config.Run]
) -> Iterator[str]:
    """Copy runs that have not begun here and ended there, with their evidence; say for each from where.

    A run's name holds the hash of all that decides its numbers, so runs of one name are one run. Its measurements stay:
    each study measures with settings of its own.

    Args:
        place: the study's folder. Only one in a collection's folder takes anything over: elsewhere an empty folder
            means that all is to be computed.
        plan: the study.
        runs: those that will be needed.
    """
    others = [] if plan.study.run else _others(place.folder)
    for run in runs:
        if place.run_folder(run).exists():
            continue
        epochs = items.kept_epochs(plan, {run.group})
        for study in others:
            source = study / "runs" / run.name
            if _ended(source) and {*epochs} <= {*results.kept_epochs(source)}:
                _copy(source, place.run_folder(run), epochs, study.name)
                yield f"{run.group} seed {run.seed}: trained by {study.name} already, taken over from {source}"
                break


def _others(folder: Path) -> list[Path]:
    """List the folders of the collection's other studies."""
    collection = folder.parent / results.COLLECTION
    if not collection.exists():
        return []
    studies = results.read_json(collection, "studies")["studies"]
    others = [folder.parent / each["folder"] for each in studies]
    return [other for other in others if other.name != folder.name]


def _ended(run: Path) -> bool:
    status = run / "status.json"
    if not (status.exists() and results.has_weights(run)):
        return False
    return results.read_json(status, "state")["state"] in results.ENDED


def _copy(source: Path, target: Path, epochs: tuple[int, ...], study: str) -> None:
    # NOTE: a run is there whole or not at all, whenever this is killed.
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(source / results.CURVES, partial / results.CURVES)
    shutil.copytree(source / "checkpoints", partial / "checkpoints")
    for epoch in epochs:
        kept = Path(results.SNAPSHOTS, str(epoch))
        shutil.copytree(source / kept, partial / kept)
    evidence = results.read_json(source / "env.json", "seconds")
    seconds = {**evidence["seconds"], "measuring": 0.0}
    results.write_json(
        partial / "env.json", {**evidence, "trained_by": study, "seconds": seconds}
    )
    partial.rename(target)
