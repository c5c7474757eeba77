"""How an optimizer follows the batch size."""

import dataclasses
import math
from collections.abc import Callable

from bsexp import config
from bsexp.training import optim

# An optimizer that is right at the base batch size and kappa = B / B_base -> the optimizer at B.
Rule = Callable[[config.Optimizer, float], config.Optimizer]
# What the rule adam_sde was derived for: others with b1, b2 and eps move by something else.
ADAMS = ("adam", "adamw")


def scaled(
    optimizer: config.Optimizer, scaling: config.Scaling, batch_size: int
) -> config.Optimizer:
    """Return the optimizer that a rule prescribes at a batch size.

    Args:
        optimizer: right at ``scaling.base_batch``.
        scaling: the rule.
        batch_size: B, in examples.

    Raises:
        ValueError: the rule does not apply, with the reason.
    """
    return RULES[scaling.rule](optimizer, batch_size / scaling.base_batch)


def error(optimizer: config.Optimizer, scaling: config.Scaling, batch_size: int) -> str:
    """Return why a rule does not apply; "" where it does."""
    try:
        scaled(optimizer, scaling, batch_size)
    except ValueError as raised:
        return str(raised)
    return ""


def _none(optimizer: config.Optimizer, _: float) -> config.Optimizer:
    return optimizer


def _linear(optimizer: config.Optimizer, kappa: float) -> config.Optimizer:
    """Scale the learning rate by kappa: as many examples move SGD as far.

    Source: Goyal et al. 2017, arXiv:1706.02677, who warm up for 5 epochs beside it. Wrong where the noise no longer
    dominates, near the critical batch size, and for Adam, whose steps do not shrink with the gradient.
    """
    return dataclasses.replace(optimizer, learning_rate=kappa * optimizer.learning_rate)


def _square_root(optimizer: config.Optimizer, kappa: float) -> config.Optimizer:
    """Scale the learning rate by sqrt(kappa): the covariance of SGD's steps stays.

    Source: Krizhevsky 2014, arXiv:1404.5997; Hoffer et al. 2017, arXiv:1705.08741.
    """
    return dataclasses.replace(
        optimizer, learning_rate=math.sqrt(kappa) * optimizer.learning_rate
    )


def _adam_sde(optimizer: config.Optimizer, kappa: float) -> config.Optimizer:
    """Scale Adam so that it approximates the same stochastic differential equation, in examples seen.

    eta -> sqrt(kappa) eta, 1 - b1 -> kappa (1 - b1), 1 - b2 -> kappa (1 - b2), eps -> eps / sqrt(kappa), and so
    eps_root, which stands under the root, by kappa. Weight decay stays as it is: the paper does not treat it. AdamW's,
    eta times it an update, then shrinks the weights sqrt(kappa) times less over as many examples.

    Source: Malladi et al. 2022, arXiv:2205.10287.
    """
    if optimizer.name not in ADAMS:
        raise ValueError(
            f"is a rule for {' and '.join(ADAMS)}, and {optimizer.name} moves otherwise; use linear or square_root"
        )
    if optimizer.arguments.get("nesterov"):
        raise ValueError(
            "is a rule for Adam, and with nesterov it moves otherwise; use linear or square_root"
        )
    # Twelve digits, since 1 - 100 (1 - 0.99) is not 0 but -9e-16 in double precision.
    betas = {
        name: round(1 - kappa * (1 - optim.argument(optimizer, name)), 12)
        for name in ("b1", "b2")
    }
    for name, beta in betas.items():
        if beta < 0:
            raise ValueError(
                f"makes {name} negative ({beta:.4g}) at {kappa:g} times config.scaling.base_batch"
            )
    eps = optim.argument(optimizer, "eps") / math.sqrt(kappa)
    root = optim.argument(optimizer, "eps_root") / kappa
    rooted = {"eps_root": root} if root else {}
    return dataclasses.replace(
        _square_root(optimizer, kappa),
        arguments={**optimizer.arguments, **betas, "eps": eps, **rooted},
    )


RULES: dict[str, Rule] = {
    "none": _none,
    "linear": _linear,
    "square_root": _square_root,
    "adam_sde": _adam_sde,
}
