"""How many updates does a larger batch save, and where does it stop to?

Source: Shallue et al. 2019, "Measuring the Effects of Data Parallelism on Neural Network Training", arXiv:1811.03600: updates
until a target on held-out examples, against the batch size, the learning rate tuned for each. McCandlish et al. 2018, "An
Empirical Model of Large-Batch Training", arXiv:1812.06162: S = S_min (1 + B_crit / B).
"""

from ml_collections import ConfigDict

SIZES = (32, 128, 512, 2_048, 8_192)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty or ``smoke``."""
    if arg not in {"", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: smoke")
    config = ConfigDict()
    config.question = (
        "How many updates does a larger batch save, and where does it stop to?"
    )
    config.source = "McCandlish et al. 2018, arXiv:1812.06162"
    config.data = {"train_size": 10_000, "validation_size": 10_000}
    config.seeds = 3
    config.optimizer = {"name": "sgd"}
    config.batch = {"ghost": 32}
    config.train = {
        "epochs": 60,
        "target": 0.95,
        "target_metric": "validation_accuracy",
        "stop_at_target": True,
    }
    config.groups = {
        f"B{size:04d}-{rate:.0e}": {
            "batch": {"size": size},
            "optimizer": {"learning_rate": rate},
        }
        for size in SIZES
        for rate in RATES
    }
    config.measure = {"probes": ("evaluation",)}
    return config
