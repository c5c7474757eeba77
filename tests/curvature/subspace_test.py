import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from bsexp.curvature import operator, sharpness, subspace

pytestmark = pytest.mark.usefixtures("float64")

KEY = jax.random.key(3)
SHAPES = {"b": (7,), "kernel": (5, 4), "scalar": ()}


def tree(seed=0):
    generator = np.random.default_rng(seed)
    return {
        name: jnp.asarray(generator.normal(size=shape))
        for name, shape in SHAPES.items()
    }


def flat(x):
    return np.asarray(ravel_pytree(x)[0])


def dense(found, dimension):
    """A, column by column."""
    return np.stack([flat(found.expand(unit)) for unit in jnp.eye(dimension)], axis=1)


def measured(function, x, basis, epsilon=0.1, iterations=10, steps=10):
    loss = operator.objective(lambda x, _: function(x), [jnp.zeros(1)])
    return sharpness.keskar(
        loss, x, epsilon, iterations=iterations, steps=steps, subspace=basis
    )


@pytest.mark.parametrize("rows", [2**14, 5])
@pytest.mark.parametrize("kept", [0, 2**31])
def test_expand_project_and_gram_are_of_one_matrix_with_unit_columns(
    monkeypatch, rows, kept
):
    monkeypatch.setattr(subspace, "ROWS", rows)
    monkeypatch.setattr(subspace, "KEPT_BYTES", kept)
    found = subspace.random(KEY, tree(), 6)
    A = dense(found, 6)
    assert A.shape == (28, 6)
    np.testing.assert_allclose(np.linalg.norm(A, axis=0), 1, rtol=1e-14)
    np.testing.assert_allclose(found.gram, A.T @ A, atol=1e-14)
    np.testing.assert_allclose(found.project(tree(1)), A.T @ flat(tree(1)), rtol=1e-12)
    z = jnp.arange(6.0)
    np.testing.assert_allclose(flat(found.expand(z)), A @ z, rtol=1e-12)


def test_a_matrix_that_is_drawn_again_is_the_kept_one_to_the_bit(monkeypatch):
    kept = subspace.random(KEY, tree(), 6)
    monkeypatch.setattr(subspace, "KEPT_BYTES", 0)
    drawn = subspace.random(KEY, tree(), 6)
    np.testing.assert_array_equal(dense(kept, 6), dense(drawn, 6))
    np.testing.assert_array_equal(dense(drawn, 6), dense(drawn, 6))
    other = subspace.random(jax.random.key(4), tree(), 6)
    assert np.abs(dense(kept, 6) - dense(other, 6)).min() > 0


def test_columns_of_another_length_are_a_multiple_of_the_same_matrix():
    unit, long = (subspace.random(KEY, tree(), 6, length=c) for c in (1.0, 50.0))
    np.testing.assert_allclose(dense(long, 6), 50 * dense(unit, 6))
    np.testing.assert_allclose(long.gram, 2_500 * unit.gram)
    np.testing.assert_allclose(
        long.coordinates(tree(1)), unit.coordinates(tree(1)) / 50
    )


@pytest.mark.parametrize("length", [0.0, -1.0, math.nan, math.inf])
def test_a_length_that_is_none_is_named(length):
    with pytest.raises(ValueError, match=f"length={length}: must be finite and > 0"):
        subspace.random(KEY, tree(), 6, length=length)


def test_no_two_blocks_of_rows_share_their_numbers(monkeypatch):
    monkeypatch.setattr(subspace, "ROWS", 7)
    A = dense(subspace.random(KEY, tree(), 6), 6)
    assert len(np.unique(A)) == A.size


def test_columns_are_normal_numbers_in_random_directions():
    """Scaled by sqrt(n), moments 2 and 4 of the entries are 1 and 3; the Gram matrix is I + O(1 / sqrt(n))."""
    size, dimension = 20_000, 20
    found = subspace.random(KEY, jnp.zeros(size), dimension)
    A = dense(found, dimension) * math.sqrt(size)
    assert abs((A**4).mean() - 3) < 5 * math.sqrt(96 / A.size)
    off = found.gram - np.eye(dimension)
    assert np.abs(off).max() < 5 / math.sqrt(size)
    # 190 inner products of independent directions: their variance is 1 / n.
    spread = np.sqrt(size) * off[np.triu_indices(dimension, 1)].std()
    assert 0.75 < spread < 1.25


