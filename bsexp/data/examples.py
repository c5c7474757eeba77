"""The examples of a run: a data set with its training subset, validation split and label noise. Knows nothing of JAX."""

import dataclasses
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
    """Load a run's examples into memory.

    Only training labels are noisy; validation and test keep theirs.

    Raises:
        FieldError: as ``describe``.
        ValueError: as ``sources.load``.
        OSError: as ``sources.load``.
    """
    raw = sources.load(settings.name, settings.dir)
    draw = _draw(settings, len(raw.train.labels), raw.num_classes)
    train = draw.corrupt(_take(raw.train, draw.train), draw.train)
    validation = _take(raw.train, draw.validation) if len(draw.validation) else None
    return dataclasses.replace(raw, train=train, validation=validation)


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
    return Split(split.images[indices], split.labels[indices])
