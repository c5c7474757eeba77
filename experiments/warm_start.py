"""From when on does a large-batch run that begins with small-batch weights stay in a flat minimum?

Source: Keskar, Mudigere, Nocedal, Smelyanskiy, Tang, "On Large-Batch Training for Deep Learning:
Generalization Gap and Sharp Minima", ICLR 2017, arXiv:1609.04836, Figure 5: the iterates after each of 100 small-batch epochs are
continued by 100 large-batch ones; test accuracy and sharpness against the number of small-batch epochs.

F1 on MNIST with ADAM, learning rate 1e-3: small batches (SB, 256) for 40 epochs; after 0, 1, 2, 5, 10, 20 and 40 of them, large
batches (10 % of the training set) go on for 40 epochs, as LB00 ... LB40. Weights and batch norm's averages are taken
over; ADAM begins anew, since its moments would be those of another noise. LB00 is LB with a random start. The paper shows
F2 and C1, and does not say what became of ADAM's moments.

    python -m bsexp.main --config=experiments/warm_start.py          2 h 30 min on two CPU cores of 130 GFLOP/s together
    python -m bsexp.main --config=experiments/warm_start.py:smoke    under a minute: does it run here?

In the collection's folder SB is taken over from sharpness_along_training; alone it takes a quarter of an hour more.
An epoch named after SB has trained past it needs SB trained again: its old results are set aside.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty or ``smoke``."""
    if arg not in {"", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: smoke")
    epochs = (0, 1, 2) if arg else (0, 1, 2, 5, 10, 20, 40)
    config = ConfigDict()
    config.question = "From when on does a large-batch run that begins with small-batch weights stay in a flat minimum?"
    config.source = "Keskar et al. 2017, arXiv:1609.04836, Figure 5: F1 on mnist"
    warm = {
        "batch": {"size": "10%"},
        "train": {"epochs": 1 if arg else 40},
    }
    config.groups = {
        "SB": {"batch": {"size": 256}, "train": {"epochs": epochs[-1]}},
        **{
            f"LB{epoch:02d}": {**warm, "start": {"group": "SB", "epoch": epoch}}
            for epoch in epochs
        },
    }
    config.compare = ("SB", "LB00")
    config.seeds = 5
    config.measure = {
        "probes": ("evaluation", "distance", "sharpness"),
        "sharpness": {
            "lbfgsb_maximises": "loss",  # as the committed results were measured
            "epsilons": (1e-3,),
            "running_examples": 10_000,
            "batch_examples": 5_000,
        },
    }
    if arg == "smoke":
        config.seeds = 1
        config.data = {"train_size": 2_500}
        config.groups.SB.batch.size = 50
        config.measure.modes = ("running",)
        config.measure.sharpness.update(
            {"running_examples": 500, "lbfgsb_iterations": 2, "ascent_steps": 2}
        )
    return config
