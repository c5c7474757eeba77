"""Runs that another study of the same collection has trained: they are taken over, not trained again."""

import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from bsexp import config, door, items, results
from bsexp.data import sources
from bsexp.workdir import Workdir


def take_over(
    place: Workdir, plan: door.Plan, runs: Iterable[config.Run]
) -> Iterator[str]:
    """Copy runs that have not begun here and ended there, with their evidence; say for each from where.

    A run's name holds the hash of all that decides its numbers, so runs of one name are one run. Its measurements stay:
    each study measures with settings of its own. A run that begins with another's weights is trained here, so that it
    and that one belong together.

    Args:
        place: the study's folder. Only one in a collection's folder takes anything over: elsewhere an empty folder
            means that all is to be computed.
        plan: the study.
        runs: those that will be needed.
    """
    others = [] if plan.study.run else _others(place.folder)
    for run in runs:
        if _begun(place.run_folder(run)) or (run.donor and run.base.start.epoch):
            continue
        epochs = items.kept_epochs(plan, {run.group})
        data = run.base.data
        digest = sources.digest(data.name, data.dir)
        source = next(
            (
                there
                for there in (study / "runs" / run.name for study in others)
                if _serves(there, epochs)
                and results.data_digest(there, data.name) in ("", digest)
            ),
            None,
        )
        if source:
            trained_by = _copy(source, place.run_folder(run), epochs)
            yield f"{run.group} seed {run.seed}: trained by {trained_by} already, taken over from {source}"


def _begun(run: Path) -> bool:
    """Say whether a run has been trained here, or has been set aside so that it is computed again."""
    return run.exists() or any(run.parent.glob(f"{run.name}.before-*"))


def _others(folder: Path) -> list[Path]:
    """List the folders of the collection's other studies."""
    collection = folder.parent / results.COLLECTION
    if not collection.exists():
        return []
    studies = results.read_json(collection, "studies")["studies"]
    others = [folder.parent / each["folder"] for each in studies]
    return [other for other in others if other.name != folder.name]


def _serves(run: Path, epochs: tuple[int, ...]) -> bool:
    """Say whether a run has ended and its weights are there, with those after each of ``epochs`` that it came to."""
    end = results.end(run)
    passed = {each for each in epochs if each <= end}
    whole = passed <= {*results.kept_epochs(run)}
    return math.isfinite(end) and results.has_weights(run) and whole


def _copy(source: Path, target: Path, epochs: tuple[int, ...]) -> str:
    """Copy a run; return the name of the study that trained it."""
    # NOTE: a run is there whole or not at all, whenever this is killed.
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(source / results.CURVES, partial / results.CURVES)
    shutil.copytree(source / results.CHECKPOINTS, partial / results.CHECKPOINTS)
    for epoch in {*epochs} & {*results.kept_epochs(source)}:
        kept = Path(results.SNAPSHOTS, str(epoch))
        shutil.copytree(source / kept, partial / kept)
    found = results.read_json(source / "env.json", "seconds")
    evidence = {"trained_by": source.parent.parent.name, **found}
    evidence["seconds"] = {**found["seconds"], "measuring": 0.0}
    results.write_json(partial / "env.json", evidence)
    partial.rename(target)
    return evidence["trained_by"]