@pytest.mark.parametrize("dimension", [1, 6, 28])
def test_coordinates_are_the_pseudo_inverse_s_though_columns_are_not_orthogonal(
    dimension,
):
    found = subspace.random(KEY, tree(), dimension)
    expected = np.linalg.pinv(dense(found, dimension)) @ flat(tree(1))
    np.testing.assert_allclose(found.coordinates(tree(1)), expected, rtol=1e-7)
    inside = found.expand(jnp.arange(1.0, dimension + 1))
    np.testing.assert_allclose(
        found.coordinates(inside), np.arange(1, dimension + 1), rtol=1e-7
    )


@pytest.mark.parametrize("dimension", [6, 28])
def test_phi_of_a_linear_function_is_the_known_maximum_over_the_box(
    dimension,
):
    """max of f + g^T A z over |z_i| <= epsilon (|(A^+ x)_i| + 1) is f + sum |(A^T g)_i| epsilon (|(A^+ x)_i| + 1).

    With as many columns as parameters they are far from orthogonal: A^T g and A^+ g differ in their signs.
    """
    x, slope = jax.tree.map(lambda leaf: 10 * leaf, tree()), tree(1)
    basis = subspace.random(KEY, x, dimension)
    A = dense(basis, dimension)
    coordinates = np.linalg.lstsq(A, flat(x))[0]
    assert np.abs(coordinates).max() > 2
    product = lambda x: sum(map(jnp.vdot, jax.tree.leaves(slope), jax.tree.leaves(x)))  # noqa: E731
    found = measured(lambda x: 5_000 + product(x), x, basis, epsilon=1e-2)
    rise = np.abs(A.T @ flat(slope)) @ (1e-2 * (np.abs(coordinates) + 1))
    np.testing.assert_allclose(found.value, 100 * rise / (1 + found.loss))
    assert found.searches[found.best].moved == 1.0


def test_phi_of_a_quadratic_is_that_of_the_best_corner():
    """A convex function has its maximum over a box at a corner: all 64 are tried."""
    x, basis = tree(), subspace.random(KEY, tree(), 6)
    curvature = np.linspace(0.1, 3, 28)
    f = lambda x: 0.5 * jnp.sum(curvature * ravel_pytree(x)[0] ** 2)  # noqa: E731
    A = dense(basis, 6)
    half_width = 0.1 * (np.abs(np.linalg.pinv(A) @ flat(x)) + 1)
    signs = 1 - 2.0 * (np.arange(64)[:, None] >> np.arange(6) & 1)
    points = flat(x) + (signs * half_width) @ A.T
    top = (0.5 * curvature * points**2).sum(axis=1).max()
    found = measured(f, x, basis)
    for search in found.searches.values():
        expected = 100 * (top - found.loss) / (1 + found.loss)
        np.testing.assert_allclose(search.value, expected)


@pytest.mark.parametrize("dimension", [0, -1, 29])
def test_a_dimension_that_does_not_fit_is_named(dimension):
    with pytest.raises(ValueError, match=f"dimension={dimension}: must be between 1"):
        subspace.random(KEY, tree(), dimension)


def test_single_precision_agrees_with_a_pseudo_inverse_in_double():
    with jax.enable_x64(False):
        x = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree())
        basis = subspace.random(KEY, x, 6)
        A = dense(basis, 6)
        slope = jnp.linspace(-1, 1, 28)
        found = measured(lambda x: 50 + slope @ ravel_pytree(x)[0], x, basis)
    assert A.dtype == np.float32
    coordinates = np.linalg.pinv(A.astype(np.float64)) @ flat(x)
    np.testing.assert_allclose(basis.coordinates(x), coordinates, rtol=1e-5)
    rise = np.abs(A.T @ np.linspace(-1, 1, 28)) @ (0.1 * (np.abs(coordinates) + 1))
    np.testing.assert_allclose(found.value, 100 * rise / (1 + found.loss), rtol=1e-4)
