"""No product of matrices is left to the default precision, in which an accelerator rounds the factors."""

import jax
import jax.numpy as jnp
import pytest

from bsexp.curvature import (
    composite,
    density,
    gram,
    lanczos,
    landscape,
    operator,
    precise,
    subspace,
    trace,
)

# A CPU refuses it, so that a product which names no precision fails.
REFUSED = "TF32_TF32_F32"
EXAMPLES, PIXELS, CLASSES = 8, 3, 4
KEY = jax.random.key(0)
X, Y, Z = jax.random.normal(KEY, (3, PIXELS, CLASSES))
DATA = (jax.random.normal(KEY, (EXAMPLES, PIXELS)), jnp.arange(EXAMPLES) % CLASSES)
BLOCK = jnp.stack([X, Y])


def predict(x, inputs):
    return precise.matmul(inputs, x)


def loss(x, batch):
    return composite.mean_loss(composite.CROSS_ENTROPY.loss, predict, x, batch)


def built():
    chunks = operator.split(DATA, EXAMPLES)
    return composite.composite(predict, composite.CROSS_ENTROPY, chunks)


def hessian():
    return built().hessian(X)


def in_subspace():
    found = subspace.random(KEY, X, 2)
    return found.coordinates(found.expand(jnp.ones(2)))


CALLS = {
    "hutchinson": lambda: trace.hutchinson(hessian(), X, KEY, 4),
    "hutchpp": lambda: trace.hutchpp(hessian(), X, KEY, 6, directions=2),
    "xtrace": lambda: trace.xtrace(hessian(), X, KEY, 32),
    "eigenpairs": lambda: lanczos.eigenpairs(
        hessian(), X, KEY, 2, iterations=5, tolerance=1e-3
    ),
    "density": lambda: density.lanczos_quadrature(
        hessian(), X, KEY, starts=2, iterations=3
    ),
    "gauss_newton": lambda: built().gauss_newton(X)(BLOCK),
    "fisher": lambda: built().fisher(X)(BLOCK),
    "residual": lambda: built().residual(X)(BLOCK),
    "diagonal": lambda: built().gauss_newton_diagonal(X),
    "subspace": in_subspace,
    "plane": lambda: landscape.through(X, Y, Z),
    "gram": lambda: gram.plain(loss, DATA, X),
    "curved": lambda: gram.curved(loss, DATA, X, hessian()),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_names_the_precision_of_its_products(name):
    with jax.default_matmul_precision(REFUSED):
        CALLS[name]()


def test_a_product_that_names_none_would_fail():
    with (
        jax.default_matmul_precision(REFUSED),
        pytest.raises(ValueError, match="not supported"),
    ):
        jax.jit(jnp.matmul)(X.T, Y)
