import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from curvature import matrices

from bsexp.curvature import estimate, operator, perturbation

pytestmark = pytest.mark.usefixtures("float64")

KEY = jax.random.key(5)
SLOPE = jnp.array([1.0, -2.0, 0.5])


def objective(function):
    """Make a loss of a plain function: one chunk of one example that it does not look at."""
    return operator.objective(lambda x, _: function(x), [jnp.zeros(1)])


def worst(function, x, rho=0.1, **more):
    return perturbation.worst_case(objective(function), x, rho, **more)


def quadratic(name, seed=0):
    """A quadratic g^T x + x^T H x / 2 with a prescribed spectrum."""
    matrix = np.asarray(matrices.symmetric(matrices.SPECTRA[name], seed))
    slope = np.random.default_rng(seed + 1).normal(size=len(matrix))
    return lambda x: slope @ x + 0.5 * x @ (matrix @ x), slope, matrix


def top_of_ball(slope, matrix, rho):
    """The maximum of g^T d + d^T H d / 2 over |d| <= rho, from its secular equation.

    At the maximum (mu I - H) d = g with mu >= max(lambda_max, 0), and |d| = rho unless mu = 0.
    """
    values, vectors = np.linalg.eigh(matrix)
    along = vectors.T @ slope

    def solution(mu):
        return along / (mu - values)

    least = max(values[-1], 0) + 1e-13
    mu = 0.0
    if values[-1] >= 0 or np.linalg.norm(solution(0.0)) > rho:
        excess = lambda mu: np.linalg.norm(solution(mu)) - rho  # noqa: E731
        most = least + np.linalg.norm(slope) / rho + np.abs(values).max()
        mu = scipy.optimize.brentq(excess, least, most, xtol=1e-15, rtol=1e-14)
    step = solution(mu)
    return along @ step + 0.5 * step @ (values * step)


def test_on_a_linear_function_one_step_is_the_maximum():
    found = worst(lambda x: 7 + SLOPE @ x, jnp.ones(3))
    np.testing.assert_allclose(found.value, 0.1 * np.linalg.norm(SLOPE))
    assert found.loss == 6.5
    assert (found.status, found.evaluations) == ("limit", 2)
    np.testing.assert_allclose(found.moved, 1)


def test_a_scale_makes_the_ball_an_ellipsoid_and_its_zeros_do_not_move():
    """max g^T delta over |delta / s| <= rho is rho |s g|, at delta = rho s^2 g / |s g|."""
    x, scale = jnp.array([3.0, 0.0, -0.1]), jnp.array([3.0, 0.0, 0.1])
    seen = []
    plain = objective(lambda x: SLOPE @ x)

    def watched(point):
        seen.append(np.asarray(point))
        return plain.value_and_gradient(point)

    loss = types.SimpleNamespace(value_and_gradient=watched)
    found = perturbation.worst_case(loss, x, 0.1, scale=scale)
    length = np.linalg.norm(scale * SLOPE)
    np.testing.assert_allclose(found.value, 0.1 * length)
    np.testing.assert_allclose(seen[1] - x, 0.1 * scale**2 * SLOPE / length, atol=1e-15)
    assert seen[1][1] == 0


def test_one_step_is_along_the_gradient_whatever_the_function():
    """On a quadratic: rho |g| + rho^2 g^T H g / (2 |g|^2)."""
    f, slope, matrix = quadratic("indefinite")
    direction = slope / np.linalg.norm(slope)
    expected = 0.3 * slope @ direction + 0.045 * direction @ matrix @ direction
    np.testing.assert_allclose(worst(f, jnp.zeros(30), 0.3).value, expected)


