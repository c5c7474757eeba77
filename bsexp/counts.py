"""Numbers of examples, written as a whole number or as a percentage of a data set."""

from bsexp.bounds import positive


def check(value: int | str) -> str:
    """Return "" for a number of examples: a whole number above zero, or a percentage."""
    if isinstance(value, int):
        return positive(value)
    try:
        return (
            "" if 0 < _percentage(value) <= 100 else "must be above 0% and at most 100%"
        )
    except ValueError:
        return 'must be a whole number or a percentage such as "10%"'


def _percentage(value: str) -> float:
    """Return the number before the percent sign; ValueError when there is none."""
    if not value.endswith("%"):
        raise ValueError(value)
    return float(value[:-1])


def resolve(value: int | str, total: int) -> int:
    """Return a number of examples: ``value`` itself, or its percentage of ``total``, rounded."""
    return value if isinstance(value, int) else round(_percentage(value) * total / 100)


def subset(value: int | str, total: int) -> int:
    """Return the size of a subset: as `resolve`, but at least one example and at most all."""
    return min(max(resolve(value, total), 1), total)
