"""The configuration: what a study may set, its defaults, and a run's identity.

Every field is written down once, here, with its meaning, unit, default and bound. `door`
turns settings into these frozen dataclasses; the rest of bsexp only ever sees the result.
"""

import dataclasses
import hashlib
import json
from typing import Any

from bsexp import counts
from bsexp.bounds import (
    Check,
    below_one,
    between,
    fraction,
    not_negative,
    one_of,
    or_none,
    or_zero,
    positive,
    published,
    some,
    some_not_negative,
    some_of,
    some_positive,
)

# What each epoch's row holds of every split.
METRICS = tuple(
    f"{split}_{measure}"
    for split in ("train", "validation", "test")
    for measure in ("loss", "accuracy")
)


IF_SET = "if set"


def option(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    check: Check | None = None,
    identity: bool | str = True,
) -> Any:
    """Declare one field of the configuration.

    ``identity=False`` marks what may change where or how fast a run is computed, but not
    which run it is; such a field does not enter the hash. ``identity=IF_SET`` marks a field that was added after results had been
    published: it enters the hash only where it is not its default, which is what those runs did, so that they keep their names.
    """
    metadata = {"meaning": meaning, "unit": unit, "check": check, "identity": identity}
    if isinstance(default, dict):
        return dataclasses.field(
            default_factory=lambda: dict(default), metadata=metadata
        )
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the examples come from."""

    name: str = option(
        "mnist",
        "data set by TFDS name: name, name/config or name:version; mnist is built in",
    )
    dir: str = option(
        "",
        "folder of prepared TFDS data sets; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets",
        identity=False,
    )
    train_size: int | str = option(
        "100%",
        "training examples, drawn at random; or a percentage of what the validation split leaves",
        unit="examples",
        check=counts.check,
    )
    validation_size: int | str = option(
        0,
        "examples taken off the training split for validation, drawn at random; or a percentage of it; 0: none",
        unit="examples",
        check=or_zero(counts.check),
    )
    split_seed: int = option(
        0,
        "seed of the draw of the validation and the training examples",
        check=between(0, 2**31 - 1),
    )
    label_noise: float = option(
        0.0,
        "probability with which a training label is replaced by another class, every other one alike",
        check=fraction,
    )
    noise_seed: int = option(0, "seed of the label noise", check=between(0, 2**31 - 1))
    streaming: bool = option(
        False,
        "read the training examples while training, for what does not fit on a device; the same numbers",
        identity=False,
    )
    workers: int = option(
        0,
        "reading processes of the stream; 0: threads alone",
        unit="processes",
        check=between(0, 1_000),
        identity=False,
    )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How a training image changes anew each time it is seen; zeros come in where it moves away."""

    rotation: float = option(
        0.0,
        "largest angle of a random rotation, either way",
        unit="degrees",
        check=between(0, 180),
    )
    flip: bool = option(False, "mirror left and right with probability 1/2")
    shift: float = option(
        0.0,
        "largest random shift along height and width, by whole pixels",
        unit="fraction of the size",
        check=below_one,
    )
    crop: int = option(
        0,
        "width of the frame of zeros from which a random crop of the image's size is cut",
        unit="pixels",
        check=between(0, 1_000),
    )


@dataclasses.dataclass(frozen=True)
class Model:
    """The network."""

    name: str = option("F1", "network of Keskar et al. 2017, Table 1")
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
        "epochs after which the batch size grows; none: it stays",
        unit="epochs",
        check=or_none(some_positive),
    )


