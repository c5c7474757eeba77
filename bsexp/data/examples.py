"""The examples of a run: a data set with its training subset, validation split and label noise. Knows nothing of JAX."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bsexp import config
from bsexp.data import labels, sources, subsets
from bsexp.data.sources import Dataset, Description, Split


def describe(settings: config.Data) -> Description:
    """Describe what ``load`` would return, without reading an example.

    Raises:
        FieldError: a size does not fit the training split.
        ValueError: as ``sources.describe``.
    """
    found = sources.describe(settings.name, settings.dir)
    sizes = subsets.sizes(
        found.train_examples, settings.validation_size, settings.train_size
    )
    return dataclasses.replace(
        found, train_examples=sizes.train, validation_examples=sizes.validation
    )


def training_examples(settings: config.Data) -> int:
    """Return the number of training examples; raises as ``describe``."""
    return describe(settings).train_examples


def load(settings: config.Data) -> Dataset:
    """Load a run's examples into memory, all but training examples that are streamed: these stay on disk.

    Only training labels are noisy; validation and test keep theirs.

    Raises:
        FieldError: as ``describe``.
        ValueError: as ``sources.load``.
        OSError: as ``sources.load``.
    """
    if settings.streaming:
        return _open(settings)
    raw = sources.load(settings.name, settings.dir)
    draw = _draw(settings, len(raw.train.labels), raw.num_classes)
    train = draw.corrupt(_take(raw.train, draw.train), draw.train)
    validation = _take(raw.train, draw.validation) if len(draw.validation) else None
    return dataclasses.replace(raw, train=train, validation=validation)


class Training:
    """The training examples of a run on disk, in the order in which ``load`` has them.

    It can be read by several threads at once and pickled, as `records.Records`. Raises as ``load``.
    """

    def __init__(self, settings: config.Data) -> None:
        self._records = sources.open_split(settings.name, settings.dir, "train")
        found = sources.describe(settings.name, settings.dir)
        self._draw = _draw(settings, found.train_examples, found.num_classes)
        self.image_shape, self.dtype = found.image_shape, found.dtype
        self.image_bytes = found.image_bytes

    def __len__(self) -> int:
        return len(self._draw.train)

    def read(self, indices: Sequence[int] | np.ndarray) -> Split:
        """Read the training examples at ``indices``, each from 0 to ``len`` - 1.

        Raises:
            records.DamagedError: the records cannot be read.
        """
        chosen = self._draw.train[np.asarray(indices, np.int64)]
        return self._draw.corrupt(Split(*self._records.read(chosen)), chosen)

    def read_validation(self) -> Split | None:
        """Read the examples that were taken off for validation, None where there are none; raises as ``read``."""
        chosen = self._draw.validation
        return Split(*self._records.read(chosen)) if len(chosen) else None


def _open(settings: config.Data) -> Dataset:
    """Load validation and test, and leave the training examples on disk."""
    train = Training(settings)
    found = sources.describe(settings.name, settings.dir)
    test = sources.load_split(settings.name, settings.dir, "test")
    return Dataset(found.name, found.num_classes, train, test, train.read_validation())


class _Draw(NamedTuple):
    """Which examples of the training split serve for what, and their label noise."""

    train: np.ndarray  # indices into the training split
    validation: np.ndarray
    offsets: np.ndarray  # of all examples of the training split
    num_classes: int

    def corrupt(self, split: Split, indices: np.ndarray) -> Split:
        """Return the examples at ``indices`` of the training split with noisy labels."""
        noisy = labels.corrupt(split.labels, self.offsets[indices], self.num_classes)
        return Split(split.images, noisy)


def _draw(settings: config.Data, number: int, num_classes: int) -> _Draw:
    chosen = subsets.split(
        number, settings.validation_size, settings.train_size, settings.split_seed
    )
    # By the index in the whole split: the same example is noisy in every subset.
    offsets = labels.offsets(
        number, num_classes, settings.label_noise, settings.noise_seed
    )
    return _Draw(chosen.train, chosen.validation, offsets, num_classes)


def _take(split: Split, indices: np.ndarray) -> Split:
    if len(indices) == len(split.labels):  # ascending: all of it, as it is
        return split
    return split.read(indices)
