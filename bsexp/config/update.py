"""What makes one update: the network, the batch, the optimizer and what its rates follow."""

import dataclasses
from typing import Any

from bsexp import counts
from bsexp.bounds import (
    a_rate,
    ascending,
    below_one,
    between,
    fraction,
    not_negative,
    one_of,
    or_none,
    positive,
)
from bsexp.config.option import IF_SET, option

# Optax's names for the fields weight_decay and decay_mask.
DECAY_ARGUMENTS = ("weight_decay", "weight_decay_rate")
MASK_ARGUMENTS = ("mask", "weight_decay_mask")


@dataclasses.dataclass(frozen=True)
class Model:
    """The network."""

    name: str = option(
        "F1", "network of Keskar et al. 2017, Table 1; or MODULE:NAME, one of your own"
    )
    variant: str = option(
        "paper",
        "definition of the network: paper, or released, the authors' code, of C1 and C3",
    )
    batch_norm_momentum: float = option(
        0.9, "weight of the past in the running averages of batch norm", check=below_one
    )
    precision: str = option(
        "float32",
        "of the network while it trains: float32, or bfloat16 with float32 weights and batch-norm statistics",
        check=one_of("float32", "bfloat16"),
        identity=IF_SET,
    )
    code: str = option(
        "",
        "16 hex digits of the SHA-256 of the file that holds a network of your own: filled in, and where it is given, the file must have it",
        identity=IF_SET,
    )

    @property
    def own(self) -> bool:
        """Whether the network is one of the user's, MODULE:NAME."""
        return ":" in self.name


@dataclasses.dataclass(frozen=True)
class Batch:
    """How many examples make one update."""

    size: int | str = option(
        256,
        'batch size B, global, per update; or a percentage of the training set: "10%"',
        unit="examples",
        check=counts.check,
    )
    ghost: int = option(
        0,
        "examples that share their batch-norm statistics while training, arXiv:1705.08741; 0: the whole batch",
        unit="examples",
        check=between(0, 1_000_000_000),
    )
    statistics: str = option(
        "running",
        "batch norm's averages at the end: running, those gathered while training; or precise, those of the training set at the last weights, arXiv:2105.07576",
        check=one_of("running", "precise"),
        identity=IF_SET,
    )
    microbatch: int = option(
        0,
        "examples whose gradient is computed at once; gradients are added up to that of the batch; 0: the whole batch",
        unit="examples",
        check=between(0, 1_000_000_000),
        identity=False,
    )
    growth: int = option(
        2,
        "factor by which the batch size grows after each of growth_epochs, arXiv:1711.00489",
        check=between(2, 1_000_000),
    )
    growth_epochs: tuple[int, ...] = option(
        (),
        "epochs after which the batch size grows, and the learning rate does not; none: it stays",
        unit="epochs",
        check=or_none(ascending),
    )


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How a gradient becomes an update."""

    name: str = option("adam", "optimizer by its Optax name")
    learning_rate: float = option(
        1e-3, "learning rate; the peak of config.schedule", check=a_rate
    )
    arguments: dict[str, Any] = option(
        {}, "further keyword arguments of the Optax optimizer, such as b1 or momentum"
    )
    weight_decay: float = option(
        0.0,
        "weight decay: the Optax optimizer's own where it has one, whose default there does not count; else weight_decay times x is added to the gradient",
        check=not_negative,
    )
    decay_mask: str = option(
        "all",
        "parameters that decay: all, or kernels, those of two axes or more: no biases, and no scale or offset of batch norm",
        check=one_of("all", "kernels"),
    )
    clip_norm: float = option(
        0.0,
        "norm, over all parameters, to which a larger gradient is scaled down; 0: none",
        check=not_negative,
    )
    sam_radius: float = option(
        0.0,
        "rho of sharpness-aware minimisation, arXiv:2010.01412, at twice the cost of an update; 0: off",
        check=not_negative,
    )
    sam_adaptive: bool = option(
        False, "whether rho is relative to |x|, elementwise, arXiv:2102.11600"
    )
    sam_examples: int = option(
        0,
        "consecutive examples of a batch that go uphill by their own gradient; they are its microbatches; 0: all go by that of the batch",
        check=not_negative,
        identity=IF_SET,
    )


@dataclasses.dataclass(frozen=True)
class Robust:
    """Remedies of Keskar et al. 2017, Appendix E, beside augmentation; their values are to be checked against it."""

    conservative: float = option(
        0.0,
        "lambda of conservative training, which holds an update back by lambda/2 |x - x_k|^2; the paper's is 1e-3, 0: off",
        check=not_negative,
    )
    conservative_iterations: int = option(
        3,
        "iterations of the optimizer on each batch of conservative training",
        check=between(2, 1_000),
    )
    adversarial: float = option(
        0.0,
        "size of the fast-gradient-sign step to adversarial inputs, arXiv:1412.6572, where grey levels lie in [0, 1]; 0: off",
        check=not_negative,
    )
    adversarial_share: float = option(
        0.5, "share of the adversarial inputs in the loss", check=fraction
    )
    stability: float = option(
        0.0,
        "weight of the stability loss, arXiv:1604.04326, that of the answer under noise; 0: off",
        check=not_negative,
    )
    stability_noise: float = option(
        0.04,
        "standard deviation of that normal noise, where grey levels lie in [0, 1]",
        check=positive,
    )


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the learning rate changes while a run trains; all lengths count from the start of training."""

    name: str = option(
        "constant_schedule", "schedule by its Optax name, relative to a peak of 1"
    )
    arguments: dict[str, Any] = option(
        {},
        "its keyword arguments, lengths in config.schedule.unit; a peak of 1 and lengths to the end of training where they are left out; boundaries_and_scales as ((length, scale), ...)",
    )
    warmup: float = option(
        0.0,
        "length of the linear warm-up, in config.schedule.unit, by which the schedule is multiplied; 0: none",
        check=not_negative,
    )
    unit: str = option(
        "epochs",
        "unit of the lengths: steps, epochs or examples",
        check=one_of("steps", "epochs", "examples"),
    )


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How the optimizer follows the batch size."""

    rule: str = option(
        "none",
        "none; linear, arXiv:1706.02677; square_root, arXiv:1404.5997; or adam_sde, arXiv:2205.10287, which leaves weight decay as it is; where batches grow while a run trains, the first batch size counts",
    )
    base_batch: int = option(
        256,
        "batch size at which config.optimizer is right as it stands",
        unit="examples",
        check=between(1, 1_000_000_000),
    )