# Optax's names for the fields weight_decay and decay_mask.
DECAY_ARGUMENTS = ("weight_decay", "weight_decay_rate")
MASK_ARGUMENTS = ("mask", "weight_decay_mask")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How a gradient becomes an update."""

    name: str = option("adam", "optimizer by its Optax name")
    learning_rate: float = option(
        1e-3, "learning rate; the peak of config.schedule", check=positive
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
        "parameters that decay: all, or kernels: no biases, and no scale or offset of batch norm",
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
        "none; linear, arXiv:1706.02677; square_root, arXiv:1404.5997; or adam_sde, arXiv:2205.10287",
    )
    base_batch: int = option(
        256,
        "batch size at which config.optimizer is right as it stands",
        unit="examples",
        check=between(1, 1_000_000_000),
    )


@dataclasses.dataclass(frozen=True)
class Train:
    """How long, and in what portions, to train."""

    epochs: int = option(
        20,
        "most passes over the training set",
        unit="epochs",
        check=between(1, 1_000_000),
    )
    steps: int = option(
        0,
        "most updates; 0: as many as the epochs have",
        unit="steps",
        check=between(0, 2**31 - 1),
    )
    examples: int = option(
        0,
        "examples after which training ends, with the update that reaches them; 0: those of the epochs",
        unit="examples",
        check=between(0, 2**31 - 1),
    )
    seconds: float = option(
        0.0,
        "time after which training ends, so that the numbers depend on the machine; 0: none",
        unit="seconds",
        check=not_negative,
    )
    patience: int = option(
        0,
        "epochs without a new best of monitor after which training ends; 0: it does not",
        unit="epochs",
        check=between(0, 1_000_000),
    )
    monitor: str = option(
        "validation_loss", "what patience looks at", check=one_of(*METRICS)
    )
    target: float = option(
        0.0,
        "value of target_metric whose first epoch is noted; 0: none",
        check=not_negative,
    )
    target_metric: str = option(
        "test_accuracy", "what is to reach the target", check=one_of(*METRICS)
    )
    stop_at_target: bool = option(False, "whether training ends at the target")
    checkpoint_every: int = option(
        5,
        "distance between two checkpoints",
        unit="epochs",
        check=between(1, 1_000_000),
        identity=False,
    )
    steps_per_dispatch: int = option(
        100,
        "most steps handed to the device at once",
        unit="steps",
        check=between(1, 1_000_000),
        identity=False,
    )


@dataclasses.dataclass(frozen=True)
class Execution:
    """On which devices, and how, training is computed; what may only change rounding and time."""

    engine: str = option(
        "jit",
        "jit over named shardings, or pmap",
        check=one_of("jit", "pmap"),
        identity=False,
    )
    population: int = option(
        0,
        "runs that differ in seed or rates and train side by side, each on devices of its own; 0: as many as fit",
        unit="runs",
        check=between(0, 1_000_000),
        identity=False,
    )
    data: int = option(
        0,
        "devices that share each batch of a run; 0: chosen by its size",
        unit="devices",
        check=between(0, 1_000_000),
        identity=False,
    )
    deterministic_reduction: bool = option(
        False,
        "compute an eighth of a batch at a time and add up in a fixed order: the same bits on 1, 2, 4 and 8 devices, slower; batch.ghost must divide the eighth",
        identity=False,
    )


@dataclasses.dataclass(frozen=True)
class Sharpness:
    """Keskar's sharpness, Metric 2.1 of arXiv:1609.04836."""

    epsilons: tuple[float, ...] = option(
        (1e-3, 5e-4), "half-widths of the box, relative to |x| + 1", check=some_positive
    )
    lbfgsb_iterations: int = option(
        10, "iterations of L-BFGS-B", check=between(1, 100_000)
    )
    ascent_steps: int = option(
        10, "steps of projected sign ascent", check=between(1, 100_000)
    )
    running_examples: int | str = option(
        "100%",
        "training examples of the loss that is maximised, in mode running",
        unit="examples",
        check=counts.check,
    )
    batch_examples: int | str = option(
        10_000, "the same, in mode batch", unit="examples", check=counts.check
    )
    guide_examples: int | str = option(
        10_000,
        "training examples whose gradients lead the sign ascent; the value found is that of the whole loss",
        unit="examples",
        check=counts.check,
    )
    subspace: int = option(
        0,
        "dimension of a random subspace in which to search as well; the paper's is 100, 0 leaves it out",
        check=between(0, 10_000),
    )
    subspace_unit_columns: bool = option(
        True,
        "whether the subspace's normal columns are scaled to length 1 (to be checked against the paper, which does not say)",
    )


