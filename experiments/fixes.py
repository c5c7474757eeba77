"""Which remedy closes the generalisation gap of large batches, and which flattens the minimum?

Source: what came after Keskar et al. 2017, arXiv:1609.04836: Hoffer et al. 2017, arXiv:1705.08741 (ghost batch norm, learning
rate times the square root of the batch size's factor, more updates); Goyal et al. 2017, arXiv:1706.02677 (learning rate
times the factor, after a warm-up); Smith et al. 2018, arXiv:1711.00489 (growing batches); Foret et al. 2021,
arXiv:2010.01412 (SAM).

F1 on MNIST with ADAM, learning rate 1e-3, 20 epochs: small batches (SB, 256), large ones (LB, 10 % of the training set),
and LB with one remedy each, from the same starts. At every end: accuracy, sharpness in Keskar's box, trace and
largest eigenvalue, and the rise in SAM's ball and in the ball relative to |x|, which no rescaling fools.

- ghost: batch norm over 125 examples (Hoffer: 128, which does not divide 6 000);
- square_root: learning rate 4.8 times that of SB;
- longer: 100 epochs. Hoffer makes as many updates as SB, here 468 epochs, 37 minutes a run on two CPU cores:
  --config.groups.longer.train.epochs=468, and the same for hoffer;
- hoffer: these three together;
- goyal: learning rate 23 times that of SB, warmed up for 5 epochs from near 0. The rule is one for SGD, whose warm-up
  begins with the rate of SB; ADAM is kept here, so that the groups differ in the remedy alone;
- growing: 240 examples, after 10 epochs 1 200, after 15 the large batch: at the batch size of SB for half of the way;
- sam: radius 0.05, two gradients an update, the first that of the whole large batch. Foret et al. take one for each
  accelerator's part, and find smaller parts better: --config.groups.sam.optimizer.sam_examples=125, with
  --config.groups.sam.batch.ghost=125.

    python -m bsexp.main --config=experiments/fixes.py          2 h on two CPU cores of 140 GFLOP/s together
    python -m bsexp.main --config=experiments/fixes.py:smoke    under a minute: does it run here?

Expected, in mode running: SB's lead over LB, 98.02 +- 0.06 % of the test images, is 0.17 points, which three seeds do not tell
from noise (p = 0.06): there is hardly a gap to close. Against LB "growing" has 0.60 points more (p < 0.001 in a
one-sided Welch test, not corrected for their number), "hoffer" 0.43 (p = 0.003), "square_root" 0.23 (p = 0.003);
the others lie within 0.1. What lowers phi is the larger learning rate and the smaller batch: it at epsilon 1e-3 is 4 150 at LB, 75 at
SB, 90 to 310 at "goyal", "growing" and "hoffer", 0.43 of LB's at "square_root", 0.8 of it at "sam", above it at "ghost" and "longer".
Flat by phi is not accurate: "goyal" is as flat as SB and tests no better than LB. By the trace (LB 25, SB 10) more updates
flatten: "growing" 1.4, "hoffer" 2.1, "longer" 2.4; by the largest eigenvalue (LB 0.90, SB 0.83) "growing" 0.063 and "longer"
0.089 alone. The most accurate, "growing", is the flattest by both and by the measures relative to |x|.
"""

from ml_collections import ConfigDict

LARGE = {"size": "10%"}
SQUARE_ROOT = {"rule": "square_root", "base_batch": 256}
LONGER = {"epochs": 100}


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty or ``smoke``."""
    if arg not in {"", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: smoke")
    config = ConfigDict()
    config.question = "Which remedy closes the generalisation gap of large batches, and which flattens the minimum?"
    config.source = "Hoffer et al. 2017, arXiv:1705.08741; Goyal et al. 2017, arXiv:1706.02677; Smith et al. 2018, arXiv:1711.00489; Foret et al. 2021, arXiv:2010.01412"
    ghost = {**LARGE, "ghost": 125}
    config.groups = {
        "SB": {"batch": {"size": 256}},
        "LB": {"batch": LARGE},
        "ghost": {"batch": ghost},
        "square_root": {"batch": LARGE, "scaling": SQUARE_ROOT},
        "longer": {"batch": LARGE, "train": LONGER},
        "hoffer": {"batch": ghost, "scaling": SQUARE_ROOT, "train": LONGER},
        "goyal": {
            "batch": LARGE,
            "scaling": {"rule": "linear", "base_batch": 256},
            "schedule": {"warmup": 5.0},
        },
        "growing": {"batch": {"size": 240, "growth": 5, "growth_epochs": (10, 15)}},
        "sam": {"batch": LARGE, "optimizer": {"sam_radius": 0.05}},
    }
    config.compare = ("SB", "LB")
    config.measure = {
        # Of the network as it is used: a ghost batch at training is no batch at measuring.
        "modes": ("running",),
        "probes": ("evaluation", "distance", "hessian", "sharpness", "flatness"),
        "hessian": {"examples": 5_000},
        "sharpness": {
            "lbfgsb_maximises": "loss",  # as the committed results were measured
            "epsilons": (1e-3,),
            "running_examples": 10_000,
        },
        "flatness": {"examples": 5_000},
    }
    if arg == "smoke":
        _shorten(config)
    return config


def _shorten(config: ConfigDict) -> None:
    """Leave little of everything: one seed, an epoch or two of 5 000 examples, one mode."""
    config.seeds = 1
    config.data = {"train_size": 5_000}
    config.train = {"epochs": 1}
    config.groups.longer.train.epochs = config.groups.hoffer.train.epochs = 2
    config.groups.goyal.schedule.warmup = 0.5
    config.groups.growing = {
        "batch": {"size": 100, "growth": 5, "growth_epochs": (1,)},
        "train": {"epochs": 2},
    }
    config.measure.probes = ("evaluation", "sharpness", "flatness")
    config.measure.sharpness.update(
        {"running_examples": 500, "lbfgsb_iterations": 2, "ascent_steps": 2}
    )
    config.measure.flatness.update({"examples": 500, "steps": 1, "evaluations": 4})
