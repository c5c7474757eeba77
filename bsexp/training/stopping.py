"""When a run ends before its last epoch: a pure function of the rows that it has written."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bsexp import config

Row = Mapping[str, Any]


def conditional(train: config.Train) -> bool:
    """Say whether a run may end early, so that every row must be read before the next update."""
    return bool(train.patience or train.seconds or train.stop_at_target)


def reason(rows: Sequence[Row], train: config.Train) -> str:
    """Return why a run ends with its last row: "target", "patience", "seconds"; "" where it goes on."""
    if train.stop_at_target and target(rows, train) is not None:
        return "target"
    if train.patience and _since_best(rows, train.monitor) >= train.patience:
        return "patience"
    if train.seconds and rows and rows[-1]["seconds"] >= train.seconds:
        return "seconds"
    return ""


def target(rows: Sequence[Row], train: config.Train) -> Row | None:
    """Return the first row that reaches ``train.target`` in ``train.target_metric``; None where there is none.

    A loss reaches it from above, an accuracy from below.
    """
    if not train.target:
        return None
    sign = _sign(train.target_metric)
    return next(
        (row for row in rows if _good(row, train.target_metric) >= sign * train.target),
        None,
    )


def _since_best(rows: Sequence[Row], metric: str) -> float:
    """Return the epochs since the best one, the first of equals."""
    if not rows:
        return 0
    best = max(rows, key=lambda row: _good(row, metric))
    # Rounded: 2.3 - 0.3 is below 2.
    return round(rows[-1]["epoch"] - best["epoch"], 9)


def _good(row: Row, metric: str) -> float:
    """Return a value that is larger the better; what is not a number, in a file null, is worse than all."""
    value = row[metric]
    known = value is not None and not math.isnan(value)
    return _sign(metric) * value if known else -math.inf


def _sign(metric: str) -> int:
    return 1 if metric.endswith("accuracy") else -1
