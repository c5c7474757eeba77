"""What is wrong with a configuration whose fields are each well-formed: unknown names, numbers that do not fit each other."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bsexp import bounds, config, conversion, counts


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The names that exist outside the configuration.

    Attributes:
        models: network -> its variants.
        probes: probes.
        modes: batch-norm modes.
        optimizers: optimizer -> its keyword arguments.
        optimizer_error: what is wrong with an optimizer whose names are right; "" for nothing.
        training_examples: settings of the data -> the number of training examples; ValueError with a
            message for the reader where there is no such data set, FieldError where another field is wrong.
        finished_run: folder of a run -> its configuration as its config.json holds it; ValueError with a
            message for the reader where there is none, or its weights are not there.
        model_error: what is wrong with a network whose names are right, on its data; "" for nothing.
        schedules: schedule of the learning rate -> its keyword arguments.
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
    optimizers: Mapping[str, tuple[str, ...]]
    optimizer_error: Callable[[config.Optimizer], str]
    training_examples: Callable[[config.Data], int]
    finished_run: Callable[[str], Mapping[str, Any]]
    model_error: Callable[[config.Base], str]
    schedules: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    schedule_errors: Callable[[config.Base, int, int], dict[str, str]] = (
        lambda _base, _size, _examples: {}
    )
    rules: tuple[str, ...] = (config.Scaling.rule,)
    recipe_errors: Callable[[config.Base, int, int], dict[str, str]] = (
        lambda _base, _size, _examples: {}
    )
    scaling_error: Callable[[config.Optimizer, config.Scaling, int], str] = (
        lambda _optimizer, _scaling, _size: ""
    )
    whole_epochs: Callable[[config.Base, int, int], int] = (
        lambda base, _size, _examples: base.train.epochs
    )
    kept_epochs: Callable[[str], Sequence[int]] = lambda _folder: ()


def check_bases(
    merged: Mapping[str, Any],
    study: config.Study,
    bases: Mapping[str, config.Base],
    catalogue: Catalogue,
    errors: list[str],
) -> dict[str, int]:
    """Check each group against the catalogue and return the batch size in examples of those that can be divided."""
    sizes = {}
    for name, base in {"": study, **bases}.items():
        found = _check_names(base, catalogue)
        try:
            examples = catalogue.training_examples(base.data)
        except bounds.FieldError as error:
            found[error.field] = str(error)
        except (ValueError, OSError) as error:
            found["data.name"] = str(error)
        else:
            size = counts.resolve(base.batch.size, examples)
            if not 0 < size <= examples:
                found["batch.size"] = (
                    f"is {size} examples; must be 1 to {examples}, the size of the training set"
                )
            else:
                wrong = catalogue.recipe_errors(base, size, examples)
                found |= wrong
                # The base run itself is not trained: a rule need not fit its batch size.
                if name:
                    found |= _check_rates(base, size, examples, catalogue)
                if not wrong:
                    sizes[name] = size
                    last = catalogue.whole_epochs(base, size, examples)
                    found |= _check_epochs(study, name, last, catalogue) if name else {}
        errors += [
            f"{_place(merged, name, path)}: {error}" for path, error in found.items()
        ]
    return sizes


def check_starts(
    merged: Mapping[str, Any],
    bases: Mapping[str, config.Base],
    sizes: Mapping[str, int],
    catalogue: Catalogue,
) -> list[str]:
    """Check that each group that begins with another's weights can do so."""
    errors = []
    for name, base in bases.items():
        found = _check_start(base, bases, sizes, catalogue)
        errors += [
            f"{_place(merged, name, path)}: {error}" for path, error in found.items()
        ]
    return errors


def check_study(study: config.Study, catalogue: Catalogue) -> list[str]:
    """Check what a study measures, and the groups that it names."""
    named = [
        ("measure.probes", study.measure.probes, "probe", catalogue.probes),
        ("measure.modes", study.measure.modes, "mode", catalogue.modes),
        ("compare", study.compare, "group", study.groups),
        ("reference.values", study.reference.values, "group", study.groups),
    ]
    errors = [
        f"config.{field}={name}: unknown {kind}; {conversion.did_you_mean(name, valid)}"
        for field, names, kind, valid in named
        for name in names
        if name not in valid
    ]
    if study.compare and not len(study.compare) == len(set(study.compare)) == 2:
        errors.append(
            f"config.compare={study.compare}: must name two different groups, the baseline first"
        )
    if study.measure.probes == ("path",) and not study.compare:
        errors.append(
            "config.measure.probes=path: measures pairs, but config.compare names no two groups"
        )
    along = study.measure.along
    if along != config.Along():
        errors += [
            f"config.measure.along.probes={name}: unknown probe; {conversion.did_you_mean(name, catalogue.probes)}"
            for name in along.probes
            if name not in catalogue.probes
        ]
        if "path" in along.probes:
            errors.append(
                "config.measure.along.probes=path: measures pairs, and no point along training has a partner"
            )
    path = study.measure.path
    if path.first >= path.last:
        errors.append(
            f"config.measure.path.last={path.last}: must be above config.measure.path.first={path.first}"
        )
    return errors


