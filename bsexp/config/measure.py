"""What is measured at trained points."""

import dataclasses

from bsexp import counts
from bsexp.bounds import (
    between,
    not_negative,
    one_of,
    or_none,
    positive,
    some,
    some_not_negative,
    some_of,
    some_positive,
)
from bsexp.config.option import option

# Of which a standard error is trusted, see `bsexp.curvature.estimate`.
FEWEST_TRACE_PROBES = 20


@dataclasses.dataclass(frozen=True)
class Sharpness:
    """Keskar's sharpness, Metric 2.1 of arXiv:1609.04836."""

    epsilons: tuple[float, ...] = option(
        (1e-3, 5e-4), "half-widths of the box, relative to |x| + 1", check=some_positive
    )
    lbfgsb_iterations: int = option(
        10, "iterations of L-BFGS-B", check=between(1, 100_000)
    )
    lbfgsb_maximises: str = option(
        "phi",
        "what L-BFGS-B is handed, whose first step is as long as the gradient: phi, or the loss; the paper does not say",
        check=one_of("phi", "loss"),
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
        "most Rademacher vectors for the trace; in mode running, up to 128 classes, they estimate what the Gauss-Newton matrix, exact, leaves",
        check=between(2, 1_000_000),
    )
    trace_tolerance: float = option(
        0.0,
        f"relative standard error of the trace at which to stop, after {FEWEST_TRACE_PROBES} vectors at least; 0 uses all",
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
        200,
        "groups of training examples; as many others give the Hessian that weights them",
        check=between(2, 1_000_000),
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
