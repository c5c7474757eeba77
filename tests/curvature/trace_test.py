import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curvature import matrices

from bsexp.curvature import trace

pytestmark = pytest.mark.usefixtures("float64")


def hutchinson(matrix, budget, seed=0, **more):
    like = np.zeros(matrix.shape[0], matrix.dtype)
    return trace.hutchinson(
        matrices.operator(matrix), like, jax.random.key(seed), budget, **more
    )


def hutchpp(matrix, budget, directions, seed=0, **more):
    like = np.zeros(matrix.shape[0], matrix.dtype)
    return trace.hutchpp(
        matrices.operator(matrix),
        like,
        jax.random.key(seed),
        budget,
        directions=directions,
        **more,
    )


def xtrace(matrix, budget, repeats=4, seed=0):
    like = np.zeros(matrix.shape[0], matrix.dtype)
    return trace.xtrace(
        matrices.operator(matrix),
        like,
        jax.random.key(seed),
        budget,
        repeats=repeats,
    )


METHODS = {
    "hutchinson": lambda matrix, seed: hutchinson(matrix, 40, seed),
    "hutchpp": lambda matrix, seed: hutchpp(matrix, 40, 8, seed),
    "xtrace": lambda matrix, seed: xtrace(matrix, 80, seed=seed),
}


def test_a_diagonal_operator_is_exact():
    found = hutchinson(np.diag([1.0, -2.0, 5.0]), 2)
    assert found.value == 4.0
    assert found.stderr == 0.0
    assert found.interval() == (4.0, 4.0)


def test_the_probes_are_counted_and_the_mean_and_error_are_those_of_the_samples():
    found = hutchinson(matrices.symmetric(matrices.SPECTRA["indefinite"]), 11)
    assert found.num_matvecs == len(found.samples) == 11
    np.testing.assert_allclose(found.value, found.samples.mean(), rtol=1e-14)
    np.testing.assert_allclose(found.stderr, found.samples.std(ddof=1) / 11**0.5)


def test_the_variance_of_a_sample_is_the_theorem_s():
    """Var(v^T A v) = 2 (|A|_F^2 - sum A_ii^2) for Rademacher v: Hutchinson 1990."""
    matrix = matrices.symmetric(matrices.SPECTRA["decay"])
    samples = hutchinson(matrix, 4_000).samples
    expected = 2 * (np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2))
    # The sample variance of 4 000 samples scatters by about 4 %; five of that would be a fault.
    np.testing.assert_allclose(samples.var(ddof=1), expected, rtol=0.2)


def test_samples_are_independent_across_blocks_and_seeds():
    matrix = matrices.symmetric(matrices.SPECTRA["indefinite"])
    samples = np.r_[
        hutchinson(matrix, 20).samples, hutchinson(matrix, 20, seed=1).samples
    ]
    assert len(set(samples.tolist())) == 40


@pytest.mark.parametrize("spectrum", matrices.SPECTRA)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_trace_of_a_prescribed_spectrum(method, spectrum):
    """Within five standard errors: a fault of 1 in a million by chance, for normal samples."""
    values = matrices.SPECTRA[spectrum]
    found = METHODS[method](matrices.symmetric(values), 3)
    assert abs(found.value - values.sum()) <= 5 * found.stderr + 1e-9


@pytest.mark.parametrize("directions", [1, 5])
def test_hutchpp_is_exact_where_its_subspace_holds_the_range(directions):
    matrix = matrices.symmetric(matrices.SPECTRA["rank_one"])
    found = hutchpp(matrix, 2 * directions + 4, directions)
    np.testing.assert_allclose(found.value, 5.0, rtol=1e-12)
    np.testing.assert_allclose(found.square.value, 25.0, rtol=1e-12)
    np.testing.assert_allclose(found.diagonal, np.diag(matrix), atol=1e-12)
    assert found.stderr < 1e-12


def test_hutchpp_gains_what_it_deflates():
    """2^-i beyond ten directions leaves a thousandth of the Frobenius norm."""
    matrix = matrices.symmetric(matrices.SPECTRA["decay"])
    assert hutchpp(matrix, 40, 10).stderr < 0.02 * hutchinson(matrix, 40).stderr


