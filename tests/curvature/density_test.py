import functools

import jax
import jax.numpy as jnp
import matfree.decomp
import matfree.funm
import numpy as np
import pytest
import scipy.stats
from curvature import matrices

from bsexp.curvature import block, density, estimate

pytestmark = pytest.mark.usefixtures("float64")

CENTRE = matrices.SPECTRA["indefinite"]


def quadrature(matrix, starts, iterations, seed=0):
    return density.lanczos_quadrature(
        matrices.operator(matrix),
        jnp.zeros(matrix.shape[0], matrix.dtype),
        jax.random.key(seed),
        starts=starts,
        iterations=iterations,
    )


def first_signs(dimension, starts, seed=0):
    """The starts themselves; four at most are drawn at once."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    return np.asarray(block.rademacher(key, jnp.zeros(dimension), starts))


@functools.cache
def vectors_of(spectrum):
    return np.linalg.eigh(matrices.symmetric(np.array(spectrum)))[1]


def exact(spectrum, signs):
    """What m = n steps give: every eigenvalue, weighted by the start's squared component along its vector."""
    weights = (signs @ vectors_of(tuple(spectrum))) ** 2 / len(spectrum)
    nodes = np.broadcast_to(np.sort(spectrum), weights.shape)
    return density.Density(nodes, weights, 0 * weights, 0.0, len(spectrum), 0)


@pytest.mark.parametrize("name", ["indefinite", "negative"])
def test_as_many_steps_as_dimensions_give_the_spectrum_and_each_start_s_squared_components(
    name,
):
    """Weights that are not squared, or are the last components, or those of rows, fail here."""
    spectrum = matrices.SPECTRA[name]
    found = quadrature(matrices.symmetric(spectrum), 3, 30)
    expected = exact(spectrum, first_signs(30, 3))
    np.testing.assert_allclose(found.nodes, expected.nodes, atol=1e-12)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-12)
    assert found.residuals.max() < 1e-12


@pytest.mark.parametrize("iterations", [1, 3, 8])
def test_each_start_integrates_polynomials_below_twice_its_steps_exactly(iterations):
    matrix = matrices.symmetric(CENTRE)
    found = quadrature(matrix, 2, iterations)
    signs = first_signs(30, 2)
    for power in range(2 * iterations):
        exactly = [v @ np.linalg.matrix_power(matrix, power) @ v / 30 for v in signs]
        np.testing.assert_allclose(
            density.moment(found, power).samples, exactly, rtol=1e-10, atol=1e-13
        )
    beyond = [
        v @ np.linalg.matrix_power(matrix, 2 * iterations) @ v / 30 for v in signs
    ]
    assert not np.allclose(density.moment(found, 2 * iterations).samples, beyond)


@pytest.mark.parametrize("function", [jnp.exp, jnp.abs])
def test_it_agrees_with_matfree_start_by_start(function):
    matrix = matrices.symmetric(CENTRE)
    found = quadrature(matrix, 3, 7)
    integrand = matfree.funm.monte_carlo_funm_sym(
        matfree.funm.dense_funm_sym_eigh(function), matfree.decomp.tridiag_sym(7)
    )
    theirs = [integrand(lambda v: matrix @ v, v) / 30 for v in first_signs(30, 3)]
    ours = (found.weights * function(found.nodes)).sum(axis=1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_moments_are_unbiased_and_their_error_bars_hold():
    matrix = matrices.symmetric(CENTRE)
    found = quadrature(matrix, 400, 3)
    for power in range(6):
        moment = density.moment(found, power)
        error = abs(moment.value - np.mean(CENTRE**power))
        assert error <= 4 * moment.stderr + 1e-14
    off_diagonal = np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2)
    first = density.moment(found, 1)
    # Hutchinson 1990; the variance of 400 samples scatters by about 7 %.
    np.testing.assert_allclose(
        400 * first.stderr**2, 2 * off_diagonal / 30**2, rtol=0.3
    )


def test_a_start_stops_where_its_space_is_invariant():
    """The matrix of ones has eigenvectors among the starts: those whose signs sum to 0 or to 4."""
    found = quadrature(jnp.ones((4, 4)), 40, 4)
    single = found.weights[:, 1] == 0
    sizes = density.moment(found, 1).samples
    assert found.nodes.shape == (40, 2)
    assert 10 <= single.sum() <= 30, "half of all starts"
    assert found.num_matvecs == 80 - single.sum()
    assert np.isinf(found.residuals[single, 1]).all()
    np.testing.assert_allclose(sizes[~single], 1)
    np.testing.assert_allclose(sizes[single] * (4 - sizes[single]), 0, atol=1e-12)
    np.testing.assert_allclose(found.nodes[~single] - [0, 4], 0, atol=1e-12)


