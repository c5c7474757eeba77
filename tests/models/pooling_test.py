import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp.models import pooling


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("shape", [(3, 9, 7, 2), (2, 8, 8, 5)])
def test_the_form_for_cpu_is_the_max_pool_with_its_gradient_at_ties_too(
    shape, window, padding, ties
):
    inputs, along, weights = (
        jax.random.normal(key, shape) for key in jax.random.split(jax.random.key(0), 3)
    )
    if ties:  # as after a ReLU: half of the entries are the same
        inputs = jax.nn.relu(inputs)

    def derivatives(form):
        def function(inputs):
            return form(inputs, window, 2, padding)

        outputs, pull = jax.vjp(function, inputs)
        coefficients = weights[:, : outputs.shape[1], : outputs.shape[2]]
        moved = jax.jvp(function, (inputs,), (along,))[1]

        def gradient(inputs):
            return jax.grad(lambda x: (function(x) ** 3).sum())(inputs)

        curved = jax.jvp(gradient, (inputs,), (along,))[1]
        return outputs, pull(coefficients)[0], moved, curved

    for a, b in zip(
        derivatives(pooling.by_slices), derivatives(pooling.by_compiler), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_gradient_goes_to_the_first_of_equal_entries():
    inputs = jnp.ones((1, 2, 2, 1))
    slope = jax.grad(lambda x: pooling.max_pool(x, 2, 2, "SAME").sum())(inputs)
    np.testing.assert_array_equal(slope[0, :, :, 0], [[1, 0], [0, 0]])
