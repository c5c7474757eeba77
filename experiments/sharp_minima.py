"""Do large batches find sharper minima, and do these generalise worse?

Source: Keskar, Mudigere, Nocedal, Smelyanskiy, Tang, "On Large-Batch Training for Deep Learning:
Generalization Gap and Sharp Minima", ICLR 2017, arXiv:1609.04836; Tables 2 to 4, Figures 2, 3 and 7.

F1 (784, five layers of 512 units with batch norm and ReLU, 10) is trained on MNIST with ADAM, learning
rate 1e-3, once with small batches (SB, 256) and once with large ones (LB, 10 % of the training set), from
the same uniformly distributed random start, for 20 epochs, as the authors' released code trains C1 to C4. At both minima:
accuracy, sharpness (10 iterations of L-BFGS-B, and ten steps of projected sign ascent), Hessian trace and
largest eigenvalue, and the straight line between them. Every number names its batch-norm mode: `running`
averages, or the statistics of the `batch` as in the released code's accuracies. In mode running, sharpness is that of the full
training loss as in the paper; in mode batch, and for the Hessian and the line, that of 10 000 examples, to keep to a
quarter of an hour. On all 60 000 the paper's search finds nearly as much if it maximises phi; with the loss it hardly leaves the
LB minima: see README.

    python -m bsexp.main --config=experiments/sharp_minima.py          15 minutes on two CPU cores of 390 GFLOP/s, 30 of 140
    python -m bsexp.main --config=experiments/sharp_minima.py:smoke    under a minute: does it run here?

Expected: test accuracy 98.3 % (SB) and 98.0 % (LB); sharpness at epsilon 1e-3 in mode running about 50 times
higher for LB. The smoke study is too short and too small to answer the question.

With the name of a network, F1, F2, C1, C2, C3 or C4, the same study goes further: longer, with Table 4 (the random subspace)
and, for F1, five seeds. The data sets are prepared with scripts/prepare_data.py; TIMIT is licensed.

    python -m bsexp.main --config=experiments/sharp_minima.py:F1       an hour and a quarter on two CPU cores
    python -m bsexp.main --config=experiments/sharp_minima.py:C1       an hour and three quarters

F1_fashion asks the same of another data set, which the paper has not. What a laptop cannot do in full it can begin: F2_like (a
synthetic stand-in for TIMIT, 60 000 frames), C2_small (2 000 images of CIFAR-10), C3_like and C4_like (a synthetic stand-in for
CIFAR-100), a few steps each. These show that the command works and reproduce nothing.

    python scripts/prepare_data.py timit_like --examples=60000
    python -m bsexp.main --config=experiments/sharp_minima.py:F2_like  also C2_small, C3_like, C4_like; --dry_run estimates
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from bsexp import keskar2017

# Network -> epochs and seeds. The paper trains until the loss stops to improve and does not say how long that took.
LENGTHS = {
    "F1": (40, 5),
    "F2": (20, 1),
    "C1": (30, 3),
    "C2": (30, 3),
    "C3": (30, 3),
    "C4": (30, 3),
}

SMOKE = {
    "sharpness": {
        "running_examples": 1_000,
        "batch_examples": 1_000,
        "lbfgsb_iterations": 3,
        "ascent_steps": 3,
    },
    "hessian": {"examples": 1_000, "trace_probes": 4},
    "path": {"examples": 1_000, "points": 7},
}
# Table 4 with standard normal columns: with columns of length 1, phi is of the order of 1e-5 at F1's LB minimum, where the paper has 9.
SUBSPACE = {"subspace": 100, "subspace_unit_columns": False}
BOTH_PATHS = {"shapes": ("linear", "arc")}
FULLY_CONNECTED = {"sharpness": SUBSPACE, "path": BOTH_PATHS}
# A gradient of C1 takes six times F1's, and F2's has 1 973 classes: on fewer examples, so that measuring does not take longer than training.
FEWER_EXAMPLES = {
    "sharpness": {
        **SUBSPACE,
        "running_examples": 10_000,
        "batch_examples": 5_000,
        "guide_examples": 2_000,
    },
    "hessian": {"examples": 2_000},
    "path": {**BOTH_PATHS, "examples": 5_000},
}
# An update of C2 at 256 examples takes two CPU cores many seconds: as the authors measured, and little of it.
FEW = {
    "modes": ("batch",),
    "probes": ("evaluation", "distance", "hessian", "sharpness"),
    "sharpness": {
        **SUBSPACE,
        "subspace": 10,
        "epsilons": (1e-3,),
        "batch_examples": 200,
        "guide_examples": 200,
        "lbfgsb_iterations": 2,
        "ascent_steps": 2,
    },
    "hessian": {"examples": 200, "trace_probes": 2, "lanczos_iterations": 5},
    "statistics_batch": 200,
}
# L-BFGS-B was handed the loss when the committed results of these were measured.
LOSS_MAXIMISED = {"F1_fashion", "F2_like", "C2_small", "C3_like", "C4_like"}
# Argument -> network, data set, epochs, seeds, what is measured and, of the few-step ones, training examples (0: all) and updates.
VARIANTS = {
    "F1_fashion": ("F1", "fashion_mnist", 40, 3, FULLY_CONNECTED, 0, 0),
    "F2_like": ("F2", "timit_like_60000", 5, 1, FEWER_EXAMPLES, 0, 0),
    "C2_small": ("C2", "cifar10", 5, 1, FEW, 2_000, 10),
    "C3_like": ("C3", "cifar100_like_10000", 5, 1, FEW, 2_000, 10),
    "C4_like": ("C4", "cifar100_like_10000", 5, 1, FEW, 2_000, 10),
}


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty, ``smoke``, the name of a network or one of VARIANTS."""
    if arg not in {"", "smoke", *LENGTHS, *VARIANTS}:
        raise ValueError(
            f"unknown argument {arg!r}; valid: smoke, {', '.join((*LENGTHS, *VARIANTS))}"
        )
    config = _variant(*VARIANTS[arg]) if arg in VARIANTS else _of_paper(arg)
    if arg in LOSS_MAXIMISED:
        config.measure.sharpness.lbfgsb_maximises = "loss"
    return config


