"""The typed door: settings and command-line overrides in, frozen dataclasses out, all errors at once."""

import ast
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bsexp import checks, config, conversion
from bsexp.catalogue import Catalogue

BASE_FIELDS = tuple(field.name for field in dataclasses.fields(config.Base))


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, one message a line."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study that went through the door, with its runs resolved."""

    study: config.Study
    runs: tuple[config.Run, ...]


def open_study(
    settings: Mapping[str, Any],
    overrides: Iterable[tuple[str, str]],
    catalogue: Catalogue,
) -> Plan:
    """Turn an experiment's settings and the command line's overrides into a checked study.

    Args:
        settings: nested mapping of the fields that differ from their defaults.
        overrides: ("batch.size", "512") for ``--config.batch.size=512``.
        catalogue: the names that exist.

    Raises:
        ConfigError: with every error found, each as ``config.field=value: what it must be``.
    """
    errors: list[str] = []
    overrides = tuple(overrides)
    merged = _apply(settings, overrides, errors)
    if merged.get("run"):
        merged = _of_run(merged, catalogue, errors)
    study = conversion.build(config.Study, merged, "config", errors)
    # ConfigDict sorts its keys; a reader wants the baseline first.
    names = dict.fromkeys(
        (*(name for name in study.compare if name in study.groups), *study.groups)
    )
    bases = {name: _group(merged, name, errors) for name in names}
    sizes = checks.check_bases(merged, study, bases, catalogue, errors)
    errors += checks.check_starts(merged, bases, sizes, catalogue)
    errors += checks.check_study(study, catalogue)
    wrong = {error.partition("=")[0] for error in errors}
    fine = [each for each in overrides if f"config.{each[0]}" not in wrong]
    errors += _without_effect(fine, study.groups)
    if not errors and not study.run:  # a finished run was trained as it was
        errors += checks.check_effects(merged, bases)
    if not errors:
        errors += checks.check_ghosts(merged, bases, sizes, catalogue)
        errors += checks.check_measurable(study, bases, catalogue)
    if errors:
        raise ConfigError(tuple(dict.fromkeys(errors)))
    bases = {name: _with_code(base, catalogue) for name, base in bases.items()}
    study = _with_code_of(study, bases)
    seeds = range(study.first_seed, study.first_seed + study.seeds)
    runs = tuple(_run(name, seed, sizes, bases) for seed in seeds for name in bases)
    _check_distinct(runs[: len(bases)])
    return Plan(study, runs)


def fields(plan: Plan) -> str:
    """Write out every field of a study but where its data lie, which may differ from one machine to another."""
    found = conversion.leaves(dataclasses.asdict(plan.study))
    alike = {key: found[key] for key in sorted(found) if not key.endswith("data.dir")}
    return json.dumps(alike)


