import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curvature import matrices

from bsexp.curvature import krylov, lanczos

pytestmark = pytest.mark.usefixtures("float64")

BEST = {
    "largest": lambda spectrum: np.sort(spectrum)[::-1],
    "smallest": np.sort,
    "magnitude": lambda spectrum: np.array(sorted(spectrum, key=abs, reverse=True)),
}


def eigenpairs(matrix, number=1, iterations=100, tolerance=1e-10, seed=0, **options):
    return lanczos.eigenpairs(
        matrices.operator(matrix),
        jnp.zeros(matrix.shape[0], matrix.dtype),
        jax.random.key(seed),
        number,
        iterations=iterations,
        tolerance=tolerance,
        **options,
    )


def residuals(matrix, found):
    images = found.vectors @ matrix
    return np.linalg.norm(images - found.values[:, None] * found.vectors, axis=1)


@pytest.mark.parametrize("number", [1, 3, 7])
@pytest.mark.parametrize("which", BEST)
@pytest.mark.parametrize("name", matrices.SPECTRA)
def test_the_wanted_end_of_a_prescribed_spectrum_is_found(name, which, number):
    spectrum = matrices.SPECTRA[name]
    found = eigenpairs(matrices.symmetric(spectrum), number, which=which)
    expected = BEST[which](spectrum)[:number]
    np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        found.vectors @ found.vectors.T, np.eye(number), atol=1e-12
    )
    assert found.converged.all()


@pytest.mark.parametrize("name", ["indefinite", "clustered"])
def test_all_pairs_of_a_matrix_decompose_it(name):
    matrix = matrices.symmetric(matrices.SPECTRA[name])
    found = eigenpairs(matrix, 30)
    rebuilt = found.vectors.T * found.values @ found.vectors
    np.testing.assert_allclose(rebuilt, matrix, atol=1e-12)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-8])
@pytest.mark.parametrize("seed", range(3))
def test_no_copy_is_missed_though_the_space_never_becomes_invariant(tolerance, seed):
    """Lanczos from one vector sees one copy: it would report 3, 1 and 0.99 as converged."""
    spectrum = np.r_[np.full(5, 3.0), np.linspace(0, 1, 95)]
    found = eigenpairs(matrices.symmetric(spectrum), 3, tolerance=tolerance, seed=seed)
    np.testing.assert_allclose(found.values, 3.0, rtol=tolerance**2 + 1e-12)
    assert found.converged.all()


def test_a_start_of_as_many_vectors_as_pairs_needs_no_search_for_copies():
    spectrum = np.r_[np.full(5, 3.0), np.linspace(0, 1, 95)]
    matrix = matrices.symmetric(spectrum)
    start = jnp.asarray(np.random.default_rng(0).normal(size=(3, 100)))
    found = eigenpairs(matrix, 3, tolerance=1e-6, start=start)
    np.testing.assert_allclose(found.values, 3.0, rtol=1e-10)
    assert found.converged.all()
    assert found.num_matvecs < eigenpairs(matrix, 3, tolerance=1e-6).num_matvecs / 2


def test_the_residuals_are_the_true_ones_and_bound_the_errors():
    matrix = matrices.symmetric(np.linspace(0, 1, 30))
    found = eigenpairs(matrix, 2, iterations=5)
    np.testing.assert_allclose(found.residuals, residuals(matrix, found), rtol=1e-9)
    distance = np.abs(found.values[:, None] - np.linalg.eigvalsh(matrix))
    assert (distance.min(axis=1) <= found.residuals).all()
    assert not found.converged.any(), (
        "five steps cannot resolve thirty equally spaced eigenvalues to 1e-10"
    )


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_the_residuals_a_space_knows_without_a_product_are_the_true_ones(steps):
    matrix = matrices.symmetric(np.linspace(0, 1, 30))
    space = krylov.Krylov()
    for vector in np.random.default_rng(0).normal(size=(3, 30)):
        space.append(jnp.asarray(vector), 1.0)
    for _ in range(steps):
        krylov.advance([space], lambda vectors: [matrix @ v for v in vectors])
    ritz = space.ritz()
    vectors = np.array(space.combined(ritz.weights))
    true = np.linalg.norm(vectors @ matrix - ritz.values[:, None] * vectors, axis=1)
    assert len(true) == 3 * steps
    np.testing.assert_allclose(ritz.residuals, true, rtol=1e-9)


