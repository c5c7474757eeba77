"""What a study of the paper would cost where its data are not there, or the time is not: nothing of it is run."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from bsexp import config, door, dry_run, environment, keskar2017, study, workshop
from bsexp.data import sources
from bsexp.training import footprint, mesh, recipe

# Of the way in which the rate is found: estimates of another are made again. 2: the rate of timed updates.
VERSION = 2


def plan(settings: Mapping[str, Any]) -> door.Plan:
    """Open a study on a data set of the paper, by the paper's sizes."""
    name = settings.get("data", {}).get("name", config.Data.name)
    known = keskar2017.DATA[name]
    catalogue = dataclasses.replace(
        study.catalogue(), training_examples=lambda _data: known.train
    )
    return door.open_study(settings, (), catalogue)


def estimate(opened: door.Plan) -> dict[str, Any]:
    """Return the floating-point operations of a study's compiled updates and of its measurements, and their rate here.

    Args:
        opened: from `plan`.

    Returns:
        ``{"version", "names", "runs", "flops", "machine": {"cpu", "cores", "rate"}}``: `VERSION`, names of the runs, their
        number, operations, and operations a second that updates of its networks reach here, timed.
    """
    name = opened.study.data.name
    known = keskar2017.DATA[name]
    found = sources.Description(
        name, "", known.train, known.test, known.shape, known.classes
    )
    here = environment.describe()
    work = [*_training(opened, found), *_measuring(opened, found)]
    flops = sum(each for each, _ in work)
    return {
        "version": VERSION,
        "names": [run.name for run in opened.runs],
        "runs": len(opened.runs),
        "flops": flops,
        "machine": {
            "cpu": here["cpu"],
            "cores": here["cores"],
            "rate": flops / sum(each / rate for each, rate in work),
        },
    }


def _training(
    opened: door.Plan, found: sources.Description
) -> Iterator[tuple[float, float]]:
    """Yield the operations of the updates of all runs of a shape, and their rate."""
    shapes = collections.Counter(recipe.shape(run) for run in opened.runs)
    runs = {recipe.shape(run): run for run in opened.runs}
    for shape, run in runs.items():
        model = workshop.build_model(
            run.base.model, found.image_shape, found.num_classes
        )
        subject = footprint.Subject(run, model, found, mesh.Layout(1, 1, 1))
        rate = dry_run.rate(found, run.base.model, run.batch_size)
        yield shapes[shape] * footprint.flops(subject), rate


def _measuring(
    opened: door.Plan, found: sources.Description
) -> Iterator[tuple[float, float]]:
    """Yield the operations of each measurement, and their rate."""
    for item in study.wanted(opened, found):
        network = item.run.base.model
        flops = item.task.cost * dry_run.forward_flops(found, network)
        yield flops, dry_run.rate(found, network)
