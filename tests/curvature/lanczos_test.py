import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curvature import matrices

from bsexp.curvature import lanczos

pytestmark = pytest.mark.usefixtures("float64")


def largest(matrix, iterations=30, tolerance=1e-10, seed=0):
    like = jnp.zeros(matrix.shape[0])
    return lanczos.largest(
        matrices.operator(matrix),
        like,
        jax.random.key(seed),
        iterations=iterations,
        tolerance=tolerance,
    )


@pytest.mark.parametrize("name", matrices.SPECTRA)
def test_the_largest_eigenvalue_of_a_prescribed_spectrum_is_found(name):
    spectrum = matrices.SPECTRA[name]
    matrix = matrices.symmetric(spectrum)
    found = largest(matrix)
    np.testing.assert_allclose(found.value, spectrum.max(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(jnp.linalg.norm(found.vector), 1.0)
    assert found.converged


def test_the_residual_is_the_true_one_and_bounds_the_error():
    matrix = matrices.symmetric(np.linspace(0, 1, 30))
    found = largest(matrix, iterations=5, tolerance=1e-10)
    residual = np.linalg.norm(matrix @ found.vector - found.value * found.vector)
    np.testing.assert_allclose(found.residual, residual, rtol=1e-9)
    assert np.abs(found.value - np.linalg.eigvalsh(matrix)).min() <= found.residual
    assert not found.converged, (
        "five steps cannot resolve thirty equally spaced eigenvalues to 1e-10"
    )


def test_products_are_counted():
    calls = []
    matrix = matrices.symmetric(np.linspace(0, 1, 30))

    def counted(block):
        calls.append(1)
        return block @ matrix

    found = lanczos.largest(
        counted, jnp.zeros(30), jax.random.key(0), iterations=6, tolerance=1e-12
    )
    assert found.num_matvecs == len(calls) == 7


def test_it_stops_as_soon_as_the_tolerance_is_met():
    spectrum = np.r_[10.0, np.linspace(0, 1, 29)]
    assert largest(matrices.symmetric(spectrum), tolerance=1e-2).num_matvecs < 10


def test_orthogonality_survives_where_lanczos_without_it_finds_ghosts():
    """Well separated eigenvalues make plain Lanczos lose orthogonality once one has converged."""
    spectrum = np.r_[1e6, 1e3, np.linspace(0, 1, 198)]
    found = largest(matrices.symmetric(spectrum), iterations=150, tolerance=1e-15)
    np.testing.assert_allclose(found.value, 1e6, rtol=1e-12)


def test_it_works_in_float32_and_on_pytrees():
    like = {"a": jnp.zeros((2, 2), jnp.float32), "b": jnp.zeros(3, jnp.float32)}
    scale = {"a": jnp.float32(2.0), "b": jnp.float32(7.0)}
    found = lanczos.largest(
        lambda block: jax.tree.map(lambda s, leaf: s * leaf, scale, block),
        like,
        jax.random.key(0),
        iterations=5,
        tolerance=1e-5,
    )
    np.testing.assert_allclose(found.value, 7.0, rtol=1e-5)
    assert found.converged
    np.testing.assert_allclose(jnp.linalg.norm(found.vector["b"]), 1.0, rtol=1e-4)


@pytest.mark.parametrize(("iterations", "tolerance"), [(0, 1e-3), (5, 0.0), (5, -1.0)])
def test_bad_input_is_named(iterations, tolerance):
    with pytest.raises(ValueError, match=r"iterations=.*tolerance="):
        largest(np.eye(3), iterations, tolerance)


def test_an_operator_that_returns_nan_is_refused():
    with pytest.raises(ValueError, match="operator: "):
        largest(np.full((3, 3), np.nan))