def test_a_noisy_operator_is_not_said_to_have_converged():
    """The recurrence takes the noise for part of the matrix; only the product at the end shows it."""
    matrix, noise = (
        matrices.symmetric(matrices.SPECTRA["decay"]),
        np.random.default_rng(0),
    )
    found = lanczos.eigenpairs(
        lambda block: block @ matrix + 1e-4 * noise.normal(size=block.shape),
        jnp.zeros(30),
        jax.random.key(0),
        1,
        iterations=30,
        tolerance=1e-6,
    )
    assert found.residuals[0] > 1e-4
    assert not found.converged[0]


def test_converged_means_that_the_residual_is_within_the_tolerance():
    matrix = matrices.symmetric(np.linspace(0, 1, 30))
    found = eigenpairs(matrix, 5, iterations=12, tolerance=0.05)
    within = found.residuals <= 0.05 * found.values
    assert found.converged.tolist() == within.tolist()
    assert within.any()
    assert not within.all()


def test_products_are_counted_and_at_most_four_vectors_go_to_the_operator_at_once():
    sizes = []
    matrix = matrices.symmetric(np.linspace(0, 1, 30))

    def counted(block):
        sizes.append(len(block))
        return block @ matrix

    def run(**options):
        sizes.clear()
        like, key = jnp.zeros(30), jax.random.key(0)
        return lanczos.eigenpairs(counted, like, key, tolerance=1e-12, **options)

    assert run(number=1, iterations=6).num_matvecs == sum(sizes) == 7
    start = jnp.asarray(np.random.default_rng(0).normal(size=(6, 30)))
    assert run(number=6, iterations=2, start=start).num_matvecs == sum(sizes)
    assert sizes == [4, 2, 4, 2, 4, 2]


def test_one_pair_stops_as_soon_as_the_tolerance_is_met():
    matrix = matrices.symmetric(np.r_[10.0, np.linspace(0, 1, 29)])
    products = [eigenpairs(matrix, tolerance=10.0**-p).num_matvecs for p in (2, 4, 8)]
    assert products == sorted(set(products))
    assert products[0] < 7


def test_orthogonality_survives_where_lanczos_without_it_finds_ghosts():
    """Well separated eigenvalues make plain Lanczos lose orthogonality once one has converged."""
    spectrum = np.r_[1e6, 1e3, np.linspace(0, 1, 198)]
    found = eigenpairs(matrices.symmetric(spectrum), 4, iterations=150)
    expected = np.sort(spectrum)[::-1][:4]
    np.testing.assert_allclose(found.values, expected, rtol=1e-8)


@pytest.mark.parametrize("number", [1, 5])
def test_tracking_takes_a_small_part_of_the_products_of_a_cold_start(number):
    """A bulk without a gap is the hard case: cold 26 and 91 products, from the vectors before the change 3 and 10."""
    matrix = matrices.symmetric(matrices.marchenko_pastur(300))
    change = matrices.symmetric(matrices.semicircle(300, seed=1), seed=1) / 2
    start = eigenpairs(matrix, number, iterations=200, tolerance=1e-3).vectors
    moved = matrix + 1e-3 * change
    cold = eigenpairs(moved, number, iterations=200, tolerance=1e-3)
    warm = eigenpairs(moved, number, iterations=200, tolerance=1e-3, start=start)
    expected = np.linalg.eigvalsh(moved)[::-1][:number]
    np.testing.assert_allclose(warm.values, expected, rtol=1e-4)
    assert warm.converged.all()
    assert cold.converged.all()
    assert warm.num_matvecs <= cold.num_matvecs / 6


def test_exact_eigenvectors_cost_one_product_each_and_one_for_the_residual():
    matrix = matrices.symmetric(matrices.SPECTRA["indefinite"])
    start = np.linalg.eigh(matrix)[1][:, -3:].T
    found = eigenpairs(matrix, 3, start=jnp.asarray(start))
    np.testing.assert_allclose(found.values, np.linspace(-2, 1, 30)[:-4:-1])
    assert found.num_matvecs == 6


