import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp import models
from bsexp.models import convolution, normalisation, winograd

SECOND_OF_C1 = (8, 8, 64), (5, 5, 64, 64), 2


def random(image, kernel, examples=3):
    keys = jax.random.split(jax.random.key(0))
    shapes = (examples, *image), kernel
    return [jax.random.normal(*each) for each in zip(keys, shapes, strict=True)]


def gradient(form, stride, padding):
    """Return value and derivatives of a loss of the convolution's outputs."""

    def loss(inputs, kernel):
        outputs = form(inputs, kernel, stride, padding)
        return (outputs**2).sum(), outputs

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


def assert_within(found, expected, share):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=share * np.abs(b).max())


@pytest.mark.parametrize(
    ("image", "kernel", "stride", "padding"),
    [
        ((4, 4, 3), (3, 3, 3, 2), 1, "SAME"),
        ((3, 3, 3), (2, 2, 3, 2), 1, "SAME"),  # four points a side and not six
        ((3, 4, 3), (2, 3, 3, 2), 1, "VALID"),  # a side each
        ((5, 4, 1), (1, 3, 1, 2), 1, "SAME"),  # one tap
        ((8, 8, 2), (5, 5, 2, 3), 2, "SAME"),  # as the second of C1
        ((7, 7, 2), (5, 5, 2, 3), 2, "SAME"),  # on other images
        ((5, 7, 2), (3, 2, 2, 3), 2, "VALID"),
        ((9, 8, 2), (3, 4, 2, 3), 3, "VALID"),
        ((9, 8, 2), (2, 1, 2, 3), 3, "VALID"),  # windows that leave entries out
        # Tiles: of four outputs, of which the last reach beyond the image; of two; of a side alone; of cells of a stride.
        ((9, 14, 2), (3, 3, 2, 3), 1, "SAME"),
        ((6, 7, 2), (5, 5, 2, 3), 1, "SAME"),
        ((3, 11, 2), (2, 4, 2, 3), 1, "VALID"),
        ((17, 12, 2), (5, 4, 2, 3), 2, "SAME"),
        ((16, 25, 2), (4, 7, 2, 3), 3, "VALID"),
    ],
)
def test_a_product_of_polynomials_is_the_convolution(image, kernel, stride, padding):
    """The points are chosen for rounding alone: without it, any give the convolution itself."""
    with jax.enable_x64(True):
        arrays = [each.astype(float) for each in random(image, kernel)]
        found, expected = (
            gradient(form, stride, padding)(*arrays)
            for form in (winograd.convolve, convolution.by_compiler)
        )
    assert_within(found, expected, 1e-12)


@pytest.mark.parametrize(
    ("image", "kernel", "stride"),
    [
        SECOND_OF_C1,
        ((4, 4, 128), (3, 3, 128, 64), 1),
        ((8, 8, 64), (5, 5, 64, 32), 1),
        ((10, 10, 64), (3, 3, 64, 32), 1),
    ],
)
def test_with_many_channels_it_rounds_to_less_than_a_hundred_thousandth(
    image, kernel, stride
):
    arrays = random(image, kernel, 64)
    with jax.enable_x64(True):
        exact = gradient(convolution.by_compiler, stride, "SAME")(
            *(each.astype(float) for each in arrays)
        )
    found = gradient(winograd.convolve, stride, "SAME")(*arrays)
    assert_within(found, exact, 1e-5)


def test_the_second_of_c1_takes_nine_products_an_output_instead_of_25():
    image, kernel, stride = SECOND_OF_C1
    height, width = winograd.sides((1, *image), kernel, stride, "SAME")
    assert height == width == winograd.Side(4, 4, 3, 1, 1, 4)
    assert height.tiles == 1
    assert height.points * width.points * stride**2 == 9 * 4 * 4
    assert height.seen == range(1, 5)  # a cell of zeros on each side


def test_larger_images_have_tiles():
    """The second of C2, 32 x 32: 8 x 8 tiles of 36 products for 16 outputs, 2.25 an output instead of 9."""
    height, _ = winograd.sides((1, 32, 32, 64), (3, 3, 64, 64), 1, "SAME")
    assert (height.tiles, height.outputs, height.points) == (8, 4, 6)
    assert height.seen == range(6)


def products(function, *arrays):
    """Return how many matrix products a function is; None where a convolution is left to the compiler."""
    text = str(jax.make_jaxpr(function)(*arrays))
    return None if "conv_general_dilated" in text else text.count(" dot_general[")


on_a_cpu = pytest.mark.skipif(
    jax.default_backend() != "cpu",
    reason="an accelerator keeps the compiler's convolution",
)


@on_a_cpu
@pytest.mark.parametrize(
    ("image", "kernel", "stride", "number"),
    [
        (*SECOND_OF_C1, 36 + 3),
        ((16, 16, 16), (3, 3, 16, 16), 1, 36 + 3),
        ((8, 8, 128), (3, 3, 128, 256), 1, 36 + 3),
        # The rest as they are measured: few channels; a kernel that at all points leaves the cache, and not for many tiles.
        ((8, 8, 3), (5, 5, 3, 64), 2, 1),
        ((4, 4, 256), (3, 3, 256, 512), 1, None),
        # No product less: one output, one tap. Too few points: seven taps.
        ((1, 1, 16), (3, 3, 16, 16), 1, 9),
        ((8, 8, 16), (1, 1, 16, 16), 1, None),
        ((16, 16, 16), (7, 7, 16, 16), 1, None),
    ],
)
def test_an_update_takes_it_where_it_is_fast_and_exact(image, kernel, stride, number):
    def function(*arrays):
        return convolution.convolve_in_training(*arrays, stride, "SAME")

    arrays = random(image, kernel)
    assert products(function, *arrays) == number
    halved = [each.astype(jnp.bfloat16) for each in arrays]
    assert products(function, *halved) != 36 + 3


@on_a_cpu
def test_what_is_measured_is_not_rounded_by_it():
    model = models.build("C1", (32, 32, 3), 10, 0.9, "paper")
    point = model.init(jax.random.key(0))
    inputs = jnp.zeros((4, 32, 32, 3))
    keys = jax.random.split(jax.random.key(0), 4)

    def train(parameters, statistics):
        return model.train(parameters, statistics, inputs, keys, normalisation.whole(4))

    # A product for each of three dense layers and two convolutions, in the second of these 39.
    assert products(train, *point) == 4 + 39
    for mode in ("batch", "running"):
        measure = functools.partial(model.apply, inputs=inputs, mode=mode)
        assert products(measure, *point) == 5