@dataclasses.dataclass(frozen=True)
class Hessian:
    """Trace and largest eigenvalue of the Hessian of the training loss."""

    examples: int | str = option(
        10_000, "training examples of the loss", unit="examples", check=counts.check
    )
    trace_probes: int = option(
        8,
        "most Rademacher vectors for the trace; in mode running they estimate what the Gauss-Newton matrix, exact, leaves",
        check=between(2, 1_000_000),
    )
    trace_tolerance: float = option(
        0.0,
        "relative standard error of the trace at which to stop; 0 uses all vectors",
        check=not_negative,
    )
    eigenvalues: int = option(1, "largest eigenvalues to find", check=between(1, 1_000))
    preconditioned: bool = option(
        False,
        "find the largest eigenvalue of the Hessian as Adam sees it as well, preconditioned by its second moments; in mode batch",
    )
    lanczos_iterations: int = option(
        40,
        "most Lanczos iterations for the largest eigenvalue",
        check=between(1, 10_000),
    )
    lanczos_tolerance: float = option(
        1e-2,
        "residual at which Lanczos stops, relative to the eigenvalue",
        check=positive,
    )


@dataclasses.dataclass(frozen=True)
class Density:
    """Spectral density of the Hessian by stochastic Lanczos quadrature, arXiv:1901.10159."""

    examples: int | str = option(
        10_000, "training examples of the loss", unit="examples", check=counts.check
    )
    starts: int = option(
        6, "random starts, whose spread gives the band", check=between(2, 10_000)
    )
    iterations: int = option(
        40, "Lanczos iterations from each start", check=between(2, 10_000)
    )


@dataclasses.dataclass(frozen=True)
class Flatness:
    """How far the loss rises in balls and under noise, beside Keskar's box."""

    examples: int | str = option(
        10_000, "training examples of the loss", unit="examples", check=counts.check
    )
    sam_radius: float = option(
        0.05,
        "radius of the ball of SAM, arXiv:2010.01412; m-sharpness uses it too",
        check=positive,
    )
    sam_examples: int = option(
        256,
        "m, examples of a group of m-sharpness",
        unit="examples",
        check=between(1, 1_000_000_000),
    )
    adaptive_radius: float = option(
        0.5,
        "radius of the ball relative to |x|, elementwise, arXiv:2102.11600",
        check=positive,
    )
    noise: float = option(
        0.01, "standard deviation of normal noise on every parameter", check=positive
    )
    adaptive_noise: float = option(
        0.1, "the same relative to |x|, arXiv:2302.07011", check=positive
    )
    steps: int = option(
        5, "steps of projected gradient ascent", check=between(1, 100_000)
    )
    evaluations: int = option(
        32, "losses under noise, two a pair", check=between(4, 1_000_000)
    )


@dataclasses.dataclass(frozen=True)
class NoiseScale:
    """Gradient noise scale at fixed weights, arXiv:1812.06162, from the spread of the gradients of groups."""

    groups: int = option(
        200, "groups of training examples", check=between(2, 1_000_000)
    )
    group_size: int = option(
        16, "examples of a group", unit="examples", check=between(1, 1_000_000_000)
    )


@dataclasses.dataclass(frozen=True)
class Invariance:
    """Sharpness where the layers in front of batch norm are scaled up and the function stays: arXiv:1703.04933."""

    doublings: int = option(
        6,
        "how often the scale is doubled; the probes evaluation, sharpness, hessian and flatness measure at each",
        check=between(1, 20),
    )


@dataclasses.dataclass(frozen=True)
class Path:
    """The paths between the two minima of a pair, Figures 3 and 7 of arXiv:1609.04836."""

    shapes: tuple[str, ...] = option(
        ("linear",),
        "linear, the straight line; arc, a quarter of an ellipse around the origin",
        check=some_of("linear", "arc"),
    )
    points: int = option(25, "values of alpha", check=between(2, 10_000))
    first: float = option(
        -1.0, "first alpha; 0 is the baseline's minimum, 1 the compared one"
    )
    last: float = option(2.0, "last alpha")
    examples: int | str = option(
        10_000, "training examples of the loss", unit="examples", check=counts.check
    )


@dataclasses.dataclass(frozen=True)
class Along:
    """What is measured along training, at weights that are kept for it."""

    epochs: tuple[int, ...] = option(
        (),
        "epochs after which the weights are kept and measured; 0: the start",
        unit="epochs",
        check=or_none(some_not_negative),
    )
    probes: tuple[str, ...] = option(
        ("update", "hessian", "sharpness", "noise_scale"),
        "probes by name, with the settings they have at the end",
        check=some,
    )


