"""How curved is the loss where a run ended?

For any finished run whose checkpoints are there: trace of the Hessian by layer with the Gauss-Newton matrix as control
(exact but for what is left), largest eigenvalues, also as Adam sees them (arXiv:2207.14484), spectral density with its band, negative part and outliers,
sharpness in the box of Keskar et al. 2017 (full space and a random subspace of dimension 100), in the balls of SAM
(arXiv:2010.01412) and ASAM (arXiv:2102.11600), under noise, and the gradient noise scale (arXiv:1812.06162) plain and
weighted with the Hessian. Every number has its error bar or says which bound it is; each names its batch-norm mode.

    python -m bsexp.main --config=experiments/curvature.py --config.run=results/sharp_minima/runs/NAME

About 11 minutes for F1 on two CPU cores, most of them for the density (--config.measure.density.iterations) and the
curved noise scale (--config.measure.noise_scale.groups). Committed results hold no checkpoints: train a study in a
--workdir of your own first. The outcome goes to results/curvature, a folder for each run in it.

    python -m bsexp.main --config=experiments/curvature.py:smoke --config.run=PATH    under a minute: does it run here?
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Return the study; ``arg`` is empty or ``smoke``."""
    if arg not in {"", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: smoke")
    config = ConfigDict()
    config.run = "PATH"  # to be set on the command line; there is no such run
    config.question = "How curved is the loss where the run ended?"
    config.measure = {
        "probes": (
            "evaluation",
            "distance",
            "hessian",
            "density",
            "sharpness",
            "flatness",
            "noise_scale",
        ),
        "hessian": {
            "eigenvalues": 5,
            "preconditioned": True,
            "lanczos_iterations": 80,
            "trace_probes": 64,
            "trace_tolerance": 0.01,
        },
        # With columns of length 1 phi is of the order of 1e-5 at F1's minima and drowns in rounding; with standard normal entries it
        # has the order of the paper's Table 4.
        "sharpness": {"subspace": 100, "subspace_unit_columns": False},
    }
    if arg == "smoke":
        config.measure.modes = ("running",)
        config.measure.hessian.update(
            {"examples": 500, "eigenvalues": 2, "preconditioned": False}
        )
        config.measure.density = {"examples": 500, "starts": 2, "iterations": 8}
        config.measure.flatness = {"examples": 500, "steps": 2, "evaluations": 8}
        config.measure.noise_scale = {"groups": 20, "group_size": 8}
        config.measure.sharpness.update(
            {"running_examples": 500, "lbfgsb_iterations": 2, "ascent_steps": 2}
        )
    return config