def test_products_are_counted_and_four_starts_share_each_call():
    sizes = []
    matrix = matrices.symmetric(CENTRE)

    def counted(vectors):
        sizes.append(len(vectors))
        return vectors @ matrix

    found = density.lanczos_quadrature(
        counted, jnp.zeros(30), jax.random.key(0), starts=6, iterations=5
    )
    assert sizes == [4] * 5 + [2] * 5
    assert found.num_matvecs == sum(sizes)
    assert found.dimension == 30
    assert len(np.unique(found.nodes.round(12))) == 30, "starts must be independent"


def test_scaling_and_shifting_a_matrix_does_the_same_to_its_nodes_and_nothing_to_the_weights():
    matrix = matrices.symmetric(CENTRE)
    plain = quadrature(matrix, 3, 8)
    moved = quadrature(5 * matrix - 2 * jnp.eye(30), 3, 8)
    np.testing.assert_allclose(moved.nodes, 5 * plain.nodes - 2, atol=1e-12)
    np.testing.assert_allclose(moved.weights, plain.weights, rtol=1e-9)
    turned = quadrature(-matrix, 3, 8)
    np.testing.assert_allclose(turned.nodes, -plain.nodes[:, ::-1], atol=1e-12)


def test_float32_and_pytrees_give_the_same_density():
    scale = {"a": jnp.arange(6.0).reshape(2, 3), "b": -jnp.arange(1.0, 5.0)}

    def run(dtype):
        like = jax.tree.map(lambda leaf: leaf.astype(dtype), scale)
        return density.lanczos_quadrature(
            lambda vectors: jax.tree.map(jnp.multiply, like, vectors),
            like,
            jax.random.key(0),
            starts=3,
            iterations=4,
        )

    single, double = run(jnp.float32), run(jnp.float64)
    assert single.dimension == 10
    np.testing.assert_allclose(single.nodes, double.nodes, atol=1e-5)
    np.testing.assert_allclose(single.weights, double.weights, atol=1e-5)
    np.testing.assert_allclose(
        density.moment(double, 1).samples, (15 - 10) / 10, atol=1e-14
    )


def test_the_mass_of_a_cluster_is_its_share_of_the_eigenvalues():
    matrix = matrices.symmetric(matrices.SPECTRA["clustered"])
    found = quadrature(matrix, 200, 5)
    assert found.nodes.shape == (200, 2), "two clusters are two nodes"
    upper, lower = density.mass(found, 2, 4), density.mass(found, 0, 2)
    assert abs(upper.value - 5 / 30) <= 3 * upper.stderr
    np.testing.assert_allclose(upper.value + lower.value, 1)
    np.testing.assert_allclose(upper.stderr, lower.stderr)
    assert density.mass(found, -np.inf, np.inf).value == pytest.approx(1)


def test_a_mass_includes_its_lower_end_and_excludes_its_upper_end():
    found = density.Density(
        np.array([[0.0, 1.0, 2.0]] * 2),
        np.full((2, 3), 1 / 3),
        np.zeros((2, 3)),
        0,
        3,
        6,
    )
    assert density.mass(found, 0, 2).value == pytest.approx(2 / 3)
    assert density.mass(found, 1, 2).value == pytest.approx(1 / 3)


def test_the_quadrature_s_mass_is_off_by_no_more_than_the_nodes_beside_the_edge():
    """Chebyshev, Markov, Stieltjes, for each start by itself, at every edge."""
    found, whole = quadrature(matrices.symmetric(CENTRE), 3, 8), None
    whole = exact(CENTRE, first_signs(30, 3))
    for edge in np.linspace(-2.01, 1.01, 50):
        true = (whole.weights * (whole.nodes < edge)).sum(axis=1)
        below = found.nodes < edge
        sums = (found.weights * below).sum(axis=1)
        place = np.clip(below.sum(axis=1), 1, 7)
        rows = np.arange(3)
        slack = np.maximum(found.weights[rows, place - 1], found.weights[rows, place])
        assert (np.abs(sums - true) <= slack + 1e-12).all()


def test_negative_counts_by_number_and_by_size():
    found = quadrature(matrices.symmetric(CENTRE), 200, 30)
    for threshold in (0.0, 1.0):
        fraction = density.negative(found, threshold).fraction
        assert (
            abs(fraction.value - (CENTRE + threshold < 0).mean()) <= 3 * fraction.stderr
        )
    share = density.negative(found, 0.0).share
    true = -CENTRE[CENTRE < 0].sum() / np.abs(CENTRE).sum()
    assert abs(share.value - true) <= 3 * share.stderr
    assert share.stderr < 0.01


