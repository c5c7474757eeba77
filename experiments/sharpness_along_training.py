"""When do large and small batches part: how sharp is the loss along training?

Source: Keskar, Mudigere, Nocedal, Smelyanskiy, Tang, "On Large-Batch Training for Deep Learning:
Generalization Gap and Sharp Minima", ICLR 2017, arXiv:1609.04836; Figure 6: sharpness against training loss
along training, small batches and large.

F1 on MNIST with ADAM, learning rate 1e-3, small batches (SB, 256) and large ones (LB, 10 % of the training set) from the
same start, for 40 epochs. After chosen epochs the state is kept in the run's folder and measured as the end is: sharpness
on 5 000 examples, by L-BFGS-B as in the paper and by sign ascent; the largest eigenvalue of the Hessian, plain and
as ADAM sees it, divided by the root of its second moments, beside the limit 38 / eta of the adaptive edge of stability
(arXiv:2207.14484); the norms of the gradient of those 5 000, in which noise outweighs the gradient of all where the noise
scale is larger, and of the update that it would make; the gradient noise scale. The paper shows F2 and C1.
The loss is f(x) of the definition of sharpness, at the point itself, not the running mean over an epoch.

    python -m bsexp.main --config=experiments/sharpness_along_training.py          2 h 15 min on two CPU cores (130 GFLOP/s)
    python -m bsexp.main --config=experiments/sharpness_along_training.py:smoke    under a minute: does it run here?

Expected, five seeds, mode running: phi rises for both in the first epoch or two, from 27 to about 1 300; then SB's falls, to 85
after 20 epochs and 16 after 40, while LB's goes on to 4 400 and 4 800 as its training loss falls to 1.4e-4. The largest
eigenvalue falls alike: it ends at 0.36 (SB) and 0.33 (LB). As ADAM sees it, it stays far below the limit of 38 000: at most
1 400 (SB) and 4 000 (LB), after 5 epochs.

An epoch named after a run has trained past it needs that run trained again: its old results are set aside.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty or ``smoke``."""
    if arg not in {"", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: smoke")
    config = ConfigDict()
    config.question = (
        "How sharp is the loss along training, with small and large batches?"
    )
    config.source = "Keskar et al. 2017, arXiv:1609.04836, Figure 6: F1 on mnist"
    config.groups = {"SB": {"batch": {"size": 256}}, "LB": {"batch": {"size": "10%"}}}
    config.compare = ("SB", "LB")
    config.seeds = 5
    config.train = {"epochs": 40}
    config.measure = {
        "probes": ("evaluation", "sharpness"),
        "sharpness": {
            "lbfgsb_maximises": "loss",  # as the committed results were measured
            "epsilons": (1e-3,),
            "running_examples": 5_000,
            "batch_examples": 5_000,
        },
        "hessian": {"examples": 5_000, "preconditioned": True},
        "noise_scale": {"groups": 50},
        "along": {"epochs": (0, 1, 2, 5, 10, 20, 40)},
    }
    if arg == "smoke":
        config.seeds = 1
        config.data = {"train_size": 2_000}
        config.train = {"epochs": 2}
        config.groups.SB.batch.size = 50
        config.measure.modes = ("batch",)
        config.measure.sharpness.update(
            {"batch_examples": 500, "lbfgsb_iterations": 2, "ascent_steps": 2}
        )
        config.measure.hessian.update(
            {"examples": 500, "trace_probes": 2, "lanczos_iterations": 10}
        )
        config.measure.along = {
            "epochs": (0, 1, 2),
            "probes": ("update", "hessian", "sharpness"),
        }
    return config
