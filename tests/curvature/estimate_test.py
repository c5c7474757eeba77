"""Intervals of means, known answers and coverage."""

import numpy as np
import pytest
import scipy.stats

from bsexp.curvature import estimate

SKEW = np.array([0.1, 0.2, 0.2, 0.3, 0.5, 0.9, 2.0, 5.0])


def student(samples):
    return scipy.stats.t.interval(
        0.95, len(samples) - 1, samples.mean(), scipy.stats.sem(samples)
    )


def test_of_samples_without_skewness_it_is_students_interval():
    samples = np.array([-3.0, -1.0, 0.0, 0.0, 1.0, 3.0]) + 7
    np.testing.assert_allclose(
        estimate.mean_interval(samples), student(samples), rtol=1e-12
    )
    assert estimate.mean_interval(SKEW[-2:]) == pytest.approx(student(SKEW[-2:]))


def test_it_solves_halls_cubic():
    """At the ends, T + g T^2 / (3 sqrt n) + g^2 T^3 / (27 n) + g / (6 sqrt n) is Student's quantile."""
    number, stderr = len(SKEW), scipy.stats.sem(SKEW)
    skewness = scipy.stats.skew(SKEW, bias=False)
    for end, sign in zip(estimate.mean_interval(SKEW), (1, -1), strict=True):
        t = (SKEW.mean() - end) / stderr
        transformed = (
            t
            + skewness * t**2 / (3 * number**0.5)
            + skewness**2 * t**3 / (27 * number)
            + skewness / (6 * number**0.5)
        )
        assert transformed == pytest.approx(
            sign * scipy.stats.t.ppf(0.975, number - 1), rel=1e-12
        )


def test_the_long_side_is_that_of_the_tail():
    lower, upper = estimate.mean_interval(SKEW)
    assert upper - SKEW.mean() > 2 * (SKEW.mean() - lower)
    np.testing.assert_allclose(estimate.mean_interval(-SKEW), (-upper, -lower))


def test_it_works_on_columns_and_a_column_of_equal_samples_is_a_point():
    columns = np.stack([SKEW, np.full(8, 4.0), SKEW[::-1] ** 2], axis=1)
    lower, upper = estimate.mean_interval(columns)
    for place in (0, 2):
        expected = estimate.mean_interval(columns[:, place])
        assert (lower[place], upper[place]) == pytest.approx(expected)
    assert lower[1] == upper[1] == 4


def test_an_exact_part_moves_the_interval():
    found = estimate.from_samples(SKEW, 8, "budget", exact=100.0)
    expected = np.add(estimate.mean_interval(SKEW), 100)
    assert found.interval() == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("degrees", "number"), [(1, 8), (1, 32), (2, 16), (500, 8)])
def test_it_holds_the_mean_of_chi_square_as_often_as_it_says(degrees, number):
    """Student's holds that of one degree of freedom in 85 % of trials with 8 samples, in 91 % with 32."""
    samples = np.random.default_rng(0).chisquare(degrees, size=(number, 20_000))
    lower, upper = estimate.mean_interval(samples)
    covered = np.mean((lower <= degrees) & (degrees <= upper))
    assert 0.93 <= covered <= 0.955


def test_sampling_that_stopped_at_a_tolerance_holds_the_mean_as_often():
    """One look from 8 samples on gave 92 % here, see `estimate.LEAST_SAMPLES`."""
    weights = 1 / np.arange(1, 61)
    generator, covered = np.random.default_rng(0), 0
    for _ in range(1_000):
        samples = generator.chisquare(1, size=(400, 60)) @ weights
        number = 4
        while not estimate.within(samples[:number], 0.08):
            number += 4
            assert number <= 400
        lower, upper = estimate.mean_interval(samples[:number])
        covered += lower <= weights.sum() <= upper
    assert 0.915 <= covered / 1_000 <= 0.97


def test_a_tolerance_met_once_does_not_stop_it():
    calm = np.tile([0.9, 1.1], 8)
    assert not estimate.within(calm, 0.1)
    assert estimate.within(np.tile([0.9, 1.1], 10), 0.1)
    wild = np.r_[np.tile([0.2, 1.8], 8), np.ones(4)]
    tolerance = scipy.stats.sem(wild) / wild.mean() * 1.15
    assert not estimate.within(wild, tolerance)
    assert estimate.within(np.r_[wild, np.ones(4 * 4)], tolerance)


def test_without_a_tolerance_it_goes_on_even_where_all_samples_are_equal():
    assert estimate.within(np.ones(40), 1e-9)
    assert not estimate.within(np.ones(40), 0.0)
