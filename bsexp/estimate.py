"""What a study of the paper would cost where its data are not there, or the time is not: nothing of it is run."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from bsexp import door, dry_run, environment, keskar2017, study, workshop
from bsexp.data import sources
from bsexp.training import footprint, mesh, recipe


def plan(settings: Mapping[str, Any]) -> door.Plan:
    """Open a study on a data set of the paper, by the paper's sizes."""
    known = keskar2017.DATA[settings["data"]["name"]]
    catalogue = dataclasses.replace(
        study.catalogue(), training_examples=lambda _data: known.train
    )
    return door.open_study(settings, (), catalogue)


def estimate(opened: door.Plan) -> dict[str, Any]:
    """Return the floating-point operations of a study's compiled updates and of its measurements, and this machine's rate.

    Args:
        opened: from `plan`.

    Returns:
        ``{"names", "runs", "flops", "machine": {"cpu", "cores", "rate"}}``: names of the runs, their number, operations,
        and operations a second that training reaches here, about.
    """
    name = opened.study.data.name
    known = keskar2017.DATA[name]
    found = sources.Description(
        name, "", known.train, known.test, known.shape, known.classes
    )
    here = environment.describe()
    return {
        "names": [run.name for run in opened.runs],
        "runs": len(opened.runs),
        "flops": _training(opened, found) + _measuring(opened, found),
        "machine": {
            "cpu": here["cpu"],
            "cores": here["cores"],
            "rate": dry_run.EFFICIENCY * dry_run.matmul_rate(),
        },
    }


def _training(opened: door.Plan, found: sources.Description) -> float:
    shapes = collections.Counter(recipe.shape(run) for run in opened.runs)
    runs = {recipe.shape(run): run for run in opened.runs}
    flops = 0.0
    for shape, run in runs.items():
        model = workshop.build_model(
            run.base.model, found.image_shape, found.num_classes
        )
        subject = footprint.Subject(run, model, found, mesh.Layout(1, 1, 1))
        flops += shapes[shape] * footprint.flops(subject)
    return flops


def _measuring(opened: door.Plan, found: sources.Description) -> float:
    return sum(
        item.task.cost * dry_run.forward_flops(found, item.run.base.model)
        for item in study.wanted(opened, found)
    )
