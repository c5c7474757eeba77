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
