"""The names that exist outside the configuration, which the door checks it against."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bsexp import config


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """What a configuration may name, and what is wrong with it where only the rest of bsexp knows.

    Attributes:
        models: network -> its variants.
        probes: probes.
        modes: batch-norm modes.
        is_measure: whether a name is that of a measure, such as test_accuracy/batch.
        optimizers: optimizer -> its keyword arguments -> their defaults.
        optimizer_error: what is wrong with an optimizer whose names are right; "" for nothing.
        training_examples: settings of the data -> the number of training examples; ValueError with a
            message for the reader where there is no such data set, FieldError where another field is wrong.
        finished_run: folder of a run -> its configuration as its config.json holds it; ValueError with a
            message for the reader where there is none, or its weights are not there.
        model_error: what is wrong with a network whose names are right, on its data; "" for nothing.
        normalised: whether the network of a base run in which nothing is wrong has batch norm.
        network_code: MODULE:NAME -> a digest of the file that holds the network.
        schedules: schedule of the learning rate -> its keyword arguments -> their defaults.
        schedule_errors: base run, its batch size and training examples -> what is wrong with a schedule whose names
            are right, by field.
        rules: by which the optimizer may follow the batch size.
        recipe_errors: base run, its batch size and training examples -> what is wrong with how it is divided
            and how it ends, by field.
        scaling_error: why its rule does not apply to an optimizer at a batch size; "" where it does.
        whole_epochs: base run, its batch size and training examples -> epochs that it trains as a whole.
        kept_epochs: folder of a finished run -> epochs after which its weights were kept.
    """

    models: Mapping[str, tuple[str, ...]]
    probes: tuple[str, ...]
    modes: tuple[str, ...]
    is_measure: Callable[[str], bool]
    optimizers: Mapping[str, Mapping[str, Any]]
    optimizer_error: Callable[[config.Optimizer], str]
    training_examples: Callable[[config.Data], int]
    finished_run: Callable[[str], Mapping[str, Any]]
    model_error: Callable[[config.Base], str]
    normalised: Callable[[config.Base], bool]
    network_code: Callable[[str], str]
    schedules: Mapping[str, Mapping[str, Any]]
    schedule_errors: Callable[[config.Base, int, int], dict[str, str]]
    rules: tuple[str, ...]
    recipe_errors: Callable[[config.Base, int, int], dict[str, str]]
    scaling_error: Callable[[config.Optimizer, config.Scaling, int], str]
    whole_epochs: Callable[[config.Base, int, int], int]
    kept_epochs: Callable[[str], Sequence[int]]
