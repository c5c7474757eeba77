import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp.models import convolution

SHAPES = [
    # inputs, kernel
    ((3, 9, 7, 2), (5, 5, 2, 4)),
    ((2, 8, 8, 3), (3, 3, 3, 5)),
    ((2, 6, 11, 1), (1, 4, 1, 3)),
    ((2, 5, 6, 17), (3, 2, 17, 2)),
    ((3, 2, 2, 17), (3, 3, 17, 4)),
]


@pytest.fixture(autouse=True)
def float32():
    """As in a network; by default an accelerator would round the factors of the products."""
    with jax.default_matmul_precision("float32"):
        yield


def random(inputs_shape, kernel_shape):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (inputs_shape, kernel_shape) * 2
    return [jax.random.normal(*each) for each in zip(keys, shapes, strict=True)]


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize(
    ("form", "stride", "padding"),
    [
        ("by_matmul", 1, "SAME"),
        ("by_shifts", 1, "SAME"),
        ("by_shifts", 2, "SAME"),
        # By matrix product for few channels or a stride, by shifts for an image smaller than the kernel, by the compiler for others.
        ("by_parts", 1, "SAME"),
        ("by_parts", 2, "SAME"),
        ("by_parts", 3, "SAME"),
    ],
)
@pytest.mark.parametrize("shapes", SHAPES)
def test_each_form_is_the_convolution_with_its_derivatives(
    shapes, stride, padding, form
):
    inputs, kernel, *tangents = random(*shapes)

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(form):
        def function(inputs, kernel):
            return form(inputs, kernel, stride, padding)

        point, along = (inputs, kernel), tuple(tangents)
        outputs, slope = jax.jvp(function, point, along)

        def gradient(*at):
            return jax.grad(lambda *x: (function(*x) ** 2).sum(), (0, 1))(*at)

        return outputs, slope, jax.jvp(gradient, point, along)

    assert_close(
        derivatives(getattr(convolution, form)), derivatives(convolution.by_compiler)
    )


@pytest.mark.parametrize("form", ["by_shifts", "by_parts"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shapes", SHAPES[:4])
def test_windows_within_the_image_only(shapes, stride, form):
    inputs, kernel, *_ = random(*shapes)
    found, expected = (
        getattr(convolution, name)(inputs, kernel, stride, "VALID")
        for name in (form, "by_compiler")
    )
    assert_close(found, expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_the_sum_over_its_window(stride):
    inputs, kernel, *_ = random((1, 5, 6, 2), (3, 3, 2, 1))
    padded = np.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # At stride 2, an even width needs one column of zeros: on the right.
    left = 1 if stride == 2 else 0
    windows = [
        [
            (padded[0, i : i + 3, j + left : j + left + 3] * kernel[..., 0]).sum()
            for j in range(0, 6, stride)
        ]
        for i in range(0, 5, stride)
    ]
    found = convolution.convolve(inputs, kernel, stride, "SAME")
    assert_close(found[0, :, :, 0], jnp.array(windows))


def test_the_choice_of_the_form_survives_every_transformation():
    inputs, kernel, *_ = random(*SHAPES[0])

    def loss(kernel, inputs):
        return (convolution.convolve(inputs, kernel, 2, "SAME") ** 2).sum()

    def plain(kernel, inputs):
        return (convolution.by_compiler(inputs, kernel, 2, "SAME") ** 2).sum()

    kernels = jnp.stack([kernel, 2 * kernel])
    expected = jnp.stack([jax.grad(plain)(each, inputs) for each in kernels])
    for transformed in (jax.vmap, lambda f, **axes: jax.jit(jax.vmap(f, **axes))):
        mapped = transformed(jax.grad(loss), in_axes=(0, None))
        assert_close(mapped(kernels, inputs), expected)
    _, product = jax.linearize(lambda k: jax.grad(loss)(k, inputs), kernel)
    _, expected = jax.jvp(
        lambda k: jax.grad(plain)(k, inputs), (kernel,), (kernels[1],)
    )
    assert_close(product(kernels[1]), expected)
