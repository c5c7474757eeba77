"""Which examples of the training split are trained on, and which are kept for validation."""

from typing import NamedTuple

import numpy as np

from bsexp import bounds, counts

STREAM = 2  # as in labels


class Sizes(NamedTuple):
    """Numbers of examples taken from the training split."""

    train: int
    validation: int


class Subsets(NamedTuple):
    """Indices into the training split, int64, ascending, none in both."""

    train: np.ndarray
    validation: np.ndarray


def sizes(number: int, validation: int | str, train: int | str) -> Sizes:
    """Resolve the sizes: of validation out of all N examples, of training out of what that leaves.

    Args:
        number: N, examples of the training split.
        validation: a number, or a percentage of N; 0 for none.
        train: a number, or a percentage of what validation leaves.

    Raises:
        FieldError: they do not fit into N, or a percentage comes to no example.
    """
    kept = counts.resolve(validation, number)
    if validation != 0 and not 0 < kept < number:
        raise bounds.FieldError(
            "data.validation_size",
            f"is {kept} examples; must be 1 to {number - 1}, so that the training split's {number} "
            "leave one to train on, or 0 for none",
        )
    taken = counts.resolve(train, number - kept)
    if not 0 < taken <= number - kept:
        left = f", what {kept} for validation leave" if kept else ""
        raise bounds.FieldError(
            "data.train_size",
            f"is {taken} examples; must be 1 to {number - kept}{left} of the training split's {number}",
        )
    return Sizes(taken, kept)


def split(number: int, validation: int | str, train: int | str, seed: int) -> Subsets:
    """Draw validation and training examples: the first ones of one permutation, and those that follow them.

    Both come back in the order of the split, so that all of it is the split itself. At one validation size a
    larger training set holds a smaller one.

    Args:
        number: N, examples of the training split.
        validation: as in ``sizes``.
        train: as in ``sizes``.
        seed: of the permutation.

    Raises:
        FieldError: as ``sizes``.
    """
    found = sizes(number, validation, train)
    order = np.random.default_rng((seed, STREAM)).permutation(number)
    last = found.validation + found.train
    return Subsets(
        train=np.sort(order[found.validation : last]),
        validation=np.sort(order[: found.validation]),
    )
