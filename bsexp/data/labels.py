"""Label noise: some labels replaced by another class, the same ones in every run of a noise seed."""

import numpy as np

# Random numbers of its own: the seeds of noise and split are often equal, and may not draw the same.
STREAM = 1


def offsets(number: int, num_classes: int, fraction: float, seed: int) -> np.ndarray:
    """Draw by how many classes each label moves: 0 with probability 1 - p, each of 1..K-1 with p / (K - 1).

    Symmetric noise: a label is replaced with probability p, independently of the others, and every *other* class
    is as likely as the next. So the number of replaced labels is binomial. Noise that may draw the true class
    again, as the random labels of arXiv:1611.03530, is this one with p (K - 1) / K.

    An example's draw depends on (seed, its index) alone: a larger p replaces the labels that a smaller one does,
    by the same classes, and more; a larger number of examples changes nothing for the first ones.

    Args:
        number: N, examples of the training split, before a subset is taken.
        num_classes: K.
        fraction: p, from 0 to 1.
        seed: of the noise.

    Returns:
        int32 [N], for ``corrupt``.

    Raises:
        ValueError: there is no other class.
    """
    if fraction and num_classes < 2:
        raise ValueError(f"{num_classes} class leaves no other one for a wrong label")
    # Two numbers an example, in the order of the index: the first decides whether, the second to what.
    drawn = np.random.default_rng((seed, STREAM)).random((number, 2))
    other = 1 + (drawn[:, 1] * (num_classes - 1)).astype(np.int32)
    return np.where(drawn[:, 0] < fraction, other, 0).astype(np.int32)


def corrupt(labels: np.ndarray, offset: np.ndarray, num_classes: int) -> np.ndarray:
    """Return (labels + offset) mod K, int32 [n], with the offsets of the same examples."""
    return ((labels + offset) % num_classes).astype(np.int32)