@pytest.mark.parametrize(
    ("spectrum", "fraction", "share"),
    [
        (-np.linspace(1, 2, 20), 1.0, 1.0),
        (np.linspace(1, 2, 20), 0.0, 0.0),
        (np.zeros(20), 0.0, 0.0),
    ],
)
def test_definite_spectra_are_negative_altogether_or_not_at_all(
    spectrum, fraction, share
):
    found = density.negative(quadrature(matrices.symmetric(spectrum), 3, 5), 1e-6)
    assert found.fraction.value == pytest.approx(fraction)
    assert found.share.value == pytest.approx(share)


def test_the_negative_share_can_be_trusted_where_nearly_all_eigenvalues_are_zero_and_the_fraction_cannot():
    rest = 1e-9 * np.random.default_rng(0).normal(size=90)
    spectrum = np.r_[rest, [5, 4, 3, 2, 1, 1, -0.5, -1, -1, -1.5]]
    found = quadrature(matrices.symmetric(spectrum), 10, 12)
    share = density.negative(found, 0.0).share
    assert abs(share.value - 4 / 20) <= 3 * share.stderr
    fractions = [density.negative(found, 10.0**-p).fraction.value for p in (3, 12)]
    assert fractions[0] < 0.1
    assert fractions[1] > 0.15, "the cluster at 0 fell to one side or the other"


def test_the_error_bar_of_the_negative_share_covers_the_truth_as_often_as_it_says():
    true = -CENTRE[CENTRE < 0].sum() / np.abs(CENTRE).sum()
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(1_000, 10, 30))
    intervals = [
        density.negative(exact(CENTRE, each), 0.0).share.interval() for each in signs
    ]
    assert 0.93 <= np.mean([low <= true <= high for low, high in intervals]) <= 0.97


def test_the_band_of_the_curve_covers_the_smoothed_density_in_95_percent_of_trials():
    """Density of all eigenvalues, smoothed alike; 2 000 trials of 8 starts scatter by 0.5 %."""
    spectrum = np.linspace(-2, 1, 60)
    grid = np.array([-2.1, -1.5, -0.5, 0.3, 1.0])
    true = scipy.stats.norm.pdf(grid[:, None], spectrum, 0.3).mean(axis=1)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(2_000, 8, 60))
    curves = [density.curve(exact(spectrum, each), grid, 0.3) for each in signs]
    covered = np.mean([(c.lower <= true) & (true <= c.upper) for c in curves], axis=0)
    assert ((covered >= 0.93) & (covered <= 0.97)).all(), covered


def test_the_band_is_the_interval_of_the_starts_as_an_estimate_has_it():
    found = quadrature(matrices.symmetric(CENTRE), 5, 8)
    curve = density.curve(found, np.array([0.3]), 0.5)
    samples = scipy.stats.norm.pdf(0.3, found.nodes, 0.5) * found.weights
    expected = estimate.from_samples(samples.sum(axis=1), 40, "budget")
    assert curve.mean[0] == pytest.approx(expected.value)
    assert (curve.lower[0], curve.upper[0]) == pytest.approx(expected.interval())


def test_few_steps_give_the_curve_of_all_where_the_width_exceeds_the_node_distance():
    grid = np.linspace(-5, 4, 400)
    found = density.curve(quadrature(matrices.symmetric(CENTRE), 3, 14), grid, 0.4)
    whole = density.curve(exact(CENTRE, first_signs(30, 3)), grid, 0.4)
    np.testing.assert_allclose(found.mean, whole.mean, atol=1e-4)
    np.testing.assert_allclose(found.upper, whole.upper, atol=1e-3)
    assert np.trapezoid(found.mean, grid) == pytest.approx(1, abs=1e-6)


BULKS = {
    "semicircle": (matrices.semicircle, (-2, 2)),
    "marchenko_pastur": (matrices.marchenko_pastur, (0.086, 2.914)),
}


@pytest.mark.parametrize("extra", [(), (4.0,), (-5.0, -3.0, 4.0, 6.0, 6.05)])
@pytest.mark.parametrize("name", BULKS)
def test_outliers_of_a_random_bulk_are_found_and_nothing_else(name, extra):
    draw, edges = BULKS[name]
    matrix = matrices.symmetric(np.r_[draw(500 - len(extra)), extra])
    for iterations in (20, 40, 70):
        found = density.outliers(quadrature(matrix, 4, iterations))
        np.testing.assert_allclose(found.values, extra, atol=1e-3)
        assert (np.abs(found.values - extra) <= found.residuals + 1e-12).all()
        np.testing.assert_allclose([found.lower, found.upper], edges, atol=0.15)


