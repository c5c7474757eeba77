"""Where a run begins, when it ends, and on which devices it is computed."""

import dataclasses

from bsexp.bounds import between, not_negative, one_of
from bsexp.config.option import IF_SET, option

# What each row of the curves holds of every split.
METRICS = tuple(
    f"{split}_{measure}"
    for split in ("train", "validation", "test")
    for measure in ("loss", "accuracy")
)


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run begins: with a random start, or with the weights of another run."""

    group: str = option(
        "",
        "group of the study whose run of the same seed gives weights and batch-norm statistics; empty: a random start",
    )
    epoch: int = option(
        0,
        "epochs of that run before they are taken; the optimizer begins anew",
        unit="epochs",
        check=between(0, 1_000_000),
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
        "most updates, which the epochs must have; 0: all of the epochs",
        unit="steps",
        check=between(0, 2**31 - 1),
    )
    examples: int = option(
        0,
        "examples after which training ends, with the update that reaches them, within the epochs; 0: those of the epochs",
        unit="examples",
        check=between(0, 2**31 - 1),
    )
    seconds: float = option(
        0.0,
        "time after which training ends, where the epochs do not end before, looked at every steps_per_dispatch updates, compilation not counted, nor what is kept or computed to be measured, so that the numbers depend on the machine; a schedule's length is still that of the epochs; what a stopped session had spent on its last epoch is not counted either; 0: none",
        unit="seconds",
        check=not_negative,
    )
    evaluations: int = option(
        1,
        "how often an epoch the held-out splits are evaluated, evenly spaced, the last time at its end, each time with a row of the curves; how closely a target is looked for; patience is still in epochs; what it takes counts as time of the run",
        check=between(1, 1_000_000),
        identity=IF_SET,
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
        "value of target_metric, accuracies as fractions; when a run is first found to have it, after an epoch or one of its evaluations, stands in the report, also where it is asked for after training; 0: none",
        check=not_negative,
    )
    target_metric: str = option(
        "test_accuracy",
        "what is to reach the target; of train_ the mean since the epoch began",
        check=one_of(*METRICS),
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
        "runs that differ in seed or rates and train side by side, each on devices of its own; 0: as many as fit, stacked where one leaves its accelerator idle most of the time",
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
        "compute an eighth of a batch at a time and add up in a fixed order: the same weights to the bit on 1, 2, 4 and 8 devices, slower; batch.ghost must divide the eighth; the losses of held-out splits are still rounded by device count",
        identity=False,
    )
