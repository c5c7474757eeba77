import math
import types

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from bsexp.curvature import lbfgsb, operator, sharpness

pytestmark = pytest.mark.usefixtures("float64")


def objective(function):
    """Make a loss of a plain function: one chunk of one example that it does not look at."""
    return operator.objective(lambda x, _: function(x), [jnp.zeros(1)])


def measured(function, x, epsilon=0.1, iterations=10, steps=10, **more):
    return sharpness.keskar(
        objective(function), x, epsilon, iterations=iterations, steps=steps, **more
    )


def separable(x):
    """A quadratic whose maximum over any box is at a corner, coordinate by coordinate."""
    return 0.5 * jnp.sum(jnp.array([1.0, 4.0, 9.0]) * x["w"] ** 2)


def test_phi_of_a_quadratic_is_the_known_maximum_over_the_box():
    """max of 1/2 sum d_i (x_i + y_i)^2 over |y_i| <= b_i is 1/2 sum d_i (|x_i| + b_i)^2."""
    x = {"w": jnp.array([0.3, -0.2, 0.01])}
    width = 0.1 * (np.abs(x["w"]) + 1)
    loss = float(separable(x))
    top = 0.5 * np.sum([1.0, 4.0, 9.0] * (np.abs(x["w"]) + width) ** 2)
    found = measured(separable, x)
    for search in found.searches.values():
        np.testing.assert_allclose(
            search.value, 100 * (top - loss) / (1 + loss), rtol=1e-10
        )
    assert found.loss == loss


def test_the_box_is_relative_to_the_size_of_each_coordinate():
    """On a linear function the maximum is f + sum |g_i| epsilon (|x_i| + 1)."""
    x = jnp.array([0.0, 3.0, -7.0])
    slope = jnp.array([1.0, -2.0, 0.5])
    found = measured(lambda x: 10 + slope @ x, x, epsilon=1e-2)
    value = 10 + slope @ x
    expected = 100 * 1e-2 * (1 * 1 + 2 * 4 + 0.5 * 8) / (1 + value)
    np.testing.assert_allclose(found.value, expected, rtol=1e-9)


def test_no_search_leaves_the_box():
    x = jnp.array([0.5, -2.0])
    seen = []

    plain = objective(lambda z: jnp.sum(jnp.exp(z)))

    def watched(point):
        seen.append(np.asarray(point))
        return plain.value_and_gradient(point)

    seen_by = types.SimpleNamespace(value=plain.value, value_and_gradient=watched)
    sharpness.keskar(seen_by, x, 0.01, iterations=10, steps=10)
    width = 0.01 * (np.abs(x) + 1)
    assert len(seen) >= 3
    assert all(np.all(np.abs(point - x) <= width * (1 + 1e-12)) for point in seen)


def test_at_a_saddle_both_searches_climb_the_one_way_up():
    saddle = lambda x: x[0] ** 2 - x[1] ** 2 + 1  # noqa: E731
    found = measured(saddle, jnp.array([1e-3, 0.0]))
    top = (1e-3 + 0.1 * (1 + 1e-3)) ** 2 + 1
    loss = float(saddle(jnp.array([1e-3, 0.0])))
    np.testing.assert_allclose(found.value, 100 * (top - loss) / (1 + loss), rtol=1e-9)


def test_an_exactly_stationary_point_is_said_to_be_one_and_not_called_flat():
    found = measured(separable, {"w": jnp.zeros(3)})
    assert {search.status for search in found.searches.values()} == {"stationary"}
    assert math.isnan(found.value)
    assert found.best == ""


def test_a_search_that_found_nothing_is_failed_and_not_zero():
    """At a strict local maximum of the box every step goes down though the gradient is not zero in rounding."""
    peak = lambda x: 2 - jnp.sum(jnp.abs(x - 0.3 * (1 + 1e-9)))  # noqa: E731
    found = measured(peak, jnp.array([0.3, 0.3]))
    assert found.searches["sign_ascent"].status == "failed"
    assert math.isnan(found.searches["sign_ascent"].value)


