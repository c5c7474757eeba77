"""The product of a dense layer is the plain one with all its derivatives, and none of them turns the kernel."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp import models
from bsexp.models import normalisation, product

FEW, WIDTH, FEATURES = 5, 7, 4


def random(seed, *shapes):
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return tuple(jax.random.normal(*each) for each in zip(keys, shapes, strict=True))


@pytest.mark.parametrize("number", [1, FEW, product.MOST_EXAMPLES + 1])
def test_the_product_has_all_derivatives_of_the_plain_one(number):
    shapes = (number, WIDTH), (WIDTH, FEATURES)
    point, along = random(0, *shapes), random(1, *shapes)

    def derivatives(form):
        def loss(*at):
            return (jnp.tanh(form(*at)) ** 2).sum()

        gradient = jax.grad(loss, (0, 1))
        outputs, slope = jax.jvp(form, point, along)  # Gauss-Newton goes forward
        one_kernel = jax.vmap(form, (None, 0))(point[0], jnp.stack([point[1]] * 2))
        of_kernel = jax.grad(lambda kernel: loss(point[0], kernel))(point[1])
        product_with_hessian = jax.jvp(gradient, point, along)
        return outputs, slope, one_kernel, of_kernel, product_with_hessian

    found, expected = (
        jax.tree.leaves(jax.jit(derivatives, static_argnums=0)(form))
        for form in (product.product, jnp.matmul)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * np.abs(b).max())


@pytest.mark.usefixtures("optimised")
def test_for_few_examples_the_inputs_are_turned_and_the_kernel_is_taken_as_it_lies():
    inputs, kernel, vector = random(0, (FEW, WIDTH), (WIDTH, FEATURES), (FEW, FEATURES))

    def products(form, place):
        def pulled(inputs, kernel, vector):
            outputs, pull = jax.vjp(form, inputs, kernel)
            return (outputs, *pull(vector))[place]

        text = jax.jit(pulled).lower(inputs, kernel, vector).compile().as_text()
        return re.findall(
            r"= f32\[(\d+,\d+)\]\S* dot\(.*lhs_contracting_dims=\{(\d)\}", text
        )

    # The outputs and the gradients by inputs and kernel: the shape, and the axis of the first factor that is summed over.
    assert [products(product.product, place) for place in range(3)] == [
        [(f"{FEW},{FEATURES}", "0")],
        [(f"{WIDTH},{FEW}", "1")],
        [(f"{WIDTH},{FEATURES}", "1")],
    ]
    assert [products(jnp.matmul, place) for place in range(2)] == [
        [(f"{FEW},{FEATURES}", "1")],
        [(f"{FEW},{WIDTH}", "1")],
    ]


def test_it_serves_training_and_not_what_is_measured():
    """`memory.chunk_size` foretells the memory of many examples from that of a few."""
    model = models.build("F1", (28, 28, 1), 10, 0.9)
    images, keys = jnp.ones((FEW, 28, 28, 1)), jax.random.split(jax.random.key(0), FEW)
    parameters, statistics = model.init(keys[0])

    def trained(x):
        ghost = normalisation.whole(FEW)
        return model.train(x, statistics, images, keys, ghost)[0].sum()

    def measured(mode):
        return lambda x: model.apply(x, statistics, images, mode).sum()

    assert "optimization_barrier" in str(jax.make_jaxpr(jax.grad(trained))(parameters))
    for mode in models.MODES:
        program = str(jax.make_jaxpr(jax.grad(measured(mode)))(parameters))
        assert "optimization_barrier" not in program
