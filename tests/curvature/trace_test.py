import jax
import numpy as np
import pytest
from curvature import matrices

from bsexp.curvature import trace

pytestmark = pytest.mark.usefixtures("float64")


def estimate(matrix, probes, seed=0):
    like = np.zeros(matrix.shape[0])
    return trace.hutchinson(
        matrices.operator(matrix), like, jax.random.key(seed), probes
    )


def test_a_diagonal_operator_is_exact():
    found = estimate(np.diag([1.0, -2.0, 5.0]), 2)
    assert found.value == 4.0
    assert found.stderr == 0.0


def test_the_probes_are_counted_and_the_mean_and_error_are_those_of_the_samples():
    found = estimate(matrices.symmetric(matrices.SPECTRA["indefinite"]), 11)
    assert found.num_matvecs == len(found.samples) == 11
    assert found.value == found.samples.mean()
    np.testing.assert_allclose(found.stderr, found.samples.std(ddof=1) / 11**0.5)


def test_the_variance_of_a_sample_is_the_theorem_s():
    """Var(v^T A v) = 2 (|A|_F^2 - sum A_ii^2) for Rademacher v: Hutchinson 1990."""
    matrix = matrices.symmetric(matrices.SPECTRA["decay"])
    samples = estimate(matrix, 4_000).samples
    expected = 2 * (np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2))
    # The sample variance of 4 000 samples scatters by about 4 %; five of that would be a fault.
    np.testing.assert_allclose(samples.var(ddof=1), expected, rtol=0.2)


def test_samples_are_independent_across_blocks_and_seeds():
    matrix = matrices.symmetric(matrices.SPECTRA["indefinite"])
    samples = np.r_[estimate(matrix, 20).samples, estimate(matrix, 20, seed=1).samples]
    assert len(set(samples.tolist())) == 40


def test_the_confidence_interval_covers_the_truth_as_often_as_it_says():
    """With 30 probes, value +- t(0.975, 29) stderr holds the trace in 95 % of trials."""
    matrix = matrices.symmetric(matrices.SPECTRA["decay"])
    samples = estimate(matrix, 30 * 1_000).samples.reshape(1_000, 30)
    error = np.abs(samples.mean(axis=1) - np.trace(matrix))
    half_width = 2.045 * samples.std(axis=1, ddof=1) / 30**0.5
    assert 0.93 <= np.mean(error <= half_width) <= 0.97


def test_pytrees_of_several_leaves_are_summed_over():
    like = {"a": np.zeros((2, 3)), "b": np.zeros(4)}
    found = trace.hutchinson(
        lambda block: {"a": 2.0 * block["a"], "b": -1.0 * block["b"]},
        like,
        jax.random.key(0),
        3,
    )
    assert found.value == 2 * 6 - 4


def test_one_probe_is_refused_since_it_has_no_error_bar():
    with pytest.raises(ValueError, match="num_probes=1: must be >= 2"):
        estimate(np.eye(3), 1)