def _without_effect(
    overrides: Iterable[tuple[str, str]], groups: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield what is wrong with overrides that every group lays something over."""
    for key, value in overrides:
        if overlaid(key, groups):
            names = ", ".join(groups)
            yield f"config.{key}={value}: every group sets it; say config.groups.NAME.{key}, NAME being one of {names}"


def overlaid(key: str, groups: Mapping[str, Mapping[str, Any]]) -> bool:
    """Say whether every group lays a value of its own over a field of the base run, such as batch.size."""
    path = key.split(".")
    return path[0] in BASE_FIELDS and all(_sets(each, path) for each in groups.values())


def _sets(group: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(group, Mapping):
            return True
        if name not in group:
            return False
        group = group[name]
    # One mapping is laid over another, and replaces none of its other entries.
    return not isinstance(group, Mapping)


def _run(
    group: str,
    seed: int,
    sizes: Mapping[str, int],
    bases: Mapping[str, config.Base],
) -> config.Run:
    """Resolve a run; the one whose weights it begins with has a random start."""
    donor = bases[group].start.group
    begun = _run(donor, seed, sizes, bases) if donor else None
    return config.Run(group, seed, sizes[group], bases[group], begun)


def _with_code_of(
    study: config.Study, bases: Mapping[str, config.Base]
) -> config.Study:
    """Fill it in for the study's own network; one that no group has is not trained, and need not be there."""
    codes = {base.model.name: base.model.code for base in bases.values()}
    code = codes.get(study.model.name, study.model.code)
    model = dataclasses.replace(study.model, code=code)
    return dataclasses.replace(study, model=model)


def _with_code(base: config.Base, catalogue: Catalogue) -> config.Base:
    """Fill in which file holds a network of the user's: what is in it decides the numbers."""
    if not base.model.own:
        return base
    code = catalogue.network_code(base.model.name)
    return dataclasses.replace(base, model=dataclasses.replace(base.model, code=code))


def _of_run(
    merged: dict[str, Any], catalogue: Catalogue, errors: list[str]
) -> dict[str, Any]:
    """Replace what is trained by one finished run; only where its data lie and how they are read may differ."""
    try:
        found = catalogue.finished_run(str(merged["run"]))
    except (ValueError, OSError) as error:
        raise ConfigError([*errors, f"config.run={merged['run']}: {error}"]) from error
    if "start" in found:
        raise ConfigError(
            [
                *errors,
                f"config.run={merged['run']}: began with the weights of another run, and is measured in their study alone",
            ]
        )
    fixed = (*BASE_FIELDS, "groups", "compare", "seeds", "first_seed")
    given = conversion.leaves({key: merged[key] for key in fixed if key in merged})
    place = {
        field: given.pop(f"data.{field}")
        for field in ("dir", "streaming", "workers")
        if f"data.{field}" in given
    }
    errors += [
        f"config.{field}={value}: belongs to config.run and cannot be set beside it"
        for field, value in given.items()
    ]
    kept = {key: value for key, value in merged.items() if key not in BASE_FIELDS}
    # A run that is older than a field was trained with that field's default.
    base = {field: dict(found[field]) for field in BASE_FIELDS if field in found}
    base["data"] |= place
    return {
        **kept,
        **base,
        "groups": {found["group"]: {}},
        "seeds": 1,
        "first_seed": found["seed"],
    }


def _check_distinct(runs: Sequence[config.Run]) -> None:
    """Refuse two groups that are the same run: they would share a folder."""
    groups: dict[str, str] = {}
    for run in runs:
        other = groups.setdefault(run.name, run.group)
        if other != run.group:
            raise ConfigError(
                [f"config.groups.{run.group}: is the same run as config.groups.{other}"]
            )


def _apply(
    settings: Mapping[str, Any], overrides: Iterable[tuple[str, str]], errors: list[str]
) -> dict[str, Any]:
    merged = _copy(settings)
    named = settings.get("groups")
    groups = {str(name).casefold(): name for name in named or ()}
    for path, text in overrides:
        *parents, leaf = path.split(".")
        if parents[:1] == ["groups"] and len(parents) > 1:
            # A new name adds a group; one that differs in case alone is a slip, and would train another run.
            meant = groups.get(parents[1].casefold(), parents[1])
            if meant != parents[1]:
                errors.append(
                    f"config.{path}={text}: no such group; did you mean {meant}?"
                )
                continue
        place: Any = merged
        for parent in parents:
            place = place.setdefault(parent, {}) if isinstance(place, dict) else None
        if isinstance(place, dict) and all((*parents, leaf)):
            place[leaf] = _literal(text)
        else:
            errors.append(f"config.{path}={text}: {conversion.NO_FIELDS}")
    return merged


def _copy(settings: Any) -> Any:
    return (
        {key: _copy(value) for key, value in settings.items()}
        if isinstance(settings, Mapping)
        else settings
    )


def _literal(text: str) -> Any:
    if text.lower() in {"nan", "inf", "-inf", "+inf"}:
        return float(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _group(merged: Mapping[str, Any], name: str, errors: list[str]) -> config.Base:
    """Build the base run of one group: the study's own fields with the group's laid over them."""
    base = {key: value for key, value in merged.items() if key in BASE_FIELDS}
    groups = merged["groups"] if isinstance(merged.get("groups"), Mapping) else {}
    group = groups.get(name, {})
    conversion.build(config.Base, group, f"config.groups.{name}", errors)
    return conversion.build(
        config.Base, _overlay(base, group), f"config.groups.{name}", []
    )


def _overlay(base: Any, over: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    return {
        **base,
        **{key: _overlay(base.get(key), value) for key, value in over.items()},
    }
