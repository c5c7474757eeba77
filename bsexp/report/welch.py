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
    if (
        min(len(baseline), len(compared)) < 2
        or max(stdev(baseline), stdev(compared)) < 1e-12
    ):
        return math.nan
    moments = [
        f(values) for values in (baseline, compared) for f in (fmean, stdev, len)
    ]
    test = stats.ttest_ind_from_stats(*moments, equal_var=False, alternative="greater")
    return float(test.pvalue)
