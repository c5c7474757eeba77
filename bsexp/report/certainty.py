"""What an estimate of curvature is worth by itself, whatever the spread between seeds."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from bsexp.report.folder import number, section

LARGEST = 0.25  # standard error of an estimate, relative to it, up to which it is quoted without a word


def certainty(points: Iterable[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Return what the mean of a measure over several points is worth; empty where it is not estimated.

    Returns:
        "stderr": the standard error of the mean that is due to the random vectors of its estimates, in its unit.
        "not_converged": how many of the points have an iteration that ended before it converged.
    """
    points, kind = list(points), name.split("/")[-2:][0]
    details = [section(point.get(name), "detail") for point in points]
    errors = [
        number(detail[key])
        for point in points
        for record, found in point.items()
        if name in section(found, "values")
        # Of a record that holds several measures: each has its own.
        for key in ["stderr" if record == name else f"{kind}_stderr"]
        if key in (detail := section(found, "detail"))
    ]
    ended = [each["converged"] for each in details if "converged" in each]
    return {
        **({"stderr": math.hypot(*errors) / len(errors)} if errors else {}),
        **({"not_converged": ended.count(False)} if ended else {}),
    }


def doubt(entry: Mapping[str, Any]) -> str:
    """Say in a few words why a mean is not to be quoted as it stands; empty where it is.

    Args:
        entry: "mean" with what `certainty` returns.
    """
    if entry.get("not_converged"):
        return "not converged"
    stderr = entry.get("stderr", 0.0)
    if math.isnan(stderr):  # of one random vector
        return "of unknown error"
    error = stderr / (abs(entry["mean"]) or math.inf)
    return f"known to {100 * error:.0f} % only" if error > LARGEST else ""
