"""Snapshots: the states of a run after chosen epochs, which are kept for good so that they can be measured."""

from pathlib import Path

from bsexp import results
from bsexp.training import checkpoint, interruption, step


def opened(
    folder: Path, processes: frozenset[int] | None = None
) -> checkpoint.Checkpoints:
    """Open a run's snapshots, numbered by the epochs before them; nothing is ever deleted.

    Args:
        folder: of the run.
        processes: that open it together; None: this one alone.
    """
    return checkpoint.Checkpoints(folder / results.SNAPSHOTS, None, processes)


def restore(folder: Path, epoch: int, fresh: step.State) -> step.State | None:
    """Return the state of a run after an epoch, or None where it was not kept, or is damaged.

    Args:
        folder: of the run.
        epoch: number of epochs before the state; 0 is the start, which needs no snapshot.
        fresh: the run's state before the first update.
    """
    if epoch == 0:
        return fresh
    if epoch not in results.kept_epochs(folder):
        return None
    with interruption.Deferred(), opened(folder) as snapshots:
        return snapshots.restore_step(epoch, fresh)
