import jax
import jax.numpy as jnp
import numpy as np
import optax

from bsexp.training import conservative

X = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])}


def slope(x):
    """Gradient of 1/2 |x - 3|^2, whose proximal point is (3 + lambda x_k) / (1 + lambda)."""
    return jax.tree.map(lambda leaf: leaf - 3.0, x)


def updated(strength, iterations, transformation):
    return conservative.update(
        conservative.Proximal(strength, iterations),
        X,
        slope(X),
        slope,
        transformation.update,
        transformation.init(X),
    )


def test_many_iterations_reach_the_minimum_of_loss_and_distance():
    for strength in (0.0, 0.5, 4.0):
        moved, _ = updated(strength, 400, optax.sgd(0.1))
        end = optax.apply_updates(X, moved)
        expected = jax.tree.map(lambda leaf, k=strength: (3 + k * leaf) / (1 + k), X)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), end, expected
        )


def test_three_iterations_of_adam_are_three_of_optax_on_the_same_function():
    adam = optax.adamw(0.1, weight_decay=0.5)
    moved, state = updated(2.0, 3, adam)
    y, expected = X, adam.init(X)
    for _ in range(3):
        gradient = jax.tree.map(lambda g, a, b: g + 2.0 * (a - b), slope(y), y, X)
        step, expected = adam.update(gradient, expected, y)
        y = optax.apply_updates(y, step)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        (optax.apply_updates(X, moved), state),
        (y, expected),
    )
    assert state[0].count == 3


def test_one_iteration_is_the_optimizer_s_own_update_to_the_bit():
    adam = optax.adam(0.1)
    found = updated(7.0, 1, adam)
    jax.tree.map(
        np.testing.assert_array_equal, found, adam.update(slope(X), adam.init(X), X)
    )
