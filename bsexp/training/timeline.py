"""How long a run is, epoch by epoch: batch sizes that may grow, and limits in epochs, updates or examples."""

from collections.abc import Iterator
from typing import NamedTuple

from bsexp import config
from bsexp.bounds import FieldError
from bsexp.data import batches


class Updates(NamedTuple):
    """Consecutive updates of an epoch: ``first`` to ``last`` - 1, at batch size B."""

    epoch: int
    batch: int
    first: int
    last: int


class Epoch(NamedTuple):
    """One pass over the training set, or what a limit leaves of it.

    Attributes:
        number: counted from 0.
        batch: batch size B of its updates.
        first: updates of the run before it.
        seen: examples seen before it.
        steps: its own updates.
        whole: updates of the whole pass.
    """

    number: int
    batch: int
    first: int
    seen: int
    steps: int
    whole: int

    @property
    def end(self) -> int:
        """Updates of the run after it."""
        return self.first + self.steps

    @property
    def seen_after(self) -> int:
        """Examples seen after it."""
        return self.seen + self.steps * self.batch

    def next_evaluation(self, done: int, number: int) -> int:
        """Return after which of its updates, beyond ``done``, the next of ``number`` evenly spaced evaluations is due.

        At the end of what a limit leaves of it there is one, too.
        """
        k = done * number // self.whole + 1
        return min(-(-k * self.whole // number), self.steps)

    def updates(self, first: int, last: int) -> Updates:
        """Return its updates ``first`` to ``last`` - 1."""
        return Updates(self.number, self.batch, first, last)


def timeline(
    batch: config.Batch, size: int, train: config.Train, examples: int
) -> tuple[Epoch, ...]:
    """List the epochs of a run.

    The batch size is multiplied by ``batch.growth`` after each of ``batch.growth_epochs`` epochs (Smith et al. 2018,
    arXiv:1711.00489). The run ends at the first of the limits that ``train`` sets in epochs, updates and examples.

    Args:
        batch: how the batch size grows.
        size: B of the first epoch.
        train: the limits.
        examples: N, of the training set.

    Raises:
        bounds.FieldError: a batch size on the way is above N.
    """
    return tuple(_epochs(batch, size, train, examples))


def whole_epochs(base: config.Base, size: int, examples: int) -> int:
    """Return how many epochs a run trains without cutting one off; the arguments are those of `timeline`."""
    listed = timeline(base.batch, size, base.train, examples)
    return sum(each.steps == each.whole for each in listed)


def _epochs(
    batch: config.Batch, size: int, train: config.Train, examples: int
) -> Iterator[Epoch]:
    first = seen = 0
    for number in range(train.epochs):
        size *= batch.growth ** (number in batch.growth_epochs)
        if size > examples:
            raise FieldError(
                "batch.growth_epochs",
                f"after {number} epochs a batch has {size} examples, more than the {examples} of the training set",
            )
        whole = batches.steps_per_epoch(examples, size)
        left = [whole]
        if train.steps:
            left.append(train.steps - first)
        if train.examples:
            # The update that reaches the limit is the last one.
            left.append(-(-(train.examples - seen) // size))
        steps = min(left)
        if steps <= 0:
            return
        yield Epoch(number, size, first, seen, steps, whole)
        first, seen = first + steps, seen + steps * size