def test_the_larger_search_is_reported_and_named():
    found = measured(
        lambda x: jnp.sum(jnp.cosh(3 * x)), jnp.array([0.2, -0.4, 0.1]), iterations=1
    )
    values = {name: search.value for name, search in found.searches.items()}
    assert found.value == max(values.values())
    assert found.value == values[found.best]


def test_a_nearly_stationary_point_with_a_tiny_loss_is_searched_to_the_end():
    """SciPy's default tolerances would stop here at once: the projected gradient is below 1e-5."""
    x = jnp.full(3, 1e-7)
    found = measured(lambda x: separable({"w": x}), x)
    assert found.searches["lbfgsb"].iterations > 0
    top = 0.5 * 14 * (1e-7 + 0.1 * (1 + 1e-7)) ** 2
    np.testing.assert_allclose(found.searches["lbfgsb"].value, 100 * top, rtol=1e-5)


def test_a_guide_leads_but_the_value_is_the_whole_loss_s():
    x = {"w": jnp.array([0.3, -0.2, 0.01])}
    guide = objective(lambda x: 5 * separable(x) + 3)
    plain, led = measured(separable, x), measured(separable, x, guide=guide)
    np.testing.assert_allclose(
        led.searches["sign_ascent"].value, plain.searches["sign_ascent"].value
    )
    assert led.searches["sign_ascent"].evaluations == 2


def test_moved_is_the_mean_share_of_the_box_that_the_best_point_used():
    """Up to where |x + y| is 1.05 this function is linear in both coordinates, beyond it falls."""
    ridge = lambda x: 10 + x[0] - 3 * jnp.maximum(x[0] - 1.05, 0) + 2 * x[1]  # noqa: E731
    corner = measured(lambda x: 10 + x[0] + 2 * x[1], jnp.array([1.0, -3.0]))
    assert {search.moved for search in corner.searches.values()} == {1.0}
    inside = measured(ridge, jnp.array([1.0, -3.0]), steps=1, iterations=50)
    # The box is +-0.2 and +-0.4: the ridge is a quarter of the way, the corner at the other end of the box.
    best = inside.searches["lbfgsb"]
    np.testing.assert_allclose(best.moved, (0.25 + 1) / 2, rtol=1e-6)
    np.testing.assert_allclose(best.value, 100 * 0.85 / (1 + 5), rtol=1e-6)


def test_the_value_is_the_best_of_all_evaluations_and_not_the_last():
    """x - 6 x^2 rises by 0.04 up to the bound 0.1, where its slope points back: the second step is at x again."""
    hill = lambda x: x[0] - 6 * x[0] ** 2  # noqa: E731
    search = measured(hill, jnp.zeros(1), steps=2).searches["sign_ascent"]
    assert (search.status, search.iterations, search.moved) == ("limit", 2, 1.0)
    np.testing.assert_allclose(search.value, 4.0)


def test_a_search_that_stalls_shows_it_in_moved():
    """One iteration of L-BFGS-B from a nearly flat point goes as far as the gradient is long, and no further."""
    x = jnp.full(3, 1e-7)
    stalled, handed_phi = (
        measured(lambda x: separable({"w": x}), x, iterations=1, maximise=maximise)
        for maximise in ("loss", "phi")
    )
    assert stalled.searches["lbfgsb"].status == "limit"
    assert stalled.searches["sign_ascent"].moved == 1.0
    assert stalled.best == "sign_ascent"
    # The gradient is 14e-7 in all, the box 0.1 and three coordinates wide; that of phi is 100 times as long.
    moved = 14e-7 / 0.1 / 3
    np.testing.assert_allclose(stalled.searches["lbfgsb"].moved, moved, rtol=1e-5)
    np.testing.assert_allclose(
        handed_phi.searches["lbfgsb"].moved, 100 * moved, rtol=1e-5
    )


def test_a_search_without_a_value_has_not_moved():
    found = measured(separable, {"w": jnp.zeros(3)})
    assert {search.moved for search in found.searches.values()} == {0.0}


