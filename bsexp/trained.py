"""A trained network out of a run's folder, for work of one's own."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax

from bsexp import door, models, results, study, workshop
from bsexp.data import batches, examples


class Trained(NamedTuple):
    """A network with what a run has trained.

    Attributes:
        model: its pure functions.
        parameters: x, a pytree.
        statistics: running averages of batch norm; empty without.
    """

    model: models.Model
    parameters: Any
    statistics: Any

    def logits(self, images: jax.Array) -> jax.Array:
        """Return float32 [B, classes], batch norm by the running averages, of images, uint8 [B, H, W, C], or features."""
        inputs = batches.scale(images)
        return self.model.apply(self.parameters, self.statistics, inputs, "running")


def load(run: str | os.PathLike) -> Trained:
    """Load the network that a run ended with.

    Args:
        run: its folder, such as results/<study>/runs/<name>; its data set must be there, for the shape of an image.

    Raises:
        door.ConfigError: there is no run that was trained to its end, it has no checkpoint, or it began with the weights of another.
        results.BrokenFileError: the checkpoint of its end is not among those that are there, or damaged.

    Wrong to use while the run is trained further in another process.
    """
    plan = door.open_study({"run": str(run)}, (), study.catalogue())
    (described,) = plan.runs
    found = examples.describe(described.base.data)
    model = workshop.build_model(
        described.base.model, found.image_shape, found.num_classes
    )
    folder = Path(run)
    state = workshop.newest_state(described, folder)
    rows = results.read_rows(folder / results.CURVES)
    if not rows:
        raise results.BrokenFileError(
            f"{folder / results.CURVES} has no rows, so that its last step is not known; the command that trained it computes it again"
        )
    last = rows[-1]["step"]
    if state is None or state.step != last:
        raise results.BrokenFileError(
            f"{folder} has no whole checkpoint of its last step, {last}; the command that trained it computes it again"
        )
    return Trained(model, state.parameters, state.statistics)
