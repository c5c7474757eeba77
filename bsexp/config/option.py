"""How one field of the configuration is declared, and which fields decide a run's numbers."""

import dataclasses
from typing import Any

from bsexp.bounds import Check

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
