"""From loose settings to typed dataclasses, field by field, with every error said in full."""

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

NO_FIELDS = "unknown field; what stands before the last dot has no fields of its own"


def valid_fields(
    kind: type, prefix: str = "config"
) -> list[tuple[str, dataclasses.Field]]:
    """List every field below a configuration dataclass with its dotted path."""
    listed = []
    for field in dataclasses.fields(kind):
        path = f"{prefix}.{field.name}"
        listed += (
            valid_fields(field.type, path)
            if dataclasses.is_dataclass(field.type)
            else [(path, field)]
        )
    return listed


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: dotted path -> what is no mapping."""
    found = {}
    for name, value in tree.items():
        below = isinstance(value, Mapping)
        path = f"{prefix}{name}"
        found |= leaves(value, f"{path}.") if below else {path: value}
    return found


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Say which valid name is closest, and list them all."""
    valid = list(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    return (
        f"did you mean {close[0]}? " if close else ""
    ) + f"valid: {', '.join(valid)}"


def build(kind: type, settings: Any, path: str, errors: list[str]) -> Any:
    """Build a dataclass from settings; a field in error is reported and keeps its default."""
    if not isinstance(settings, Mapping):
        errors.append(
            f"{path}={settings!r}: must be a group of fields, {path}.{dataclasses.fields(kind)[0].name} say"
        )
        return kind()
    fields = {field.name: field for field in dataclasses.fields(kind)}
    names = set(settings)
    if not all(isinstance(name, str) for name in names):
        errors.append(f"{path}: names must be text, not {sorted(map(repr, names))}")
        return kind()
    errors += [
        f"{path}.{key}{_shown(value)}: unknown field; {did_you_mean(key, fields)}"
        for key, value in settings.items()
        if key not in fields
    ]
    values = {}
    for name, field in fields.items():
        if name not in settings:
            continue
        place = f"{path}.{name}"
        if dataclasses.is_dataclass(field.type):
            values[name] = build(field.type, settings[name], place, errors)
            continue
        nested = isinstance(settings[name], Mapping) and len(settings[name])
        if nested and typing.get_origin(field.type) is not dict:
            errors += [
                f"{place}.{key}{_shown(value)}: {NO_FIELDS}"
                for key, value in settings[name].items()
            ]
            continue
        value, error = _convert(settings[name], field.type)
        error = error or (
            field.metadata["check"](value) if field.metadata["check"] else ""
        )
        if error:
            errors.append(f"{place}{_shown(settings[name])}: {error}")
        else:
            values[name] = value
    return kind(**values)


def _shown(value: Any) -> str:
    return "" if isinstance(value, Mapping) else f"={value}"


def _convert(value: Any, kind: Any) -> tuple[Any, str]:
    """Return the value as ``kind`` and an error, one of the two empty."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _convert_tuple(value, typing.get_args(kind)[0])
    if origin is dict:
        return (value, "") if _is_named(value) else (None, _unnamed(value))
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        finite = abs(value) <= sys.float_info.max  # of NaN, and of any whole number
        return (float(value), "") if finite else (None, "must be a finite number")
    allowed = typing.get_args(kind) if origin is types.UnionType else (kind,)
    if type(value) in allowed:
        return value, ""
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "True or False",
    }
    return (
        None,
        f"must be {' or '.join(names[each] for each in allowed)}, not {type(value).__name__}",
    )


def _unnamed(value: Any) -> str:
    """Say why a value is no mapping of names to values."""
    named = value if isinstance(value, Mapping) else {}
    for key in named:
        if not isinstance(key, str):
            return f"names must be text, {str(key)!r} and not {key!r}"
    if any(isinstance(each, Mapping) for each in named.values()):
        return "must be a mapping of names to values; what is listed by number is written as pairs, ((5, 0.1), (10, 0.1)) say"
    return "must be a mapping of names to values"


def _is_named(value: Any) -> bool:
    """Say whether a mapping, and every mapping in it, has text for keys."""
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and (_is_named(each) or not isinstance(each, Mapping))
        for key, each in value.items()
    )


def _convert_tuple(value: Any, kind: Any) -> tuple[Any, str]:
    if not isinstance(value, tuple | list):
        a, b = ("'a'", "'b'") if kind is str else ("a", "b")
        return (
            None,
            f"must be several values in parentheses, such as ({a}, {b}), or ({a},) for one",
        )
    items = [_convert(item, kind) for item in value]
    error = next((f"each {error}" for _, error in items if error), "")
    return tuple(item for item, _ in items), error