def _of_paper(arg: str) -> ConfigDict:
    """Return the study of a network on the paper's data."""
    network = arg if arg in LENGTHS else "F1"
    spaces = ("full", "subspace") if arg in LENGTHS else ("full",)
    row = keskar2017.NETWORKS[network]
    config = ConfigDict()
    config.question = (
        "Do large batches find sharper minima, and do these generalise worse?"
    )
    config.source = (
        f"Keskar et al. 2017, arXiv:1609.04836: {network} on {row.data.upper()}"
    )
    config.data = {"name": row.data}
    config.model = {"name": network}
    config.batch = {"size": 256}
    config.groups = {"SB": {}, "LB": {"batch": {"size": "10%"}}}
    config.compare = ("SB", "LB")
    config.reference = {
        "data": row.data,
        "model": network,
        "values": keskar2017.values(network, spaces),
    }
    if arg == "smoke":
        config.seeds = 1
        config.train = {"epochs": 2}
        config.measure = SMOKE
    if arg in LENGTHS:
        epochs, config.seeds = LENGTHS[arg]
        config.train = {"epochs": epochs}
        config.measure = FULLY_CONNECTED if arg[0] == "F" else FEWER_EXAMPLES
    return config


def _variant(
    network: str,
    data: str,
    epochs: int,
    seeds: int,
    measure: Mapping[str, Any],
    examples: int,
    steps: int,
) -> ConfigDict:
    """Return the study of a network on other data than the paper's, or with few steps."""
    config = _of_paper(network)
    config.source = (
        f"Keskar et al. 2017, arXiv:1609.04836, with other data: {network} on {data}"
    )
    config.data = {"name": data}
    config.train = {"epochs": epochs}
    config.seeds = seeds
    config.measure = measure
    if examples:
        config.data.train_size = examples
        config.batch.size = 50  # 256 would be above LB's tenth of so few
        config.train.steps = steps
        config.source += f", {examples} training examples, {steps} updates"
    return config
