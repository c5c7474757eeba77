"""The curvature up to which an optimizer's steps do not grow: what sharpness along training is compared with."""

from typing import NamedTuple

from bsexp import config
from bsexp.training import optim


class Limit(NamedTuple):
    """A bound on the largest eigenvalue of a matrix.

    Attributes:
        matrix: "hessian", H; or "preconditioned", P^-1/2 H P^-1/2 with P as `optim.preconditioner` gives it.
        value: above it full-batch steps on the quadratic with that matrix grow.
    """

    matrix: str
    value: float


def limit(optimizer: config.Optimizer, learning_rate: float) -> Limit | None:
    """Return the largest curvature at which an optimizer is stable on a quadratic; None where none is known.

    SGD with momentum b on H: 2 (1 + b) / eta; with Nesterov's momentum: 2 (1 + b) / ((1 + 2b) eta). Adam on
    P^-1/2 H P^-1/2, P = sqrt(v) + eps of its second moments v, when these move slowly: 2 (1 + b1) / ((1 - b1) eta), which is 38 / eta for b1 = 0.9; in its first
    1 / (1 - b1) steps the bias correction makes it smaller. All are of full batches: noise lets training settle below.

    Weight decay, clipping and sharpness-aware minimisation change the bound, and so none is given with them.

    Args:
        optimizer: its configuration, scaled as it trains.
        learning_rate: eta of the moment.

    Source: Cohen et al. 2021, arXiv:2103.00065 (momentum); Cohen et al. 2022, arXiv:2207.14484 (Adam).
    """
    changed = (optimizer.weight_decay, optimizer.clip_norm, optimizer.sam_radius)
    if any(changed) or optimizer.name not in _LIMITS or learning_rate <= 0:
        return None
    return _LIMITS[optimizer.name](optimizer, learning_rate)


def _sgd(optimizer: config.Optimizer, rate: float) -> Limit:
    momentum = optim.argument(optimizer, "momentum") or 0.0
    damping = 1 + 2 * momentum if optim.argument(optimizer, "nesterov") else 1
    return Limit("hessian", 2 * (1 + momentum) / (damping * rate))


def _adam(optimizer: config.Optimizer, rate: float) -> Limit | None:
    if optim.argument(optimizer, "nesterov"):
        return None
    b1 = optim.argument(optimizer, "b1")
    return Limit("preconditioned", 2 * (1 + b1) / ((1 - b1) * rate))


_LIMITS = {"sgd": _sgd, "adam": _adam, "adamw": _adam}