def test_dependent_start_vectors_are_dropped():
    matrix = matrices.symmetric(matrices.SPECTRA["decay"])
    first, second = np.linalg.eigh(matrix)[1][:, -2:].T
    start = jnp.stack([first, 1e3 * first, second, first - second, 0 * first])
    found = eigenpairs(matrix, 2, start=start)
    np.testing.assert_allclose(found.values, [1.0, 0.5])
    assert found.num_matvecs == 4


def test_a_start_of_fewer_vectors_than_pairs_misses_none():
    """The start is invariant, its complement holds two more copies and none may be taken for all."""
    matrix = matrices.symmetric(matrices.SPECTRA["clustered"])
    start = jnp.asarray(np.linalg.eigh(matrix)[1][:, :1].T)
    found = eigenpairs(matrix, 3, start=start)
    np.testing.assert_allclose(found.values, 3.0)


def test_turning_a_matrix_over_or_shifting_it_does_the_same_to_its_eigenvalues():
    matrix = matrices.symmetric(matrices.SPECTRA["indefinite"])
    smallest = eigenpairs(matrix, 4, which="smallest")
    turned = eigenpairs(-matrix, 4, which="largest")
    shifted = eigenpairs(matrix + 7 * jnp.eye(30), 4, which="smallest")
    np.testing.assert_allclose(turned.values, -smallest.values, rtol=1e-12)
    np.testing.assert_allclose(shifted.values, smallest.values + 7, rtol=1e-12)


def test_the_hessian_of_a_network_on_a_pytree_in_either_precision():
    drawn = np.random.default_rng(0)
    inputs = drawn.normal(size=(20, 3))
    like = {"in": drawn.normal(size=(3, 4)), "out": drawn.normal(size=4)}

    def loss(x):
        return jnp.mean((jnp.tanh(inputs @ x["in"]) @ x["out"] - 1) ** 2)

    flat, unravel = jax.flatten_util.ravel_pytree(like)
    dense = jax.jit(jax.hessian(lambda x: loss(unravel(x))))(flat)
    expected, directions = np.linalg.eigh(dense)
    for dtype, accuracy in ((jnp.float64, 1e-9), (jnp.float32, 1e-5)):
        x = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), like)

        @jax.jit
        def product(block, x=x):
            return jax.vmap(lambda v: jax.jvp(jax.grad(loss), (x,), (v,))[1])(block)

        found = lanczos.eigenpairs(
            product, x, jax.random.key(3), 3, iterations=50, tolerance=accuracy
        )
        np.testing.assert_allclose(found.values, expected[:-4:-1], rtol=accuracy)
        assert found.converged.all()
        assert jax.tree.map(jnp.shape, found.vectors) == {
            "in": (3, 3, 4),
            "out": (3, 4),
        }
        assert found.vectors["out"].dtype == dtype
        again = lanczos.eigenpairs(
            product,
            x,
            jax.random.key(3),
            1,
            iterations=9,
            tolerance=0.1,
            start=jax.tree.map(lambda leaf: np.float64(leaf[:1]), found.vectors),
        )
        assert again.vectors["out"].dtype == dtype
        assert again.num_matvecs == 2
        top = np.r_[found.vectors["in"][0].ravel(), found.vectors["out"][0]]
        assert abs(top @ directions[:, -1]) > 1 - accuracy


@pytest.mark.parametrize(
    "options",
    [
        {"number": 0},
        {"number": 4},
        {"which": "middle"},
        {"iterations": 0},
        {"iterations": 1, "number": 2},
        {"tolerance": 0.0},
        {"tolerance": np.nan},
        {"start": np.zeros((1, 3))},
        {"start": np.full((1, 3), np.inf)},
        {"start": np.ones(3)},
        {"start": {"a": np.ones((1, 3))}},
        {"start": np.ones((2, 3)), "iterations": 1, "number": 2},
    ],
)
def test_bad_input_is_named(options):
    blamed = next(iter(options)) if len(options) == 1 else "iterations"
    with pytest.raises(ValueError, match=rf"^{blamed}(=.*)?: must be"):
        eigenpairs(np.eye(3), **options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_operator_that_returns_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match=r"^operator: "):
        eigenpairs(np.full((3, 3), value))