def test_xtrace_is_the_mean_of_its_leave_one_out_estimates():
    """Against the definition: for each i a basis of the other images, tr(Q_i^T A Q_i) and one normalised sample."""
    matrix = np.asarray(matrices.symmetric(matrices.SPECTRA["indefinite"]))
    number, dimension = 6, len(matrix)
    key = jax.random.split(jax.random.key(0), 2)[0]
    like = jnp.zeros(dimension)
    got = trace._xtrace_once(matrices.operator(matrix), like, key, number)
    probes = np.asarray(trace.block.normal(key, like, number))
    expected = []
    for i in range(number):
        others = np.delete(probes, i, axis=0) @ matrix
        basis, _ = np.linalg.qr(others.T)
        rest = probes[i] - basis @ (basis.T @ probes[i])
        sample = rest @ matrix @ rest * (dimension - number + 1) / (rest @ rest)
        expected.append(np.trace(basis.T @ matrix @ basis) + sample)
    np.testing.assert_allclose(got, np.mean(expected), rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rank", "vectors"), [(9, 10), (3, 5), (3, 10)])
def test_xtrace_of_an_operator_whose_rank_is_below_its_vectors_is_exact(
    dtype, rank, vectors
):
    """A Gauss-Newton matrix of ten logits, say, does not see the vector of ones."""
    roots = np.random.default_rng(0).standard_normal((10, rank))
    matrix = (roots @ roots.T).astype(dtype)
    found = xtrace(matrix, 2 * 4 * vectors)
    tolerance = 1e-5 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(found.value, np.trace(matrix), rtol=tolerance)


@pytest.mark.parametrize("tail", [1e-7, 1e-6])
def test_xtrace_in_single_precision_holds_beside_one_large_eigenvalue(tail):
    """Its images are nearly dependent: a pseudo-inverse of their triangle made 7.6 of a trace of 1.0002."""
    values = jnp.full(2_000, tail, jnp.float32).at[0].set(1)
    found = trace.xtrace(
        lambda vectors: vectors * values, values, jax.random.key(0), 128, repeats=8
    )
    np.testing.assert_allclose(found.value, 1 + 1_999 * tail, rtol=2e-6)
    assert found.stderr < 2e-6


def test_parameters_may_be_numbers_of_python():
    like = {"w": np.zeros(3, np.float32), "b": 0.5}
    found = trace.hutchinson(lambda vectors: vectors, like, jax.random.key(0), 2)
    assert found.value == 4


def test_the_trace_of_the_square_comes_from_the_same_products():
    values = matrices.SPECTRA["indefinite"]
    matrix = matrices.symmetric(values)
    for found in (hutchinson(matrix, 400), hutchpp(matrix, 400, 10)):
        assert found.num_matvecs == 400
        error = abs(found.square.value - np.sum(values**2))
        assert error <= 5 * found.square.stderr
        assert found.square.stderr < 0.05 * found.square.value


def test_the_diagonal_and_its_errors_are_those_of_the_single_products():
    matrix = matrices.symmetric(matrices.SPECTRA["indefinite"])
    found = hutchinson(matrix, 400)
    truth = np.diag(matrix)
    deviations = np.abs(found.diagonal - truth) / found.diagonal_stderr
    # Thirty entries, normal to good measure: the largest of thirty deviations stays below 4.5.
    assert deviations.max() < 4.5
    # Var(v_i (A v)_i) = sum_{j != i} A_ij^2; the scatter of 400 samples is 7 %.
    expected = np.sqrt((np.sum(matrix**2, axis=1) - truth**2) / 400)
    np.testing.assert_allclose(found.diagonal_stderr, expected, rtol=0.3)


def two_leaves(matrix):
    """Present a matrix of 30 as an operator on a pytree of a [2, 5] and a [20] leaf."""

    def product(block):
        flat = jnp.concatenate(
            [block["a"].reshape(-1, 10), block["layer"]["b"]], axis=1
        )
        image = flat @ matrix
        return {"a": image[:, :10].reshape(-1, 2, 5), "layer": {"b": image[:, 10:]}}

    return product, {"a": jnp.zeros((2, 5)), "layer": {"b": jnp.zeros(20)}}


def test_layers_are_the_traces_of_the_diagonal_blocks_and_add_up():
    matrix = matrices.symmetric(matrices.SPECTRA["indefinite"])
    operator, like = two_leaves(matrix)
    for found in (
        trace.hutchinson(operator, like, jax.random.key(0), 400),
        trace.hutchpp(operator, like, jax.random.key(0), 400, directions=10),
    ):
        truth = np.diag(matrix)
        expected = {"a": truth[:10].sum(), "layer/b": truth[10:].sum()}
        assert found.layers.keys() == expected.keys()
        for path, layer in found.layers.items():
            assert abs(layer.value - expected[path]) <= 5 * layer.stderr
            assert 0 < layer.stderr < 1
        total = sum(layer.value for layer in found.layers.values())
        np.testing.assert_allclose(total, found.value, rtol=1e-10)
        np.testing.assert_allclose(
            found.diagonal["layer"]["b"].sum(),
            found.layers["layer/b"].value,
            rtol=1e-10,
        )


def test_a_control_adds_its_trace_and_takes_the_variance_of_what_it_explains():
    base = matrices.symmetric(matrices.SPECTRA["decay"])
    small = 0.01 * matrices.symmetric(matrices.SPECTRA["indefinite"], seed=5)
    whole, control = base + small, jnp.diag(base)
    plain = hutchinson(whole, 40)
    for found in (
        hutchinson(small, 40, control=control),
        hutchpp(small, 40, 5, control=control),
    ):
        assert abs(found.value - np.trace(whole)) <= 5 * found.stderr
        assert found.stderr < 0.1 * plain.stderr
        np.testing.assert_allclose(
            found.diagonal, jnp.diag(whole), atol=6 * found.diagonal_stderr.max()
        )


def test_it_stops_at_the_tolerance_and_says_so():
    matrix = np.eye(30) + 0.01 * matrices.symmetric(matrices.SPECTRA["indefinite"])
    found = hutchinson(matrix, 10_000, tolerance=2e-4)
    assert found.stopped == "tolerance"
    assert found.num_matvecs < 1_000
    assert found.stderr <= 2e-4 * found.value
    assert hutchinson(matrix, 12, tolerance=1e-9).stopped == "budget"


def test_a_budget_that_no_block_divides_is_spent_to_the_last_product():
    calls = []

    def counted(block):
        calls.append(block.shape[0])
        return block

    found = trace.hutchpp(counted, jnp.zeros(30), jax.random.key(0), 23, directions=7)
    assert found.num_matvecs == sum(calls) == 23
    assert len(found.samples) == 23 - 2 * 7


@pytest.mark.parametrize("method", METHODS)
def test_the_confidence_interval_covers_the_truth_as_often_as_it_says(method):
    """93 to 97 % of 300 trials would fail by chance one time in 100; the full figure is in results/."""
    values = matrices.SPECTRA["indefinite"]
    matrix = matrices.symmetric(values)
    inside = 0
    for seed in range(300):
        low, high = METHODS[method](matrix, seed).interval()
        inside += low <= values.sum() <= high
    assert 0.91 <= inside / 300 <= 0.985


def test_float32_pytrees_work():
    matrix = np.asarray(matrices.symmetric(matrices.SPECTRA["decay"]), np.float32)
    like = jnp.zeros(30, jnp.float32)
    found = trace.hutchpp(
        lambda block: block @ matrix, like, jax.random.key(0), 40, directions=12
    )
    assert found.diagonal.dtype == jnp.float32
    np.testing.assert_allclose(found.value, 2.0, rtol=1e-3)


def test_bad_input_is_named():
    matrix = np.eye(3)
    for broken, message in (
        (lambda: hutchinson(matrix, 1), "budget=1: must be >= 2"),
        (lambda: hutchinson(matrix, 4, tolerance=-1.0), "tolerance=-1.0: must be >= 0"),
        (lambda: hutchinson(matrix, 4, tolerance=np.nan), "tolerance=nan"),
        (lambda: hutchpp(matrix, 5, 2), "budget=5: must be >= 6"),
        (lambda: hutchpp(matrix, 50, 4), "directions=4: must be between 1 and the"),
        (lambda: hutchpp(matrix, 50, 0), "directions=0: must be between 1 and the"),
        (lambda: xtrace(matrix, 15), "budget=15: must be >= 16"),
        (lambda: xtrace(matrix, 15, repeats=1), "repeats=1: must be >= 2"),
        (lambda: hutchinson(np.full((3, 3), np.nan), 4), "operator: returned"),
        (lambda: hutchpp(np.full((3, 3), np.inf), 6, 2), "operator: returned"),
        (lambda: xtrace(np.full((3, 3), np.nan), 16), "operator: returned"),
    ):
        with pytest.raises(ValueError, match=message):
            broken()