@dataclasses.dataclass(frozen=True)
class Measure:
    """What is measured at every trained point."""

    probes: tuple[str, ...] = option(
        ("evaluation", "distance", "hessian", "sharpness", "path"),
        "probes by name",
        check=some,
    )
    modes: tuple[str, ...] = option(
        ("running", "batch"),
        "batch norm while measuring: by its running averages, or by the statistics of the batch at hand",
        check=some,
    )
    statistics_batch: int = option(
        5_000,
        "most examples that share their batch-norm statistics, in mode batch",
        unit="examples",
        check=between(2, 1_000_000_000),
    )
    sharpness: Sharpness = Sharpness()
    hessian: Hessian = Hessian()
    density: Density = Density()
    flatness: Flatness = Flatness()
    noise_scale: NoiseScale = NoiseScale()
    invariance: Invariance = Invariance()
    path: Path = Path()
    along: Along = Along()


@dataclasses.dataclass(frozen=True)
class Reference:
    """Published values, which stand beside ours where the data set and the network are theirs."""

    data: str = option("", "data set of the published values")
    model: str = option("", "network of the published values")
    values: dict[str, dict[str, Any]] = option(
        {},
        "group name -> measure -> (mean, standard deviation)",
        check=published,
    )


@dataclasses.dataclass(frozen=True)
class Base:
    """Everything of a run but its seed."""

    data: Data = Data()
    augmentation: Augmentation = Augmentation()
    model: Model = Model()
    batch: Batch = Batch()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    scaling: Scaling = Scaling()
    robust: Robust = option(
        Robust(), "remedies of Keskar et al. 2017, Appendix E", identity=IF_SET
    )
    train: Train = Train()
    execution: Execution = Execution()


@dataclasses.dataclass(frozen=True)
class Study(Base):
    """A question: a base run, what varies in it, and what is measured."""

    run: str = option(
        "",
        "folder of a finished run: it is measured, and nothing is trained; empty: the groups are trained",
    )
    question: str = option("", "what the study asks, for the report")
    source: str = option("", "where the question comes from, for the report")
    seeds: int = option(
        3,
        "runs of each group; seeds count from first_seed",
        unit="runs",
        check=between(1, 10_000),
    )
    first_seed: int = option(
        0, "seed of the first run: start and data order", check=between(0, 2**31 - 1)
    )
    groups: dict[str, dict[str, Any]] = option(
        {"base": {}},
        "what varies: group name -> fields of the base run that differ",
        check=some,
    )
    compare: tuple[str, ...] = option(
        (), "two groups: the baseline and the one that is compared with it"
    )
    reference: Reference = Reference()
    measure: Measure = Measure()


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run, resolved: equal fields, equal numbers."""

    group: str
    seed: int
    batch_size: int
    base: Base

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the numbers: all that enters the hash."""
        fields = identity_fields(self.base)
        batch = {**fields["batch"], "size": self.batch_size}
        return {**fields, "batch": batch, "seed": self.seed}

    @property
    def name(self) -> str:
        """Readable keys and eight hex digits of the hash of ``identity``."""
        digest = hashlib.sha256(
            json.dumps(self.identity, sort_keys=True).encode()
        ).hexdigest()[:8]
        data = self.base.data.name.replace("/", "-").replace(":", "-")
        return f"{data}-{self.base.model.name}-{self.base.optimizer.name}-B{self.batch_size}-seed{self.seed}-{digest}"


def identity_fields(instance: Any) -> dict[str, Any]:
    """Return the fields of a configuration dataclass that decide numbers, nested."""
    fields = [
        field
        for field in dataclasses.fields(instance)
        if _decides(field, getattr(instance, field.name))
    ]
    values = {field.name: getattr(instance, field.name) for field in fields}
    return {
        name: identity_fields(value) if dataclasses.is_dataclass(value) else value
        for name, value in values.items()
    }


def _decides(field: dataclasses.Field[Any], value: Any) -> bool:
    identity = field.metadata.get("identity", True)
    return value != field.default if identity == IF_SET else identity
