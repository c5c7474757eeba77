"""Which measures of sharpness can be fooled: can a large-batch minimum be made to look flatter than a small-batch one?

Source: Dinh, Pascanu, Bengio, Bengio, "Sharp Minima Can Generalize For Deep Nets", ICML 2017, arXiv:1703.04933: a network has
many parameters for one function, and sharpness tells them apart. Measures that should not: adaptive sharpness, Kwon et al.
2021, arXiv:2102.11600.

F1 on MNIST with ADAM, learning rate 1e-3, small batches (SB, 256) and large ones (LB, 10 % of the training set), from the
same start. At the end of LB, the layers in front of batch norm are scaled up by 2, 4 ... 64, and batch norm's running averages
with them: every output stays what it was. There, and at both ends as trained, on 5 000 examples: the loss, Keskar's sharpness, the trace
and the largest eigenvalue of the Hessian, the rise of the loss in SAM's ball and under noise, and the same two
relative to |x|. A measure is fooled where LB has the larger value as trained and the smaller one once it is scaled up, SB as trained.

    python -m bsexp.main --config=experiments/invariance.py          two hours and a half on two CPU cores without AVX-512; one run had but one core
    python -m bsexp.main --config=experiments/invariance.py:smoke    under a minute: does it run here?

Expected: in mode running LB's phi at epsilon 1e-3, 50 times SB's as trained, is a fifth of it at scale 8, and so are the
trace and the rises in SAM's ball and under noise far below SB's; the two relative to |x| stay what they were, and
do not agree: the rise in the ball is half of SB's, the one under noise 1.7 times.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty or ``smoke``."""
    if arg not in {"", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: smoke")
    config = ConfigDict()
    config.question = "Which measures of sharpness does a change of scale fool that leaves the network's function as it is?"
    config.source = (
        "Dinh et al. 2017, arXiv:1703.04933; Kwon et al. 2021, arXiv:2102.11600"
    )
    config.groups = {"SB": {"batch": {"size": 256}}, "LB": {"batch": {"size": "10%"}}}
    config.compare = ("SB", "LB")
    config.measure = {
        "probes": ("evaluation", "sharpness", "invariance"),
        "sharpness": {
            "lbfgsb_maximises": "loss",  # as the committed results were measured
            "epsilons": (1e-3,),
            "running_examples": 5_000,
            "batch_examples": 5_000,
        },
        "hessian": {"examples": 5_000},
        "flatness": {"examples": 5_000},
    }
    if arg == "smoke":
        config.seeds = 1
        config.data = {"train_size": 5_000}
        config.train = {"epochs": 3}
        config.measure.modes = ("running",)
        config.measure.invariance = {"doublings": 2}
        config.measure.hessian.update({"examples": 500, "trace_probes": 2})
        config.measure.flatness.update({"examples": 500, "steps": 2, "evaluations": 4})
        config.measure.sharpness.update(
            {"running_examples": 500, "lbfgsb_iterations": 3, "ascent_steps": 3}
        )
    return config