def _check_start(
    base: config.Base,
    bases: Mapping[str, config.Base],
    sizes: Mapping[str, int],
    catalogue: Catalogue,
) -> dict[str, str]:
    group, epoch = base.start.group, base.start.epoch
    if not group:
        unused = "counts the epochs of config.start.group, which is empty"
        return {"start.epoch": unused} if epoch else {}
    donor = bases.get(group)
    if donor is None:
        return {
            "start.group": f"unknown group; {conversion.did_you_mean(group, bases)}"
        }
    if donor.start.group:
        return {"start.group": "begins with the weights of another group itself"}
    same = map(config.identity_fields, (donor.model, donor.data))
    if [*same] != [*map(config.identity_fields, (base.model, base.data))]:
        return {"start.group": "has another network or other data"}
    if group in sizes:
        examples = catalogue.training_examples(donor.data)
        last = catalogue.whole_epochs(donor, sizes[group], examples)
        if epoch > last:
            return {"start.epoch": f"the runs of {group} train {last} whole epochs"}
    return {}


def _check_epochs(
    study: config.Study, group: str, last: int, catalogue: Catalogue
) -> dict[str, str]:
    """Check that a group's runs can be measured along training, where they train ``last`` whole epochs."""
    asked = set(study.measure.along.epochs)
    if max(asked, default=0) > last:
        return {
            "measure.along.epochs": f"the runs of {group} train {last} whole epochs"
        }
    if study.run:
        kept = {0, *catalogue.kept_epochs(study.run)}
        if asked - kept:
            valid = ", ".join(map(str, sorted(kept)))
            return {
                "measure.along.epochs": f"the run has its weights after epochs {valid} alone, those named when it was trained"
            }
    return {}


def _check_names(base: config.Base, catalogue: Catalogue) -> dict[str, str]:
    found = {}
    if base.model.name not in catalogue.models:
        found["model.name"] = (
            f"unknown model; {conversion.did_you_mean(base.model.name, catalogue.models)}"
        )
    elif base.model.variant not in (variants := catalogue.models[base.model.name]):
        found["model.variant"] = (
            f"unknown variant of {base.model.name}; {conversion.did_you_mean(base.model.variant, variants)}"
        )
    elif error := catalogue.model_error(base):
        found["model.name"] = error
    return found | _check_optimizer(base.optimizer, catalogue)


def _check_optimizer(
    optimizer: config.Optimizer, catalogue: Catalogue
) -> dict[str, str]:
    name = optimizer.name
    if name not in catalogue.optimizers:
        return {
            "optimizer.name": f"unknown optimizer; {conversion.did_you_mean(name, catalogue.optimizers)}"
        }
    taken = catalogue.optimizers[name]
    found = _check_arguments("optimizer", name, optimizer.arguments, taken)
    fields = dict.fromkeys(config.DECAY_ARGUMENTS, "weight_decay")
    fields |= dict.fromkeys(config.MASK_ARGUMENTS, "decay_mask")
    for key in fields.keys() & optimizer.arguments.keys():
        found[f"optimizer.arguments.{key}"] = (
            f"is set by config.optimizer.{fields[key]}"
        )
    decays = set(taken).intersection(config.DECAY_ARGUMENTS)
    masks = set(taken).intersection(config.MASK_ARGUMENTS)
    if optimizer.decay_mask != "all" and decays and not masks:
        found["optimizer.decay_mask"] = (
            f"{name} decays every parameter or none; must be all"
        )
    if not found and (error := catalogue.optimizer_error(optimizer)):
        found["optimizer.arguments"] = f"{name} does not take them: {error}"
    return found


def _check_arguments(
    field: str, name: str, arguments: Mapping[str, Any], taken: Sequence[str]
) -> dict[str, str]:
    """Check the keyword arguments of an Optax function, ``name``, that takes those of ``taken``."""
    found = {}
    for key, value in arguments.items():
        if key not in taken:
            found[f"{field}.arguments.{key}"] = (
                f"unknown argument of {name}; {conversion.did_you_mean(key, taken)}"
            )
        elif not _is_plain(value):
            found[f"{field}.arguments.{key}"] = (
                "must be text, a finite number, True, False, None or a tuple of these"
            )
    return found


def _check_rates(
    base: config.Base, size: int, examples: int, catalogue: Catalogue
) -> dict[str, str]:
    """Check how the learning rate follows training and batch size, for updates of ``size`` of ``examples``."""
    found = _check_schedule(base, size, examples, catalogue)
    rule = base.scaling.rule
    if rule not in catalogue.rules:
        found["scaling.rule"] = (
            f"unknown rule; {conversion.did_you_mean(rule, catalogue.rules)}"
        )
    elif (
        rule != config.Scaling.rule
        and not _check_optimizer(base.optimizer, catalogue)
        and (error := catalogue.scaling_error(base.optimizer, base.scaling, size))
    ):
        found["scaling.rule"] = error
    return found


def _check_schedule(
    base: config.Base, size: int, examples: int, catalogue: Catalogue
) -> dict[str, str]:
    """Check how the learning rate changes while a run of ``size`` examples per update trains on ``examples``."""
    if base.schedule == config.Schedule():
        return {}
    name = base.schedule.name
    if name not in catalogue.schedules:
        return {
            "schedule.name": f"unknown schedule; {conversion.did_you_mean(name, catalogue.schedules)}"
        }
    taken = catalogue.schedules[name]
    return _check_arguments(
        "schedule", name, base.schedule.arguments, taken
    ) or catalogue.schedule_errors(base, size, examples)


def _is_plain(value: Any) -> bool:
    """Say whether JSON can hold a value, so that it can enter the hash of a run."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _place(merged: Mapping[str, Any], group: str, path: str) -> str:
    """Name the field where the value was set: in the group if it is there, else in the base run."""
    for prefix in (f"groups.{group}.", ""):
        value: Any = merged
        for key in f"{prefix}{path}".split("."):
            value = value[key] if isinstance(value, Mapping) and key in value else None
        if value is not None:
            return f"config.{prefix}{path}={value}"
    return f"config.{path}"