def test_copies_that_rounding_brings_up_hide_no_outlier():
    """Near 30 steps second copies of 6 and -5 appear, at other steps in each start, on their way to where the first is."""
    spectrum = np.r_[matrices.semicircle(192), np.repeat([-5.0, 3.0, 6.0], [3, 1, 4])]
    matrix = matrices.symmetric(spectrum)
    for iterations in range(20, 62, 3):
        found = density.outliers(quadrature(matrix, 3, iterations))
        np.testing.assert_allclose(found.values, [-5, 3, 6], atol=1e-3)
        np.testing.assert_allclose([found.lower, found.upper], [-2, 2], atol=0.2)


def test_a_heavy_tail_is_resolved_from_the_outside_in():
    """Few steps find the largest, more steps more, none of them twice and none that is not there."""
    tail = 2.0 * 1.5 ** np.arange(12)
    spectrum = np.r_[matrices.semicircle(188) * 1e-3, tail]
    matrix = matrices.symmetric(spectrum)
    counts = []
    for iterations in (6, 10, 14, 30):
        found = density.outliers(quadrature(matrix, 5, iterations)).values
        counts.append(len(found))
        np.testing.assert_allclose(found, tail[len(tail) - len(found) :], rtol=1e-3)
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] == 12


def test_a_low_rank_matrix_is_a_bulk_at_zero_and_outliers():
    spectrum = np.r_[np.zeros(96), [-1.0, 1.0, 2.0, 3.0]]
    found = density.outliers(quadrature(matrices.symmetric(spectrum), 3, 20))
    np.testing.assert_allclose(found.values, [-1, 1, 2, 3])
    assert max(abs(found.lower), abs(found.upper)) < 1e-12


@pytest.mark.parametrize("iterations", [1, 2, 100])
def test_no_number_of_steps_makes_outliers_of_a_bulk(iterations):
    matrix = matrices.symmetric(matrices.semicircle(100))
    assert density.outliers(quadrature(matrix, 3, iterations)).values.size == 0


def test_a_start_that_hardly_holds_an_outlier_does_not_make_it_bulk():
    """In one start of three the node for 9 has not converged yet; 5 is found all the same, 9 is not claimed."""
    nodes = np.array([[0, 1, 2, 5, 9.0], [0, 1, 2, 5, 9.0], [0, 1, 2, 5, 8.0]])
    residuals = np.array([[1, 1, 1, 1e-6, 1e-6]] * 2 + [[1, 1, 1, 1e-6, 2.0]])
    weights = np.array([[0.3, 0.4, 0.28, 0.01, 0.01]] * 3)
    found = density.outliers(density.Density(nodes, weights, residuals, 1e-9, 100, 15))
    assert found.values.tolist() == [5.0]
    assert (found.lower, found.upper) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("starts", "iterations", "blamed"), [(1, 5, "starts=1"), (2, 0, "iterations=0")]
)
def test_bad_counts_are_named(starts, iterations, blamed):
    with pytest.raises(ValueError, match=rf"^{blamed}: must be"):
        quadrature(jnp.eye(3), starts, iterations)


def test_an_operator_that_returns_nan_is_refused():
    with pytest.raises(ValueError, match=r"^operator: "):
        quadrature(jnp.full((3, 3), jnp.nan), 2, 2)


@pytest.mark.parametrize(
    ("function", "arguments", "blamed"),
    [
        (density.moment, (-1,), "power=-1"),
        (density.mass, (1.0, 1.0), "lower=1.0"),
        (density.mass, (np.nan, 1.0), "lower=nan"),
        (density.negative, (-1.0,), "threshold=-1.0"),
        (density.curve, (np.zeros(2), 0.0), "width=0.0"),
    ],
)
def test_bad_arguments_of_what_reads_a_density_are_named(function, arguments, blamed):
    with pytest.raises(ValueError, match=rf"^{blamed}: must be"):
        function(exact(CENTRE, np.ones((2, 30))), *arguments)


def test_a_bad_gap_is_named():
    with pytest.raises(ValueError, match=r"^gap=0: must be"):
        density.outliers(exact(CENTRE, np.ones((2, 30))), gap=0)


def test_the_negative_share_is_a_ratio_of_means_and_not_a_mean_of_ratios():
    """Starts with much of the one negative eigenvalue have large sums: the mean of ratios is 0.4 here."""
    spectrum = np.r_[-30.0, np.ones(29)]
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(4_000, 30))
    share = density.negative(exact(spectrum, signs), 0.0).share
    assert abs(share.value - 30 / 59) <= 3 * share.stderr
    assert share.stderr < 0.02


def test_rounding_is_that_of_the_start_with_the_largest_node():
    """A start without the eigenvalue 9 has nodes 1 alone."""
    matrix = jnp.array([[5.0, 4.0], [4.0, 5.0]])
    found = quadrature(matrix, 16, 2)
    assert {1.0, 9.0} == set(found.nodes[:, 0].round(9).tolist())
    assert found.rounding / np.finfo(float).eps == pytest.approx(30 * 9)
