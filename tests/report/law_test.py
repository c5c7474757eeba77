"""The law of updates against the batch size: runs that follow it, its limits, and how often its interval holds."""

import math

import numpy as np
import pytest
from scipy import optimize

from bsexp.report import law

SIZES = (16, 64, 256, 1_024, 4_096)
UPDATES, CRITICAL = 90.0, 300.0
NOISE = (1.02, 0.98, 1.01, 0.99, 1.0)


def exact(size):
    return UPDATES * (1 + CRITICAL / size)


def noisy(updates):
    return {size: [updates(size) * by] for size, by in zip(SIZES, NOISE, strict=True)}


def test_the_law_of_runs_that_follow_it_exactly_is_found():
    found = law.fit({size: [exact(size)] * 2 for size in SIZES})
    assert found.critical == pytest.approx(CRITICAL, rel=2e-3), "within a candidate"
    assert found.updates == pytest.approx(UPDATES, rel=2e-3)
    assert found.examples == pytest.approx(UPDATES * CRITICAL, rel=3e-3)
    assert found.scatter == pytest.approx(1, abs=2e-3)
    assert found.low <= found.critical <= found.high
    assert found.high / found.low < 1.02
    assert found.bounded
    np.testing.assert_allclose(
        found.steps(np.array(SIZES)), [exact(size) for size in SIZES], rtol=2e-3
    )


def test_the_fit_is_that_of_a_general_least_squares_with_equal_weights():
    """Of the means of the logarithms: a size with more runs weighs as much as one with a single one."""
    runs = noisy(exact)
    runs[16] = [0.5 * exact(16), 2 * exact(16), exact(16)]
    means = {size: np.mean(np.log(values)) for size, values in runs.items()}

    def residuals(logs):
        return [logs[0] + np.log1p(np.exp(logs[1]) / b) - s for b, s in means.items()]

    reference = optimize.least_squares(residuals, [5.0, 5.0])
    found = law.fit(runs)
    assert np.log(found.updates) == pytest.approx(reference.x[0], abs=2e-3)
    assert np.log(found.critical) == pytest.approx(reference.x[1], abs=3e-3)
    scatter = math.sqrt(2 * reference.cost / 3)
    assert math.log(found.scatter) == pytest.approx(scatter, rel=1e-3)


def test_three_times_the_sizes_have_three_times_the_critical_one():
    plain = law.fit(noisy(exact))
    scaled = law.fit({3 * size: runs for size, runs in noisy(exact).items()})
    for name in ("critical", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(
            3 * getattr(plain, name), rel=6e-3
        )


def test_updates_that_do_not_depend_on_the_size_or_only_on_the_examples_leave_an_end_open():
    flat = law.fit(noisy(lambda _: 50.0))
    assert (flat.low, flat.bounded) == (0, False)
    assert flat.high < SIZES[0]
    shared = law.fit(noisy(lambda size: 1e5 / size))
    assert (shared.high, shared.bounded) == (math.inf, False)
    assert shared.low > SIZES[-1]
    few = law.fit({16: [156], 64: [39], 256: [30]})
    assert (few.low, few.high) == (0, math.inf)
    assert law.fit({16: [156], 64: [39]}) is None


@pytest.mark.parametrize("shared", [0.0, 0.15])
def test_the_interval_holds_the_truth_as_often_as_it_says(shared):
    """Log-normal by run, and by what the runs of a size share; 200 studies, of which 95 % is 190 with a deviation of 3."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        found = law.fit(
            {
                size: exact(size)
                * np.exp(shared * rng.normal() + 0.15 * rng.normal(size=3))
                for size in SIZES
            }
        )
        held += found.low <= CRITICAL <= found.high
    assert 181 <= held <= 198
