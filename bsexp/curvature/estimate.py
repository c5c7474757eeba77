"""A random estimate and how far it can be trusted."""

import dataclasses

import numpy as np
import scipy.stats


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number found from random samples, with its standard error.

    Attributes:
        value: the estimate.
        stderr: its standard error; 0 where it is exact.
        num_matvecs: operator-vector products spent.
        samples: float64 [n], the single samples; their mean is the value unless an exact part was added to it.
        stopped: why it ended: "tolerance" (the requested relative standard error was reached) or "budget" (all
            products spent).
    """

    value: float
    stderr: float
    num_matvecs: int
    samples: np.ndarray = dataclasses.field(repr=False)
    stopped: str

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval: value -+ t stderr, t the quantile of Student with n - 1 degrees of freedom.

        Args:
            level: probability with which it holds the truth, where the samples are close to normal.
        """
        if self.stderr == 0:
            return self.value, self.value
        half_width = self.stderr * scipy.stats.t.ppf(
            (1 + level) / 2, len(self.samples) - 1
        )
        return self.value - half_width, self.value + half_width


def from_samples(
    samples: np.ndarray, num_matvecs: int, stopped: str, exact: float = 0.0
) -> Estimate:
    """Make an estimate of an exact part plus the mean of independent samples.

    The standard error is the samples' standard deviation (n - 1) over sqrt(n).

    Args:
        samples: float64 [n], n at least 2.
        num_matvecs: operator-vector products spent.
        stopped: why sampling ended, see `Estimate`.
        exact: what is known without sampling.
    """
    deviation = samples.std(ddof=1) / np.sqrt(len(samples))
    return Estimate(
        float(exact + samples.mean()), float(deviation), num_matvecs, samples, stopped
    )


def within(samples: np.ndarray, tolerance: float, exact: float = 0.0) -> bool:
    """Say whether the 95 % interval's half-width is at most 1.96 tolerance of the estimate's size.

    That is a relative standard error within the tolerance, made stricter where few samples make it uncertain.

    Args:
        samples: float64 [n], n at least 2.
        tolerance: relative standard error.
        exact: what is known without sampling.
    """
    found = from_samples(samples, 0, "", exact)
    low, high = found.interval(0.95)
    return (high - low) / 2 <= scipy.stats.norm.ppf(0.975) * tolerance * abs(
        found.value
    )
