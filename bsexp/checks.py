"""What is wrong with a configuration whose fields are each well-formed: unknown names, numbers that do not fit each other."""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from bsexp import bounds, config, conversion, counts, rates
from bsexp.catalogue import Catalogue

# Field -> those without which, at their defaults, it does nothing but give a run another name.
GOVERNED = {
    "optimizer.sam_adaptive": ("optimizer.sam_radius",),
    "optimizer.sam_examples": ("optimizer.sam_radius",),
    "optimizer.decay_mask": ("optimizer.weight_decay",),
    "robust.conservative_iterations": ("robust.conservative",),
    "robust.adversarial_share": ("robust.adversarial",),
    "robust.stability_noise": ("robust.stability",),
    "scaling.base_batch": ("scaling.rule",),
    "schedule.unit": ("schedule.warmup", "schedule.arguments"),
    "batch.growth": ("batch.growth_epochs",),
    "data.noise_seed": ("data.label_noise",),
    "data.split_seed": ("data.train_size", "data.validation_size"),
    "train.monitor": ("train.patience",),
}


def check_bases(
    merged: Mapping[str, Any],
    study: config.Study,
    bases: Mapping[str, config.Base],
    catalogue: Catalogue,
    errors: list[str],
) -> dict[str, int]:
    """Check each group against the catalogue and return the batch size in examples of those that can be divided.

    The base run itself, over which the groups are laid, is not trained: its numbers need not fit each other.
    """
    sizes, wrong_in = {}, {}
    for name, base in bases.items():
        found = wrong_in[name] = _check_names(base, catalogue)
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
                found |= rates.check_rates(base, size, examples, catalogue)
                if not wrong:
                    sizes[name] = size
                    last = catalogue.whole_epochs(base, size, examples)
                    found |= _check_epochs(study, name, last, catalogue)
    errors += _told(merged, wrong_in)
    return sizes


