"""How many verdicts came out how, and how many tests are significant for their number."""

import itertools
import math
from collections.abc import Mapping, Sequence

from bsexp.report.verdicts import NOT_RUN, VERDICTS, Row
from bsexp.report.welch import LEVEL


def corrected(found: Sequence[Row]) -> str:
    """Say how many tests are significant, by themselves and all together (Holm 1979, 10.2307/4615733); empty without any.

    Which tests there are does not depend on how they come out.
    """
    p_values = sorted(row.p for row in found if not math.isnan(row.p))
    tests = len(p_values)
    if not tests:
        return ""
    alone = sum(p < LEVEL for p in p_values)
    held = itertools.takewhile(
        lambda place: p_values[place] < LEVEL / (tests - place), range(tests)
    )
    return (
        f"Of the {tests} tests of these pairs {alone} are significant at {100 * LEVEL:.0f} % by themselves, {len(list(held))} after Holm's correction "
        "for their number."
    )


def counts(found: Sequence[Row]) -> str:
    """Count the verdicts of some rows, those that were not run here apart."""
    numbers = {each: sum(row.verdict == each for row in found) for each in VERDICTS}
    return "; ".join(f"{n} {each}" for each, n in numbers.items() if n)


def counts_by_network(found: Sequence[Row], said: Mapping[str, str]) -> str:
    """Count the verdicts of some rows for each network apart, and those that were not run together.

    Args:
        found: the rows.
        said: network -> what is said of it in brackets behind its name.
    """
    by_network: dict[str, list[Row]] = {}
    for row in found:
        if row.verdict != NOT_RUN:
            by_network.setdefault(row.network, []).append(row)
    told = [
        f"{network} ({said[network]}): {counts(rows)}"
        for network, rows in by_network.items()
    ]
    absent = sum(row.verdict == NOT_RUN for row in found)
    return ". ".join([*told, *([f"{absent} {NOT_RUN}"] if absent else [])])
