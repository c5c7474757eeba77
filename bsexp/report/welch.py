"""The test behind every difference that a report calls significant."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy import stats

LEVEL = 0.05  # of the test


def welch(baseline: Sequence[float], compared: Sequence[float]) -> float:
    """The p-value of the one-sided Welch test that ``baseline`` is higher.

    NaN for one seed, and where neither group has any spread (up to rounding).
    """
    if min(len(baseline), len(compared)) < 2 or max(
        stdev(baseline), stdev(compared)
    ) <= 1e-12 * max(map(abs, (*baseline, *compared))):
        return math.nan
    moments = [
        f(values) for values in (baseline, compared) for f in (fmean, stdev, len)
    ]
    test = stats.ttest_ind_from_stats(*moments, equal_var=False, alternative="greater")
    return float(test.pvalue)


def standard_error(baseline: Sequence[float], compared: Sequence[float]) -> float:
    """The standard error of the difference of the means that the test divides by; NaN for one seed."""
    if min(len(baseline), len(compared)) < 2:
        return math.nan
    return math.hypot(
        *(stdev(values) / math.sqrt(len(values)) for values in (baseline, compared))
    )


def written(p_value: float) -> str:
    """Write a p-value with what it is compared by, "= 0.012" or "< 0.001"; empty for NaN."""
    if math.isnan(p_value):
        return ""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}"
