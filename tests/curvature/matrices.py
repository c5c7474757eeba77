"""Symmetric matrices with a prescribed spectrum, as operators on blocks."""

import jax.numpy as jnp
import numpy as np

SPECTRA = {
    "decay": 2.0 ** -np.arange(30),
    "clustered": np.r_[np.full(5, 3.0), np.full(25, 1.0)],
    "indefinite": np.linspace(-2, 1, 30),
    "negative": -np.linspace(1, 2, 30),
    "rank_one": np.r_[5.0, np.zeros(29)],
    "zero": np.zeros(30),
}


def symmetric(spectrum, seed=0):
    vectors, _ = np.linalg.qr(
        np.random.default_rng(seed).normal(size=(len(spectrum),) * 2)
    )
    return jnp.asarray(vectors * spectrum @ vectors.T)


def operator(matrix):
    return lambda block: block @ matrix


def semicircle(dimension, seed=0):
    """Eigenvalues of a random symmetric matrix: Wigner's semicircle on [-2, 2]."""
    drawn = np.random.default_rng(seed).normal(size=(dimension, dimension))
    return np.linalg.eigvalsh((drawn + drawn.T) / (2 * dimension) ** 0.5)


def marchenko_pastur(dimension, seed=0):
    """Eigenvalues of the covariance of twice as many samples: [0.086, 2.914], as of a Gauss-Newton matrix."""
    drawn = np.random.default_rng(seed).normal(size=(dimension, 2 * dimension))
    return np.linalg.eigvalsh(drawn @ drawn.T / (2 * dimension))
