"""From which batch size on is a minimum sharp, and from which does it generalise worse?

Source: Keskar et al. 2017, arXiv:1609.04836, Figure 4: test accuracy and sharpness against the batch size, F2 and C1, 100 epochs
each; the paper's thresholds lie near 15 000 (F2) and 500 (C1).

F1 is trained on MNIST with ADAM, learning rate 1e-3, at batch sizes from 16 to the whole training set, every size for 40
epochs from the same random start: an equal number of examples, not of updates, as in the paper. The largest
batches therefore make few updates (60 000: 40) and have not converged: their rows say so (training accuracy).

    python -m bsexp.main --config=experiments/batch_size_sweep.py          about 3 h on two CPU cores (120 GFLOP/s)
    python -m bsexp.main --config=experiments/batch_size_sweep.py:smoke    about a minute: does it run here?

Expected, three seeds, mode running: phi at 1e-3 is 0.8 at B = 16, 17 at 256, 1 500 at 1 000 (the seeds differ by a factor 3), between
4 200 and 4 800 from 2 000 to 15 000, and 2 500 at 60 000, where training has not converged. The test accuracy is best at 1 000, 98.61 %;
98.3 to 98.6 % below that, 98.2 % at 2 000 and 4 000, 98.0 % at 6 000, 97.9 % at 15 000 and 30 000, 97.6 % at 60 000.
"""

from ml_collections import ConfigDict

SIZES = (16, 64, 256, 1_000, 2_000, 4_000, 6_000, 15_000, 30_000, 60_000)


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty or ``smoke``."""
    if arg not in {"", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: smoke")
    sizes = (64, 1_000, 6_000) if arg else SIZES
    examples = 1_000 if arg else 10_000
    config = ConfigDict()
    config.question = "From which batch size on is a minimum sharp, and from which does it generalise worse?"
    config.source = "Keskar et al. 2017, arXiv:1609.04836, Figure 4"
    config.seeds = 1 if arg else 3
    config.train = {"epochs": 1 if arg else 40}
    # Padded, since a ConfigDict sorts its keys as text.
    width = len(str(sizes[-1]))
    config.groups = {f"B{size:0{width}d}": {"batch": {"size": size}} for size in sizes}
    config.measure = {
        "probes": ("evaluation", "distance", "hessian", "sharpness"),
        "hessian": {"examples": min(examples, 5_000), "trace_probes": 2},
        "sharpness": {
            "lbfgsb_maximises": "loss",  # as the committed results were measured
            "epsilons": (1e-3,),
            "running_examples": examples,
            "batch_examples": examples,
        },
    }
    return config
