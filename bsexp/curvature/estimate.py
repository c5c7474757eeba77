"""A random estimate and how far it can be trusted."""

import dataclasses

import numpy as np
import scipy.stats

# A standard error that is small by luck must not end the sampling. Coverage of the 95 % intervals of sampling that
# stopped at 5 % and at 1 %, on a spectrum 1 / i without and with a control, 4 000 trials: 93.0 and 92.2 % where the
# tolerance had to hold once, of 8 samples or more; 93.4 and 93.7 % of 16 or more and again 4 samples later; 94.2 and
# 94.0 % of 12 or more and again 8 samples later, which costs no more where few are enough.
LEAST_SAMPLES = 12
RECENT = 8


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
        """Return the confidence interval, see `mean_interval`; longer on one side where the samples are skew.

        Args:
            level: probability with which it holds the truth.
        """
        lower, upper = mean_interval(self.samples, level)
        exact = self.value - self.samples.mean()
        return float(lower + exact), float(upper + exact)


def mean_interval(
    samples: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of a confidence interval for the mean of independent samples.

    Student's t with n - 1 degrees of freedom, for T + g T^2 / (3 sqrt(n)) + g^2 T^3 / (27 n) + g / (6 sqrt(n)) in place
    of T = (mean - truth) / stderr, where g is the samples' skewness: a quadratic form of few large eigenvalues is skew,
    and the plain interval then misses above. Measured, of 20 000 trials with 8 and with 32 samples: normal 95 and 95 %,
    chi-square with one degree of freedom 93 and 95 % (plain 85 and 91 %), uniform 97 and 96 %, Student with 4 degrees
    93 and 93 % (plain 96 and 95 %). Two samples have no skewness: there it is the plain one.

    Args:
        samples: float64 [n, ...], n at least 2.
        level: probability with which it holds the truth.

    Returns:
        Lower and upper ends, each [...].

    Source: Hall 1992, doi:10.1111/j.2517-6161.1992.tb01876.x.
    """
    number, mean = len(samples), samples.mean(axis=0)
    deviation = samples.std(axis=0, ddof=1)
    bend = _skewness(samples - mean, deviation) / (3 * np.sqrt(number))
    straight = np.abs(bend) < 1e-9  # the inverse of the cubic is then 0 / 0
    safe = np.where(straight, 1.0, bend)

    def unbent(transformed: float) -> np.ndarray:
        """Return T for which T + b T^2 + b^2 T^3 / 3 + b / 2 is what is given."""
        found = (np.cbrt(1 + 3 * safe * (transformed - safe / 2)) - 1) / safe
        return np.where(straight, transformed, found)

    stderr = deviation / np.sqrt(number)
    quantile = scipy.stats.t.ppf((1 + level) / 2, number - 1)
    return mean - stderr * unbent(quantile), mean - stderr * unbent(-quantile)


def _skewness(centred: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return n / ((n - 1)(n - 2)) sum of cubes of what is standardised; 0 of two samples, and of equal ones."""
    number = len(centred)
    if number == 2:
        return np.zeros_like(deviation)
    standard = np.divide(
        centred, deviation, out=np.zeros_like(centred), where=deviation > 0
    )
    return number / ((number - 1) * (number - 2)) * (standard**3).sum(axis=0)


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
    """Say whether sampling may stop: the relative standard error is within the tolerance, and not by luck.

    That is, half the 95 % interval is at most 1.96 tolerance of the estimate's size, of these samples and without the
    last RECENT of them, and there are LEAST_SAMPLES without these.

    Args:
        samples: float64 [n].
        tolerance: relative standard error; with 0 it never may, also where all samples are equal.
        exact: what is known without sampling.
    """
    earlier = samples[:-RECENT]
    return (
        tolerance > 0
        and len(earlier) >= LEAST_SAMPLES
        and all(_short(part, tolerance, exact) for part in (earlier, samples))
    )


def _short(samples: np.ndarray, tolerance: float, exact: float) -> bool:
    lower, upper = mean_interval(samples)
    size = abs(exact + samples.mean())
    return bool((upper - lower) / 2 <= scipy.stats.norm.ppf(0.975) * tolerance * size)
