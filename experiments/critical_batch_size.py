"""How many updates does a larger batch save, and from which batch size on does it save none?

Source: Shallue et al. 2019, "Measuring the Effects of Data Parallelism on Neural Network Training", arXiv:1811.03600: updates
until a target on held-out examples against the batch size, with the learning rate tuned for each size. McCandlish et al. 2018,
"An Empirical Model of Large-Batch Training", arXiv:1812.06162: S = S_min (1 + B_crit / B).

F1 is trained on MNIST with plain SGD, at five batch sizes and five learning rates each, until 98 % of 10 000 examples that it is
not trained on are classified rightly. Batch norm takes its statistics over ghost batches of 32 at every size, so that a larger batch has
no other normalisation. Held-out examples are looked at four times an epoch, and the gradient noise scale is measured along training
and where it ends, which McCandlish et al. take for an estimate of B_crit that one run gives.

    python -m bsexp.main --config=experiments/critical_batch_size.py          an hour and a half on two CPU cores
    python -m bsexp.main --config=experiments/critical_batch_size.py:smoke    under a minute: does it run here?

Expected: B_crit about 770 (95 %: 420 to 1 460), S_min 160 updates, E_min 125 000 examples; 4 000 updates at 32, 1 150 at 128,
410 at 512, 280 at 2 048 and 170 at 4 096, with learning rates of 0.03, 0.3, 0.3, 1 and 1. The noise scale weighted with the Hessian
is 500 to 600 after the first epoch at sizes up to 512, where the plain one is 2 500 to 4 200, and above 900 where training ends; at 2 048
and 4 096, whose learning rate of 1 keeps the gradient large, it is below 300 up to the eighth epoch.
"""

from ml_collections import ConfigDict

SIZES = (32, 128, 512, 2_048, 4_096)
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
SMOKE_SIZES, SMOKE_RATES = (32, 128, 512), (0.1, 0.3)


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty or ``smoke``."""
    if arg not in {"", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: smoke")
    sizes, rates = (SMOKE_SIZES, SMOKE_RATES) if arg else (SIZES, RATES)
    config = ConfigDict()
    config.question = "How many updates does a larger batch save, and from which batch size on does it save none?"
    config.source = "Shallue et al. 2019, arXiv:1811.03600; McCandlish et al. 2018, arXiv:1812.06162"
    config.seeds = 1 if arg else 3
    config.data = {"train_size": 5_000 if arg else "100%", "validation_size": 10_000}
    config.optimizer = {"name": "sgd"}
    config.batch = {"ghost": 32}
    config.train = {
        "epochs": 8 if arg else 25,
        "evaluations": 4,
        "target": 0.9 if arg else 0.98,
        "target_metric": "validation_accuracy",
        "stop_at_target": True,
    }
    # A name holds no dot; padded, since a ConfigDict sorts its keys as text.
    config.groups = {
        f"B{size:04d}-{rate:.0e}": {
            "batch": {"size": size},
            "optimizer": {"learning_rate": rate},
        }
        for size in sizes
        for rate in rates
    }
    config.measure = {
        "probes": ("evaluation", "noise_scale"),
        "modes": ("running",),
        "noise_scale": {"groups": 4 if arg else 16, "group_size": 100},
        "along": {
            "epochs": (1,) if arg else (1, 2, 4, 8, 16),
            "probes": ("noise_scale",),
        },
    }
    return config