def _told(
    merged: Mapping[str, Any], wrong_in: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Yield what is wrong in each group; of a field of the base run also in which, where it is not the same in all."""
    for name, found in wrong_in.items():
        for path, error in found.items():
            place = _place(merged, name, path)
            of_base = not place.startswith(
                (f"config.groups.{name}.", "config.measure.")
            )
            alike = all(each.get(path) == error for each in wrong_in.values())
            named = f" (group {name})" if of_base and not alike else ""
            yield f"{place}: {error}{named}"


def check_starts(
    merged: Mapping[str, Any],
    bases: Mapping[str, config.Base],
    sizes: Mapping[str, int],
    catalogue: Catalogue,
) -> Iterator[str]:
    """Check that each group that begins with another's weights can do so."""
    wrong_in = {
        name: _check_start(base, bases, sizes, catalogue)
        for name, base in bases.items()
    }
    return _told(merged, wrong_in)


def check_effects(
    merged: Mapping[str, Any], bases: Mapping[str, config.Base]
) -> Iterator[str]:
    """Yield what is set and does nothing in any group; groups may differ in whether it does."""
    default = config.Base()

    def differs(path: str, base: config.Base) -> bool:
        value = attrgetter(path)
        return value(base) != value(default)

    for path, governors in GOVERNED.items():
        idle = [
            differs(path, base) and not any(differs(each, base) for each in governors)
            for base in bases.values()
        ]
        if idle and all(idle):
            place = _place(merged, next(iter(bases)), path)
            needed = " or ".join(f"config.{each}" for each in governors)
            yield f"{place}: does nothing without {needed}"


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
    errors += _check_reference(study.reference, catalogue)
    if "" in study.groups:
        errors.append("config.groups: a group needs a name")
    if study.first_seed + study.seeds > 2**31:
        errors.append(
            f"config.first_seed={study.first_seed}: with config.seeds={study.seeds} the last seed would be above {2**31 - 1:,}"
        )
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
    errors += _check_hessian(study.measure)
    errors += _check_groups(study.measure)
    path = study.measure.path
    if path.first >= path.last:
        errors.append(
            f"config.measure.path.last={path.last}: must be above config.measure.path.first={path.first}"
        )
    return errors


def check_ghosts(
    merged: Mapping[str, Any],
    bases: Mapping[str, config.Base],
    sizes: Mapping[str, int],
    catalogue: Catalogue,
) -> Iterator[str]:
    """Check that batch norm sees two examples in the groups, in which nothing else is wrong: of one it leaves nothing."""
    wrong_in = {}
    for name, base in bases.items():
        ghost = base.batch.ghost or sizes[name]
        field = "batch.ghost" if base.batch.ghost else "batch.size"
        alone = ghost == 1 and catalogue.normalised(base)
        words = "is 1 example, from which batch norm takes all that it is told by; must be >= 2"
        wrong_in[name] = {field: words} if alone else {}
    return _told(merged, wrong_in)


def check_measurable(
    study: config.Study, bases: Mapping[str, config.Base], catalogue: Catalogue
) -> Iterator[str]:
    """Check that the groups, in which nothing else is wrong, are such that all that is asked for can be measured."""
    measure = study.measure
    networks = {
        (base.model.name, base.model.variant, base.data.name)
        for base in map(bases.get, study.compare)
    }
    if "path" in measure.probes and len(networks) > 1:
        first, second = study.compare
        yield (
            f"config.measure.probes=path: {first} and {second} have different networks or data, and no path between them; "
            "leave it out"
        )
    for field, probes in (
        ("measure.probes", measure.probes),
        ("measure.along.probes", measure.along.probes),
    ):
        for name, base in bases.items():
            if "invariance" in probes and not catalogue.normalised(base):
                yield (
                    f"config.{field}=invariance: the network of {name} has no batch norm that could take a factor out again"
                )


def _check_reference(
    reference: config.Reference, catalogue: Catalogue
) -> Iterator[str]:
    """Refuse published values that would stand beside nothing; a data set need not be here to have a name."""
    own = config.Model(name=reference.model).own
    if reference.model and not own and reference.model not in catalogue.models:
        valid = conversion.did_you_mean(reference.model, catalogue.models)
        yield f"config.reference.model={reference.model}: unknown model; {valid}"
    for group, values in reference.values.items():
        for name in values:
            if not catalogue.is_measure(name):
                yield (
                    f"config.reference.values.{group}={name}: unknown measure; such as test_accuracy/batch, or another that "
                    "measurements.json has"
                )


def _check_groups(measure: config.Measure) -> Iterator[str]:
    """Refuse groups of one example in mode batch, from which batch norm takes all that it is told by."""
    asked = {*measure.probes, *measure.along.probes}
    alone = measure.flatness.sam_examples == 1
    if "flatness" in asked and "batch" in measure.modes and alone:
        yield "config.measure.flatness.sam_examples=1: in mode batch must be >= 2; or leave batch out of config.measure.modes"


def _check_hessian(measure: config.Measure) -> Iterator[str]:
    chosen = measure.hessian
    if chosen.eigenvalues > chosen.lanczos_iterations:
        yield (
            f"config.measure.hessian.eigenvalues={chosen.eigenvalues}: must be at most "
            f"config.measure.hessian.lanczos_iterations={chosen.lanczos_iterations}"
        )
    fewest = config.FEWEST_TRACE_PROBES
    if chosen.trace_tolerance and chosen.trace_probes <= fewest:
        yield (
            f"config.measure.hessian.trace_tolerance={chosen.trace_tolerance}: is looked at from {fewest} vectors on; "
            f"config.measure.hessian.trace_probes={chosen.trace_probes} must be above"
        )
    if chosen.preconditioned and "batch" not in measure.modes:
        yield (
            "config.measure.hessian.preconditioned=True: is measured in mode batch, which is not among "
            f"config.measure.modes={measure.modes}"
        )


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
    if base.model.own:
        found |= _check_own(base, catalogue)
    elif base.model.name not in catalogue.models:
        valid = conversion.did_you_mean(base.model.name, catalogue.models)
        found["model.name"] = (
            f"unknown model; {valid}, or MODULE:NAME for a network of your own"
        )
    elif base.model.variant not in (variants := catalogue.models[base.model.name]):
        found["model.variant"] = (
            f"unknown variant of {base.model.name}; {conversion.did_you_mean(base.model.variant, variants)}"
        )
    elif base.model.code:
        found["model.code"] = "is that of a network of your own, MODULE:NAME"
    elif error := catalogue.model_error(base):
        found["model.name"] = error
    return found | rates.check_optimizer(base.optimizer, catalogue)


def _check_own(base: config.Base, catalogue: Catalogue) -> dict[str, str]:
    """Check a network of the user's, and that its file is the one that the configuration names."""
    if error := catalogue.model_error(base):
        return {"model.name": error}
    if base.model.variant != config.Model.variant:
        return {"model.variant": f"{base.model.name} has no variants"}
    code = catalogue.network_code(base.model.name)
    if base.model.code not in {"", code}:
        return {
            "model.code": f"the file that holds {base.model.name} has become another one, {code}"
        }
    return {}


def _place(merged: Mapping[str, Any], group: str, path: str) -> str:
    """Name the field where the value was set: in the group if it is there, else in the base run."""
    for prefix in (f"groups.{group}.", ""):
        value: Any = merged
        for key in f"{prefix}{path}".split("."):
            value = value[key] if isinstance(value, Mapping) and key in value else None
        if value is not None:
            return f"config.{prefix}{path}={value}"
    return f"config.{path}"
