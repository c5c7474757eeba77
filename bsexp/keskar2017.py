"""The published numbers of Keskar et al. 2017, arXiv:1609.04836: Tables 1 to 4, mean and standard deviation of 5 runs."""

from typing import NamedTuple

Number = tuple[float, float]  # mean, standard deviation


class Network(NamedTuple):
    """One row of each of the paper's tables, and the data set it was trained on (Table 1).

    Attributes:
        data: data set by its TFDS name.
        accuracy: in percent: training SB, training LB, test SB, test LB (Table 2).
        sharpness: in the full space: SB and LB at epsilon 1e-3, SB and LB at 5e-4 (Table 3).
        subspace: the same in a random subspace of dimension 100 (Table 4).
    """

    data: str
    accuracy: tuple[Number, Number, Number, Number]
    sharpness: tuple[Number, Number, Number, Number]
    subspace: tuple[Number, Number, Number, Number]


class Data(NamedTuple):
    """A data set of the paper (Table 1, Appendix A): numbers of examples, shape of one, number of classes."""

    train: int
    test: int
    shape: tuple[int, ...]
    classes: int


# TIMIT's 1 973 classes are to be checked against the paper.
DATA = {
    "mnist": Data(60_000, 10_000, (28, 28, 1), 10),
    "timit": Data(721_329, 310_621, (360,), 1_973),
    "cifar10": Data(50_000, 10_000, (32, 32, 3), 10),
    "cifar100": Data(50_000, 10_000, (32, 32, 3), 100),
}

NETWORKS = {
    "F1": Network(
        "mnist",
        ((99.66, 0.05), (99.92, 0.01), (98.03, 0.07), (97.81, 0.07)),
        ((1.23, 0.83), (205.14, 69.52), (0.61, 0.27), (42.90, 17.14)),
        ((0.11, 0.00), (9.22, 0.56), (0.05, 0.00), (9.17, 0.14)),
    ),
    "F2": Network(
        "timit",
        ((99.99, 0.03), (98.35, 2.08), (64.02, 0.2), (59.45, 1.05)),
        ((1.39, 0.02), (310.64, 38.46), (0.90, 0.05), (93.15, 6.81)),
        ((0.29, 0.02), (23.63, 0.54), (0.05, 0.00), (6.28, 0.19)),
    ),
    "C1": Network(
        "cifar10",
        ((99.89, 0.02), (99.66, 0.2), (80.04, 0.12), (77.26, 0.42)),
        ((28.58, 3.13), (707.23, 43.04), (7.08, 0.88), (227.31, 23.23)),
        ((2.18, 0.23), (137.25, 21.60), (0.71, 0.15), (29.50, 7.48)),
    ),
    "C2": Network(
        "cifar10",
        ((99.99, 0.04), (99.99, 0.01), (89.24, 0.12), (87.26, 0.07)),
        ((8.68, 1.32), (925.32, 38.29), (2.07, 0.86), (175.31, 18.28)),
        ((0.95, 0.34), (25.09, 2.61), (0.31, 0.08), (5.82, 0.52)),
    ),
    "C3": Network(
        "cifar100",
        ((99.56, 0.44), (99.88, 0.30), (49.58, 0.39), (46.45, 0.43)),
        ((29.85, 5.98), (258.75, 8.96), (8.56, 0.99), (105.11, 13.22)),
        ((17.02, 2.20), (236.03, 31.26), (4.03, 1.45), (86.96, 27.39)),
    ),
    "C4": Network(
        "cifar100",
        ((99.10, 1.23), (99.57, 1.84), (63.08, 0.5), (57.81, 0.17)),
        ((12.83, 3.84), (421.84, 36.97), (4.07, 0.87), (109.35, 16.57)),
        ((6.05, 1.13), (72.99, 10.96), (1.89, 0.33), (19.85, 4.12)),
    ),
}

# To be checked against the paper: a mean and a deviation of Table 4 that come from a single transcription.
UNCHECKED = {
    ("F1", "LB", "sharpness/subspace/5e-4/batch/lbfgsb"),
    ("F2", "LB", "sharpness/subspace/1e-3/batch/lbfgsb"),
}

DISTANCES = (3, 10)  # between which the paper finds |x_SB - x_0| / |x_LB - x_0|


def values(
    network: str, spaces: tuple[str, ...] = ("full", "subspace")
) -> dict[str, dict[str, Number]]:
    """Return a network's published values as `config.Reference` holds them: group -> measure -> (mean, deviation).

    Accuracies become fractions. The paper does not name its batch-norm mode; the released code, which has C1 to C4 and no
    sharpness, uses the statistics of the batch for accuracies. Its search was ten iterations of L-BFGS-B, so its values stand beside ours by that search alone.
    """
    row = NETWORKS[network]
    found = {}
    for i, group in enumerate(("SB", "LB")):
        accuracies = {"train_accuracy/batch": i, "test_accuracy/batch": 2 + i}
        found[group] = {
            name: tuple(round(number / 100, 6) for number in row.accuracy[at])
            for name, at in accuracies.items()
        }
        by_space = {"full": row.sharpness, "subspace": row.subspace}
        for space in spaces:
            numbers = by_space[space]
            for epsilon, at in (("1e-3", i), ("5e-4", 2 + i)):
                found[group][f"sharpness/{space}/{epsilon}/batch/lbfgsb"] = numbers[at]
    return found
