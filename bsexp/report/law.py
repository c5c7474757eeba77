"""Updates until a target against the batch size, and the critical batch size: arXiv:1812.06162."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from scipy import stats

FEWEST = 3  # batch sizes; any law goes through two
LEVEL = 0.95  # of the interval of B_crit
# Candidates for B_crit: a 400th apart, and so far beyond the batch sizes that there these do not tell one from the next.
BEYOND, SPACING = 1e3, 1 / 400


@dataclasses.dataclass(frozen=True)
class Law:
    """Updates S = S_min (1 + B_crit / B) until the target, at batch size B; examples E = B S.

    Attributes:
        updates: S_min, of any batch size.
        critical: B_crit, in examples, where a run takes twice S_min and twice E_min = S_min B_crit.
        low: lower end of its interval at 95 %; 0 where updates that do not depend on B are as likely.
        high: upper end; infinite where updates inversely proportional to B are.
        scatter: the standard deviation of the batch sizes about the law, as a factor.
    """

    updates: float
    critical: float
    low: float
    high: float
    scatter: float

    @property
    def examples(self) -> float:
        """E_min, the examples that the smallest batches need."""
        return self.updates * self.critical

    @property
    def bounded(self) -> bool:
        """Whether the batch sizes tell B_crit from both sides."""
        return self.low > 0 and math.isfinite(self.high)

    def steps(self, size: np.ndarray | float) -> np.ndarray | float:
        """Return the updates at some batch sizes."""
        return self.updates * (1 + self.critical / size)


def fit(updates: Mapping[int, Sequence[float]]) -> Law | None:
    """Fit S = S_min (1 + B_crit / B), by least squares of the mean of log S at each batch size, all of equal weight.

    The interval holds the B_crit whose residuals R satisfy R <= R_min (1 + F / (k - 2)), of k sizes, F the quantile of
    F(1, k - 2) at 95 %: the profile likelihood. The runs of one size count as one, since they share what the settings tried
    and the law itself leave them. Wrong to use where the learning rate is not tuned for each batch size: it is then what S
    tells of (arXiv:1811.03600).

    Args:
        updates: batch size -> S of its runs.

    Returns:
        The law; None for fewer than three batch sizes.
    """
    if len(updates) < FEWEST:
        return None
    sizes = np.array([*updates], float)
    steps = np.array([fmean(map(math.log, runs)) for runs in updates.values()])
    low, high = math.log(sizes.min() / BEYOND), math.log(sizes.max() * BEYOND)
    critical = np.exp(np.arange(low, high, SPACING))
    fewest = steps - np.log1p(critical[:, None] / sizes)
    residuals = np.sum((fewest - fewest.mean(1, keepdims=True)) ** 2, axis=1)
    best, free = int(residuals.argmin()), len(sizes) - 2
    allowed = residuals[best] * (1 + stats.f.ppf(LEVEL, 1, free) / free)
    first, last = np.flatnonzero(residuals <= allowed)[[0, -1]]
    return Law(
        updates=math.exp(fewest[best].mean()),
        critical=float(critical[best]),
        low=float(critical[first]) if first else 0.0,
        high=float(critical[last]) if last < len(critical) - 1 else math.inf,
        scatter=math.exp(math.sqrt(residuals[best] / free)),
    )