@pytest.mark.parametrize("rho", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("name", list(matrices.SPECTRA))
def test_steps_reach_the_maximum_of_a_quadratic_over_a_ball(name, rho):
    f, slope, matrix = quadratic(name)
    found = worst(f, jnp.zeros(30), rho, steps=1_000)
    np.testing.assert_allclose(found.value, top_of_ball(slope, matrix, rho), rtol=1e-6)


@pytest.mark.parametrize("name", ["decay", "indefinite"])
def test_steps_reach_the_maximum_of_a_quadratic_over_an_ellipsoid(name):
    f, slope, matrix = quadratic(name)
    scale = np.linspace(0, 2, 30)
    found = worst(f, jnp.zeros(30), 3.0, steps=300, scale=jnp.asarray(scale))
    expected = top_of_ball(scale * slope, scale * matrix * scale[:, None], 3.0)
    np.testing.assert_allclose(found.value, expected, rtol=1e-6)


def wild(x):
    return jnp.sum(jnp.cos(7 * x) * jnp.roll(x, 1)) + jnp.sum(x**2)


@pytest.mark.parametrize("seed", range(4))
def test_more_steps_never_find_less(seed):
    x = jnp.asarray(np.random.default_rng(seed).normal(size=8))
    values = [worst(wild, x, 2.0, steps=steps).value for steps in (1, 2, 3, 5, 8, 13)]
    found = np.nan_to_num(values)
    assert np.all(np.diff(found) >= 0)
    assert found[-1] > 1.2 * found[0]


def test_no_step_leaves_the_ball():
    x, scale = jnp.linspace(-1, 1, 8), jnp.linspace(0.1, 3, 8)
    plain, seen = objective(wild), []

    def watched(point):
        seen.append(np.linalg.norm((point - x) / scale))
        return plain.value_and_gradient(point)

    loss = types.SimpleNamespace(value_and_gradient=watched)
    found = perturbation.worst_case(loss, x, 0.5, steps=20, scale=scale)
    assert len(seen) == found.evaluations == 21
    assert max(seen) <= 0.5 * (1 + 1e-12)
    assert min(seen[1:]) > 0


def test_at_a_saddle_it_climbs_the_one_way_up():
    found = worst(lambda x: x[0] ** 2 - x[1] ** 2, jnp.array([1e-3, 0.0]), 0.1)
    np.testing.assert_allclose(found.value, (0.1 + 1e-3) ** 2 - 1e-6)


@pytest.mark.parametrize("steps", [1, 10])
def test_an_exactly_stationary_point_is_said_to_be_one_and_not_called_flat(steps):
    found = worst(lambda x: jnp.sum(x**2), jnp.zeros(3), steps=steps)
    assert math.isnan(found.value)
    assert (found.status, found.evaluations, found.moved) == ("stationary", 1, 0)


def test_a_gradient_in_coordinates_that_do_not_move_is_no_gradient():
    x = jnp.array([0.0, 1.0])
    assert worst(lambda x: x[0] + x[1] ** 0, x, scale=x).status == "stationary"


def test_a_step_too_far_is_failed_and_not_zero_and_shorter_ones_find_the_hill():
    """x - 10 x^2 has its top, 1/40, at 1/20: far inside of the ball."""
    hill = lambda x: x[0] - 10 * x[0] ** 2  # noqa: E731
    once = worst(hill, jnp.zeros(1), 1.0)
    assert math.isnan(once.value)
    assert (once.status, once.moved) == ("failed", 0)
    often = worst(hill, jnp.zeros(1), 1.0, steps=60)
    np.testing.assert_allclose(often.value, 1 / 40, rtol=1e-6)
    np.testing.assert_allclose(often.moved, 1 / 20, rtol=1e-2)


@pytest.mark.parametrize("broken", [jnp.inf, jnp.nan])
def test_a_loss_that_is_not_finite_does_not_count(broken):
    cliff = lambda x: jnp.where(x[0] > 0.3, broken, x[0])  # noqa: E731
    assert worst(cliff, jnp.zeros(1), 1.0).status == "failed"
    found = worst(cliff, jnp.zeros(1), 1.0, steps=40)
    assert 0.25 <= found.value <= 0.3


def test_a_gradient_whose_square_is_zero_in_single_precision_has_a_direction():
    with jax.enable_x64(False):
        found = worst(lambda x: 1e-25 * (SLOPE.astype("float32") @ x), jnp.zeros(3))
    np.testing.assert_allclose(found.value, 1e-26 * np.linalg.norm(SLOPE), rtol=1e-5)
    assert found.status == "limit"


def test_pytrees_have_one_norm_over_all_leaves():
    x = {"a": jnp.ones((2, 2)), "b": jnp.ones(3)}
    found = worst(lambda x: jnp.sum(x["a"]) + 2 * jnp.sum(x["b"]), x, 0.5)
    np.testing.assert_allclose(found.value, 0.5 * math.sqrt(4 + 12))


def linear_loss(x, batch):
    return (batch @ x).mean()


ROWS = jnp.asarray(np.random.default_rng(2).normal(size=(7, 4)))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_m_sharpness_of_linear_losses_is_the_weighted_mean_of_known_maxima(size):
    """7 examples in groups of at most 2 or 3 are groups of different sizes."""
    groups = operator.split(ROWS, size)
    found = perturbation.m_sharpness(linear_loss, groups, jnp.ones(4), 0.1)
    maxima = [0.1 * np.linalg.norm(np.mean(group, axis=0)) for group in groups]
    sizes = [len(group) for group in groups]
    np.testing.assert_allclose(found.value, np.dot(sizes, maxima) / 7)
    np.testing.assert_allclose(found.values, maxima)
    assert (found.stationary, found.failed) == (0, 0)


@pytest.mark.parametrize("steps", [1, 50])
def test_m_sharpness_is_at_least_the_sharpness_of_all_examples_together(steps):
    """The mean of maxima is at least the maximum of the mean; on logistic losses 50 steps reach both."""

    def loss(x, batch):
        return jax.nn.softplus(batch @ x).mean()

    x = jnp.array([0.3, -0.2, 0.5, 0.1])
    plain = perturbation.worst_case(
        operator.objective(loss, [ROWS]), x, 0.5, steps=steps
    )
    values = [plain.value] + [
        perturbation.m_sharpness(
            loss, operator.split(ROWS, size), x, 0.5, steps=steps
        ).value
        for size in (7, 4, 1)
    ]
    np.testing.assert_allclose(values[1], values[0])
    assert values[0] < values[2] < values[3]


def test_a_stationary_group_counts_zero_and_is_counted():
    rows = jnp.concatenate([ROWS[:1], jnp.zeros((1, 4))])
    groups = operator.split(rows, 1)
    found = perturbation.m_sharpness(linear_loss, groups, jnp.ones(4), 0.1)
    np.testing.assert_allclose(found.value, 0.05 * np.linalg.norm(ROWS[0]))
    np.testing.assert_array_equal(np.isnan(found.values), [False, True])
    assert (found.stationary, found.failed) == (1, 0)


def test_where_no_group_found_anything_there_is_no_value():
    groups = [jnp.ones((1, 1)), -jnp.ones((1, 1))]
    hill = lambda x, batch: (batch @ x - 10 * x**2).mean()  # noqa: E731
    found = perturbation.m_sharpness(hill, groups, jnp.zeros(1), 1.0)
    assert math.isnan(found.value)
    assert (found.stationary, found.failed) == (0, 2)


def in_numpy(slope, matrix):
    """The quadratic as a loss that costs nothing to evaluate."""

    def value(x):
        x = np.asarray(x)
        return float(slope @ x + 0.5 * x @ (matrix @ x))

    return types.SimpleNamespace(value=value)


def average(loss, n, sigma=0.1, budget=40, key=KEY, **more):
    return perturbation.average_case(loss, jnp.zeros(n), sigma, key, budget, **more)


def test_the_average_rise_of_a_quadratic_is_known_and_the_interval_covers_it():
    """sigma^2 / 2 tr(S H S), held by the 95 % interval in 95 % of trials; no other test here can see a bias."""
    size, trials, pairs = 100, 1_000, 10
    spectrum = np.linspace(-1, 3, size)
    matrix = np.asarray(matrices.symmetric(spectrum))
    scale = np.linspace(0.5, 1.5, size)
    truth = 0.1**2 / 2 * np.trace(scale * matrix * scale[:, None])
    loss = in_numpy(np.ones(size), matrix)
    found = average(
        loss, size, budget=2 * pairs * trials, scale=jnp.asarray(scale)
    ).samples.reshape(trials, pairs)
    stderr = found.std(axis=1, ddof=1) / math.sqrt(pairs)
    held = np.abs(found.mean(axis=1) - truth) <= 2.262 * stderr  # t(0.975, 9)
    assert 0.93 <= held.mean() <= 0.97
    # All the samples together hold it ten times more closely.
    np.testing.assert_allclose(found.mean(), truth, atol=4 * stderr.mean() / 31)
    # Var(v^T A v) = 2 |A|_F^2 for normal v.
    variance = 0.1**4 / 2 * np.sum((scale * matrix * scale[:, None]) ** 2)
    np.testing.assert_allclose(found.var(), variance, rtol=0.06)


def test_pairs_take_the_gradient_out_of_every_sample():
    _, slope, matrix = quadratic("indefinite")
    steep = average(in_numpy(1e3 * slope, matrix), 30)
    level = average(in_numpy(0 * slope, matrix), 30)
    np.testing.assert_allclose(steep.samples, level.samples, rtol=1e-6, atol=1e-10)


def test_the_rise_is_measured_from_the_point():
    x = jnp.array([1.0, 2.0])
    found = perturbation.average_case(
        objective(lambda x: x[1] ** 2), x, 0.5, KEY, 4, scale=jnp.array([1.0, 0.0])
    )
    assert found.value == found.stderr == 0
    both = perturbation.average_case(
        objective(lambda x: 100 + jnp.sum(x**2)), x, 0.5, KEY, 4_000
    )
    np.testing.assert_allclose(both.value, 0.5, atol=4 * both.stderr)
    assert both.stderr < 0.02


def test_the_budget_is_of_evaluations_and_pairs_take_two():
    _, slope, matrix = quadratic("decay")
    loss, seen = in_numpy(slope, matrix), []
    watched = types.SimpleNamespace(value=lambda x: seen.append(x) or loss.value(x))
    found = average(watched, 30, budget=11)
    assert found.stopped == "budget"
    assert len(found.samples) == 5
    assert len(seen) == 11
    assert found.num_matvecs == 0
    assert found.value == found.samples.mean()
    np.testing.assert_allclose(seen[1] + seen[2], 0, atol=1e-16)


def test_it_stops_at_the_tolerance_and_not_long_after():
    _, slope, matrix = quadratic("decay")
    loss = in_numpy(slope, matrix)
    found = average(loss, 30, budget=4_000, tolerance=0.1)
    assert found.stopped == "tolerance"
    assert found.stderr <= 0.1 * found.value
    assert not estimate.within(found.samples[:-1], 0.1)
    again = average(loss, 30, budget=2 * len(found.samples))
    np.testing.assert_array_equal(again.samples, found.samples)


def test_single_precision_finds_the_known_average_too():
    _, slope, matrix = quadratic("clustered")
    with jax.enable_x64(False):
        found = average(in_numpy(slope, matrix), 30, budget=1_000)
    truth = 0.1**2 / 2 * np.trace(matrix)
    np.testing.assert_allclose(found.value, truth, atol=4 * found.stderr)
    assert found.stderr < 0.02 * truth
    assert found.samples.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rho": 0.0}, "rho=0.0: must be finite and > 0"),
        ({"rho": math.nan}, "rho=nan: must be finite and > 0"),
        ({"rho": math.inf}, "rho=inf: must be finite and > 0"),
        ({"steps": 0}, "steps=0: must be finite and > 0"),
        ({"scale": jnp.ones(2)}, "scale: must be a pytree like x"),
        ({"scale": {"w": jnp.ones(3)}}, "scale: must be a pytree like x"),
        ({"scale": jnp.array([1, jnp.nan, 1])}, "scale: holds a number"),
        ({"x": jnp.array([1, jnp.nan, 1])}, "x: the loss there"),
    ],
)
def test_bad_input_of_the_worst_case_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        worst(**{"function": lambda x: SLOPE @ x, "x": jnp.ones(3), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": 0.0}, "sigma=0.0: must be finite and > 0"),
        ({"sigma": -1.0}, "sigma=-1.0: must be finite and > 0"),
        ({"budget": 3}, "budget=3: must be >= 4"),
        ({"tolerance": -0.1}, "tolerance=-0.1: must be >= 0"),
        ({"tolerance": math.nan}, "tolerance=nan: must be >= 0"),
        ({"scale": jnp.ones(2)}, "scale: must be a pytree like x"),
    ],
)
def test_bad_input_of_the_average_case_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        average(**{"loss": in_numpy(np.ones(3), np.eye(3)), "n": 3, **changes})


def test_a_perturbed_loss_that_is_not_finite_is_refused():
    overflow = objective(lambda x: jnp.sum(jnp.exp(1e6 * x)))
    with pytest.raises(ValueError, match=r"sigma=1\.0: the loss is not finite"):
        average(overflow, 3, sigma=1.0)


def test_no_groups_are_refused():
    with pytest.raises(ValueError, match="groups: must hold at least one"):
        perturbation.m_sharpness(linear_loss, [], jnp.ones(4), 0.1)


def test_moved_is_relative_to_the_scale():
    """A single step of a scaled search ends on the edge of its ellipsoid."""
    scale = jnp.array([3.0, 0.5])
    found = perturbation.worst_case(
        operator.objective(lambda x, _: x[0] - 2 * x[1], [jnp.zeros(1)]),
        jnp.zeros(2),
        0.1,
        scale=scale,
    )
    assert found.moved == pytest.approx(1)
