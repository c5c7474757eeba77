"""What the fields of a configuration must be: functions of a value to "" or the words that say it."""

import math
from collections.abc import Callable, Mapping
from typing import Any

LEAST_RATE = 1e-37  # float32 loses digits below 1.2e-38
Check = Callable[[Any], str]


class FieldError(ValueError):
    """A value that does not fit what stands outside the configuration, such as a data set.

    Attributes:
        field: its place in the base run, such as ``data.train_size``, or the flag, or what of the machine.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def positive(value: float) -> str:
    """Return "" for a number above zero."""
    return "" if value > 0 else "must be > 0"


def a_rate(value: float) -> str:
    """Return "" for a number above zero that float32 holds with all its digits."""
    if value > 0 and not LEAST_RATE <= value <= 1 / LEAST_RATE:
        return f"must be {LEAST_RATE:g} to {1 / LEAST_RATE:g}, for float32"
    return positive(value)


def not_negative(value: float) -> str:
    """Return "" for a number that is not below zero."""
    return "" if value >= 0 else "must be >= 0"


def between(low: int, high: int) -> Check:
    """Return the check for a number from ``low`` to ``high``; a low of 1 is for whole ones."""

    def check(value: int) -> str:
        if value < low:
            return "must be > 0" if low == 1 else f"must be >= {low}"
        return "" if value <= high else f"must be at most {high}"

    return check


def one_of(*names: str) -> Check:
    """Return the check for one of several names."""

    def check(value: str) -> str:
        return "" if value in names else f"must be {' or '.join(names)}"

    return check


def some_of(*names: str) -> Check:
    """Return the check for different ones of several names, at least one of them."""
    known = one_of(*names)
    return lambda values: some(values) or next(filter(None, map(known, values)), "")


def below_one(value: float) -> str:
    """Return "" for a number of the half-open interval [0, 1)."""
    return "" if 0 <= value < 1 else "must be >= 0 and < 1"


def fraction(value: float) -> str:
    """Return "" for a number of the closed interval [0, 1]."""
    return "" if 0 <= value <= 1 else "must be from 0 to 1"


def or_zero(check: Check) -> Check:
    """Return the check that also lets 0 pass."""

    def relaxed(value: Any) -> str:
        error = check(value)
        return f"{error}, or 0" if error and value != 0 else ""

    return relaxed


def some(values: tuple[Any, ...] | Mapping[str, Any]) -> str:
    """Return "" for a collection that holds something, nothing of it twice."""
    if not len(values):
        return "must name at least one"
    return "" if len(set(values)) == len(values) else "must not repeat"


def or_none(check: Check) -> Check:
    """Return the check for a collection that may be empty."""
    return lambda values: check(values) if len(values) else ""


def some_positive(values: tuple[float, ...]) -> str:
    """Return "" for different numbers above zero, at least one of them."""
    return some(values) or next(filter(None, map(positive, values)), "")


def ascending(values: tuple[float, ...]) -> str:
    """Return "" for different numbers above zero, at least one of them, each above the one before."""
    in_order = list(values) == sorted(values)
    return some_positive(values) or ("" if in_order else "must ascend")


def some_not_negative(values: tuple[float, ...]) -> str:
    """Return "" for different numbers, none below zero, at least one of them."""
    return some(values) or next(filter(None, map(not_negative, values)), "")


def published(values: Mapping[str, Any]) -> str:
    """Return "" for group -> measure -> (mean, standard deviation)."""
    pairs = [
        pair
        for group in values.values()
        for pair in (group.values() if isinstance(group, Mapping) else [group])
    ]
    return (
        ""
        if all(map(_is_mean_and_deviation, pairs))
        else "must hold (mean, standard deviation) by group and measure"
    )


def _is_mean_and_deviation(pair: Any) -> bool:
    return (
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and all(isinstance(number, int | float) and _finite(number) for number in pair)
    )


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer above all floats
        return False