@pytest.mark.parametrize("broken", [jnp.inf, jnp.nan])
def test_a_loss_that_is_not_finite_neither_counts_nor_passes_in_silence(broken):
    """The first step, to (1.2, 0.8), is fine; the second, back to 1 in the second coordinate, is not."""

    def cliff(x):
        bowl = (x[0] - 0.99) ** 2 - 1e-3 * jnp.where(x[0] > 1.1, -x[1], x[1])
        return jnp.where((x[0] > 1.1) & (x[1] > 0.9), broken, bowl)

    search = measured(cliff, jnp.ones(2)).searches["sign_ascent"]
    assert search.status == "failed"
    assert search.message == "the loss was not finite at step 2"
    assert search.iterations == 2
    level, best = 0.01**2 - 1e-3, 0.21**2 + 1e-3 * 0.8
    np.testing.assert_allclose(search.value, 100 * (best - level) / (1 + level))
    assert search.moved == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0: must be > 0"),
        ({"epsilon": -1.0}, "epsilon=-1.0: must be > 0"),
        ({"epsilon": math.nan}, "epsilon=nan: must be > 0"),
        ({"iterations": 0}, "iterations=0: must be > 0"),
        ({"steps": 0}, "steps=0: must be > 0"),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        measured(separable, {"w": jnp.ones(3)}, **changes)


def test_a_point_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="x: the loss there"):
        measured(separable, {"w": jnp.array([1.0, jnp.nan, 0.0])})


@pytest.mark.parametrize("seed", range(5))
def test_lbfgsb_is_scipy_s_to_the_bit(seed):
    generator = np.random.default_rng(seed)
    size = 50
    matrix = generator.normal(size=(size, size))
    slope, half_width = generator.normal(size=size), generator.uniform(1e-3, 1, size)

    def function(y):
        return -(slope @ y + np.sum(np.cos(matrix @ y))), -slope + matrix.T @ np.sin(
            matrix @ y
        )

    found = lbfgsb.minimise(function, half_width, 10)
    expected = scipy.optimize.minimize(
        function,
        np.zeros(size),
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(-half_width, half_width),
        options={"maxiter": 10, "ftol": 0.0, "gtol": 0.0},
    )
    assert found.iterations == expected.nit == 10
    assert found.value == expected.fun
    np.testing.assert_array_equal(found.position, expected.x)
    assert found.status == "limit"
    assert found.message == expected.message


def test_the_first_step_of_a_guided_ascent_is_the_guide_s():
    """It climbs the first coordinate and falls in the second, where the whole loss climbs both."""
    guide = objective(lambda x: x[0] - x[1])
    found = measured(lambda x: 3 * x[0] + x[1], jnp.zeros(2), steps=1, guide=guide)
    np.testing.assert_allclose(found.searches["sign_ascent"].value, 100 * 0.2)


def test_the_whole_loss_is_taken_where_the_guide_was_highest_and_not_where_it_ended():
    """After the second step, as without a guide, it is at x again."""

    def hill(x):
        return x[0] - 6 * x[0] ** 2

    found = measured(hill, jnp.zeros(1), steps=2, guide=objective(hill))
    np.testing.assert_allclose(found.searches["sign_ascent"].value, 4.0)


@pytest.mark.parametrize(("maximise", "slope"), [("phi", 25.0), ("loss", 1.0)])
def test_lbfgsb_is_handed_what_it_is_to_maximise(monkeypatch, maximise, slope):
    handed, minimise = [], lbfgsb.minimise

    def watched(function, *more):
        handed.append(function(np.array([0.05])))
        return minimise(function, *more)

    monkeypatch.setattr(lbfgsb, "minimise", watched)
    measured(lambda x: 3 + x[0], jnp.zeros(1), maximise=maximise)
    ((value, gradient),) = handed
    assert gradient == pytest.approx([-slope])
    assert value == pytest.approx(-slope * 0.05 - (3 if maximise == "loss" else 0))
