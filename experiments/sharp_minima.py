"""Do large batches find sharper minima, and do these generalise worse?

Source: Keskar, Mudigere, Nocedal, Smelyanskiy, Tang, "On Large-Batch Training for Deep Learning:
Generalization Gap and Sharp Minima", ICLR 2017, arXiv:1609.04836; network F1, Tables 2 and 3, Figures 2 and 3.

F1 (784, five layers of 512 units with batch norm and ReLU, 10) is trained on MNIST with ADAM, learning
rate 1e-3, once with small batches (SB, 256) and once with large ones (LB, 10 % of the training set), from
the same uniformly distributed random start, for 20 epochs as in the authors' released code. At both minima:
accuracy, sharpness (10 iterations of L-BFGS-B, and ten steps of projected sign ascent), Hessian trace and
largest eigenvalue, and the straight line between them. Every number names its batch-norm mode: `running`
averages, or the statistics of the `batch` as in the released code. In mode running, sharpness is that of the full
training loss as in the paper; in mode batch, and for the Hessian and the line, that of 10 000 examples, to keep to a
quarter of an hour. On all 60 000, mode batch, the paper's search hardly leaves the LB minima: see README.

    python -m bsexp.main --config=experiments/sharp_minima.py          about 15 minutes on two CPU cores
    python -m bsexp.main --config=experiments/sharp_minima.py:smoke    under a minute: does it run here?

Expected: test accuracy 98.1 % (SB) and 97.9 % (LB); sharpness at epsilon 1e-3 in mode running about 100 times
higher for LB. The smoke study is too short and too small to answer the question.
"""

from ml_collections import ConfigDict

# Tables 2 and 3 of the paper: mean and standard deviation of 5 runs, accuracies as fractions. The paper does not
# name the batch-norm mode of its sharpness; the released code uses the statistics of the batch. Its search was
# ten iterations of L-BFGS-B, so these values stand beside ours by that search alone.
PAPER = {
    "SB": {
        "train_accuracy": (0.9966, 0.0005),
        "test_accuracy": (0.9803, 0.0007),
        "sharpness/full/1e-3/batch/lbfgsb": (1.23, 0.83),
        "sharpness/full/5e-4/batch/lbfgsb": (0.61, 0.27),
    },
    "LB": {
        "train_accuracy": (0.9992, 0.0001),
        "test_accuracy": (0.9781, 0.0007),
        "sharpness/full/1e-3/batch/lbfgsb": (205.14, 69.52),
        "sharpness/full/5e-4/batch/lbfgsb": (42.90, 17.14),
    },
}


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty or ``smoke``."""
    if arg not in {"", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: smoke")
    config = ConfigDict()
    config.question = (
        "Do large batches find sharper minima, and do these generalise worse?"
    )
    config.source = "Keskar et al. 2017, arXiv:1609.04836: F1 on MNIST"
    config.batch = {"size": 256}
    config.groups = {"SB": {}, "LB": {"batch": {"size": "10%"}}}
    config.compare = ("SB", "LB")
    config.reference = {"data": "mnist", "model": "F1", "values": PAPER}
    if arg == "smoke":
        config.seeds = 1
        config.train = {"epochs": 2}
        config.measure = {
            "sharpness": {
                "running_examples": 1_000,
                "batch_examples": 1_000,
                "lbfgsb_iterations": 3,
                "ascent_steps": 3,
            },
            "hessian": {"examples": 1_000, "trace_probes": 4},
            "path": {"examples": 1_000, "points": 7},
        }
    return config
