"""Stand-ins for data sets that not everyone may have: the same shape and size, drawn by a seeded teacher.

A class is a point in 16 dimensions. An example of it is a point scattered round that one, seen through a random
network with one hidden layer, and noise. The scatter is such that neighbouring classes overlap: labels cannot be
told from inputs beyond what ``best_accuracy`` says, and a network that fits all of its training examples has
learnt some of them by heart. Nothing measured on these says anything of the data that they stand in for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bsexp.data.preparation import writing

VERSION = "1.0.0"
SEED = 2017
LATENT = 16
HIDDEN = 256
NOISE = 0.3  # of a standard deviation of the inputs
BLOCK = 4_096  # examples drawn at once, from a seed of their own
SPLIT_STREAM = {"train": 1, "test": 2}
TEACHER_STREAM = 0

MARK = "Synthetic stand-in"


class StandIn(NamedTuple):
    """A synthetic data set.

    Attributes:
        content: what is written.
        counts: split to its number of examples.
        scatter: standard deviation round a class's point; the points have 1.
    """

    content: writing.Content
    counts: dict[str, int]
    scatter: float


class Teacher(NamedTuple):
    """What all examples of a stand-in share: float32 arrays.

    Attributes:
        classes: [K, 16], a point per class.
        hidden: [16, 256].
        output: [256, D].
    """

    classes: np.ndarray
    hidden: np.ndarray
    output: np.ndarray


def _content(name: str, like: str, **fields: object) -> writing.Content:
    return writing.Content(
        name=name,
        version=VERSION,
        description=f"{MARK} for {like}: the same shape, drawn by a seeded random network. It is not that data.",
        homepage="https://arxiv.org/abs/1609.04836",
        license="Apache-2.0, as the program that draws it",
        citation="",
        synthetic=True,
        **fields,
    )


# Sizes of TIMIT: Keskar et al. 2017, Table 1 and Appendix A (arXiv:1609.04836).
TIMIT_LIKE = StandIn(
    _content(
        "timit_like",
        "TIMIT",
        shape=(360,),
        dtype=np.float32,
        num_classes=1_973,
        megabytes=1_600,
    ),
    {"train": 721_329, "test": 310_621},
    scatter=0.75,
)
CIFAR100_LIKE = StandIn(
    _content(
        "cifar100_like",
        "CIFAR-100",
        shape=(32, 32, 3),
        dtype=np.uint8,
        num_classes=100,
        megabytes=400,
    ),
    {"train": 50_000, "test": 10_000},
    scatter=1.0,
)
STAND_INS = {each.content.name: each for each in (TIMIT_LIKE, CIFAR100_LIKE)}


def resized(stand_in: StandIn, train: int) -> StandIn:
    """Return the stand-in with other numbers of examples, test in proportion, and ``_<train>`` after its name.

    Its examples are the first ones of a larger one.
    """
    sizes = stand_in.counts
    test = max(1, round(train * sizes["test"] / sizes["train"]))
    name = f"{stand_in.content.name}_{train}"
    return stand_in._replace(
        content=stand_in.content._replace(name=name),
        counts={"train": train, "test": test},
    )


def prepare(stand_in: StandIn, root: Path) -> Path:
    """Write a stand-in below ``root`` unless it is there, and return its folder; raises as ``writing.prepare``."""
    return writing.prepare(
        stand_in.content, lambda split: examples(stand_in, split), root
    )


def examples(stand_in: StandIn, split: str) -> Iterator[tuple[np.ndarray, int]]:
    """Draw a split; its first examples do not depend on how many there are."""
    content = stand_in.content
    drawn = teacher(content)
    for first in range(0, stand_in.counts[split], BLOCK):
        random = np.random.default_rng((SEED, SPLIT_STREAM[split], first))
        labels, points = draw(drawn, stand_in.scatter, random)
        inputs = look(drawn, points, random).reshape(BLOCK, *content.shape)
        if content.dtype == np.uint8:
            # Grey in the middle, and three standard deviations within the range of a byte.
            inputs = np.clip(np.round(128 + 40 * inputs), 0, 255)
        number = min(BLOCK, stand_in.counts[split] - first)
        yield from zip(
            inputs[:number].astype(content.dtype), labels[:number], strict=True
        )


def teacher(content: writing.Content) -> Teacher:
    """Draw what all examples share."""
    random = np.random.default_rng((SEED, TEACHER_STREAM))
    sizes = (
        (content.num_classes, LATENT),
        (LATENT, HIDDEN),
        (HIDDEN, int(np.prod(content.shape))),
    )
    return Teacher(*(random.standard_normal(size, np.float32) for size in sizes))


def draw(
    shared: Teacher, scatter: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the labels of a block, all equally likely, and the points scattered round their classes' points."""
    labels = random.integers(len(shared.classes), size=BLOCK)
    points = shared.classes[labels] + scatter * random.standard_normal(
        (BLOCK, LATENT), np.float32
    )
    return labels, points


def look(
    shared: Teacher, points: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Return what is seen of points [B, 16]: tanh(points H / 4) O / 16 and noise, [B, D]."""
    hidden = np.tanh(points @ shared.hidden / np.sqrt(LATENT))
    seen = hidden @ shared.output / np.sqrt(HIDDEN)
    return seen + NOISE * random.standard_normal(seen.shape, np.float32)


def best_accuracy(stand_in: StandIn) -> float:
    """Return the accuracy on one block of whoever knows the classes' points and sees the points without noise.

    All classes are equally likely, so that the class with the nearest point is the best guess; no classifier of
    the inputs is better.
    """
    shared = teacher(stand_in.content)
    labels, points = draw(shared, stand_in.scatter, np.random.default_rng(SEED))
    score = points @ shared.classes.T - (shared.classes**2).sum(axis=1) / 2
    return float((score.argmax(axis=1) == labels).mean())
