import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bsexp.training import sharpness_aware

START = {"kernel": jnp.array([[1.0, -2.0], [0.5, 0.0]]), "bias": jnp.array([3.0, -0.1])}


def loss(parameters):
    """A loss that no scaling of its gradient fits: quartic in the kernel, a cosine of the bias."""
    return (parameters["kernel"] ** 4).sum() + jnp.cos(2 * parameters["bias"]).sum()


def trained(radius, adaptive, steps=5, learning_rate=0.05):
    parameters = START
    for _ in range(steps):
        there = sharpness_aware.ascended(
            parameters, jax.grad(loss)(parameters), radius, adaptive
        )
        parameters = jax.tree.map(
            lambda x, g: x - learning_rate * g, parameters, jax.grad(loss)(there)
        )
    return parameters


def assert_equal(found, expected, rtol=2e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6),
        found,
        expected,
    )


def test_sam_is_that_of_optax_over_several_steps():
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.3))
    reference = optax.contrib.sam(optax.sgd(0.05), ascent, opaque_mode=True)
    parameters, state = START, reference.init(START)
    for _ in range(5):
        updates, state = reference.update(
            jax.grad(loss)(parameters),
            state,
            parameters,
            grad_fn=jax.grad(lambda x, _: loss(x)),
        )
        parameters = optax.apply_updates(parameters, updates)
    assert_equal(trained(0.3, adaptive=False), parameters)
    plain = trained(0.0, adaptive=False)
    assert abs(plain["bias"] - parameters["bias"]).max() > 0.01


def test_asam_is_its_formula():
    """x + rho T^2 g / |T g| with T = |x|, in numpy on one long vector."""
    gradient = jax.tree.map(lambda x: jnp.sin(7 * x) + 0.2, START)
    x, g = (
        np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])
        for tree in (START, gradient)
    )  # fmt: skip
    expected = x + 0.5 * x**2 * g / np.sqrt((x**2 * g**2).sum())
    found = sharpness_aware.ascended(START, gradient, 0.5, adaptive=True)
    flat = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(found)])
    np.testing.assert_allclose(flat, expected, rtol=1e-6)


def test_asam_follows_a_rescaling_of_the_parameters():
    """Where x is written in other units, x' = a x and g' = g / a, its point is a times what it was; SAM's is not."""
    factor = {"kernel": 8.0, "bias": 0.25}
    gradient = jax.grad(loss)(START)
    scaled = jax.tree.map(jnp.multiply, START, factor)
    slope = jax.tree.map(jnp.divide, gradient, factor)
    for adaptive in (True, False):
        expected = jax.tree.map(
            jnp.multiply,
            sharpness_aware.ascended(START, gradient, 0.1, adaptive),
            factor,
        )
        found = sharpness_aware.ascended(scaled, slope, 0.1, adaptive)
        same = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-5), found, expected)
        assert all(jax.tree.leaves(same)) == adaptive


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_radius_of_zero_and_a_gradient_of_zero_leave_the_point_where_it_is(adaptive):
    gradient = jax.grad(loss)(START)
    zero = jax.tree.map(jnp.zeros_like, START)
    for found in (
        sharpness_aware.ascended(START, gradient, 0.0, adaptive),
        sharpness_aware.ascended(START, zero, 0.1, adaptive),
    ):
        jax.tree.map(np.testing.assert_array_equal, found, START)


def test_the_step_of_sam_is_as_long_as_the_radius_for_each_member():
    gradient = jax.tree.map(lambda x: jnp.stack([x, 100 * x]) + 1, START)
    found = jax.vmap(
        lambda slope: sharpness_aware.ascended(START, slope, 0.2, adaptive=False)
    )(gradient)
    moved = jax.tree.map(lambda a, b: a - b, found, START)
    np.testing.assert_allclose(jax.vmap(optax.tree.norm)(moved), 0.2, rtol=1e-5)
