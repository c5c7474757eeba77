import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from bsexp.curvature import gram, noise_scale, operator

pytestmark = pytest.mark.usefixtures("float64")
EXAMPLES = 256


def data():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(EXAMPLES, 6))
    labels = (inputs[:, 0] > generator.normal(size=EXAMPLES)).astype(int)
    return jnp.asarray(inputs), jnp.asarray(labels)


def point():
    generator = np.random.default_rng(1)
    return {
        "first": {
            "kernel": jnp.asarray(generator.normal(size=(6, 5))),
            "bias": jnp.asarray(generator.normal(size=5)),
        },
        "second": jnp.asarray(generator.normal(size=(5, 3))),
    }


LEAVES = ["first/bias", "first/kernel", "second"]


def loss(x, batch):
    inputs, labels = batch
    logits = jnp.tanh(inputs @ x["first"]["kernel"] + x["first"]["bias"]) @ x["second"]
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -picked.mean()


@functools.cache
def per_example_gradients():
    """The dense truth: [N, n], and each leaf's columns."""
    alone = jax.tree.map(lambda leaf: leaf[:, None], data())
    trees = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(point(), alone)
    leaves = [np.asarray(leaf).reshape(EXAMPLES, -1) for leaf in jax.tree.leaves(trees)]
    return np.concatenate(leaves, axis=1), dict(zip(LEAVES, leaves, strict=True))


@functools.cache
def dense_hessian():
    flat, unravel = ravel_pytree(point())
    whole = jax.jit(jax.hessian(lambda v: loss(unravel(v), data())))
    return np.asarray(whole(flat))


def hessian():
    return operator.objective(loss, operator.split(data(), 100)).hessian(point())


def grouped(gradients, size):
    return gradients.reshape(-1, size, gradients.shape[1]).mean(axis=1)


def of(gradients, size=1, weights=1.0, **options):
    """Estimate from gradients [K, n] themselves, of groups of ``size``, with H = diag(weights)."""
    products = (gradients * weights) @ gradients.T
    return noise_scale.estimate(gram.Gram({"": products}, size), **options)


@pytest.mark.parametrize(
    ("size", "vectors"), [(64, 1), (32, 3), (8, 10), (1, 100), (1, 10_000)]
)
def test_products_are_those_of_dense_gradients_whatever_the_group_and_the_tile(
    size, vectors, monkeypatch
):
    monkeypatch.setattr(gram, "TILE_BYTES", vectors * 50 * 8)
    found = gram.plain(loss, data(), point(), size)
    assert found.group_size == size
    assert list(found.layers) == LEAVES
    for path, leaf in per_example_gradients()[1].items():
        expected = grouped(leaf, size) @ grouped(leaf, size).T
        np.testing.assert_allclose(
            found.layers[path], expected, rtol=1e-9, atol=1e-12 * expected.max()
        )


@pytest.mark.parametrize("vectors", [3, 10_000])
def test_curved_products_are_those_of_the_dense_hessian_and_its_rows(
    vectors, monkeypatch
):
    monkeypatch.setattr(gram, "TILE_BYTES", vectors * 50 * 8)
    found = gram.curved(loss, data(), point(), hessian(), 32)
    gradients = grouped(per_example_gradients()[0], 32)
    images = gradients @ dense_hessian()
    ends = np.cumsum([5, 30, 15])
    for path, first, last in zip(LEAVES, [0, *ends], ends, strict=False):
        part = gradients[:, first:last] @ images[:, first:last].T
        np.testing.assert_allclose(
            found.layers[path], (part + part.T) / 2, rtol=1e-8, atol=1e-11
        )


def test_one_example_a_group_gives_the_dense_covariance_and_gradient():
    found = noise_scale.estimate(gram.plain(loss, data(), point()))
    gradients, _ = per_example_gradients()
    trace = np.trace(np.cov(gradients.T))
    square = np.sum(gradients.mean(axis=0) ** 2) - trace / EXAMPLES
    np.testing.assert_allclose(found.trace_covariance, trace, rtol=1e-9)
    np.testing.assert_allclose(found.squared_gradient, square, rtol=1e-9)
    np.testing.assert_allclose(found.value, trace / square, rtol=1e-9)
    assert 0 < found.low < found.value < found.high < math.inf


def test_with_the_hessian_it_gives_the_dense_weighted_covariance_and_gradient():
    found = noise_scale.estimate(gram.curved(loss, data(), point(), hessian(), 2))
    gradients, matrix = grouped(per_example_gradients()[0], 2), dense_hessian()
    trace = 2 * np.trace(matrix @ np.cov(gradients.T))
    mean = gradients.mean(axis=0)
    square = mean @ matrix @ mean - trace / EXAMPLES
    np.testing.assert_allclose(found.trace_covariance, trace, rtol=1e-8)
    np.testing.assert_allclose(found.squared_gradient, square, rtol=1e-8)
    np.testing.assert_allclose(found.value, trace / square, rtol=1e-8)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_the_two_size_estimate_agrees_with_the_per_example_one_within_their_intervals(
    size,
):
    alone = noise_scale.by_layer(gram.plain(loss, data(), point()))
    together = noise_scale.by_layer(gram.plain(loss, data(), point(), size))
    for path in LEAVES:
        assert alone[path].low < together[path].value < alone[path].high
        assert together[path].low < alone[path].value < together[path].high
        np.testing.assert_allclose(
            together[path].trace_covariance, alone[path].trace_covariance, rtol=0.35
        )


def test_layers_add_up_and_each_is_estimated_by_itself():
    products = gram.plain(loss, data(), point(), 4)
    whole, layers = noise_scale.estimate(products), noise_scale.by_layer(products)
    assert list(layers) == LEAVES
    for name in ("trace_covariance", "squared_gradient"):
        total = sum(getattr(layer, name) for layer in layers.values())
        np.testing.assert_allclose(total, getattr(whole, name), rtol=1e-12)
    part = gram.Gram({"second": products.layers["second"]}, 4)
    assert layers["second"] == noise_scale.estimate(part)


def trials(number, groups, dimension, size, signal, weights=1.0):
    """Mean gradients of groups of ``size`` skewed draws of a known covariance, and the true noise scale.

    ``signal`` is N |G|^2 / tr(Sigma): below 1 the noise of the mean over all examples exceeds the gradient. H is
    diag(weights).
    """
    generator = np.random.default_rng(0)
    variances = 1 / np.sqrt(np.arange(1, dimension + 1))
    square = signal * variances.sum() / (groups * size)
    curvature = weights * np.ones(dimension)
    with np.errstate(divide="ignore"):
        truth = curvature @ variances / (square * curvature.mean())
    for _ in range(number):
        draws = generator.gamma(4.0, size=(groups, size, dimension)) / 2 - 2
        noise = (draws * np.sqrt(variances)).mean(axis=1)
        yield np.sqrt(square / dimension) + noise, truth


def test_trace_and_squared_gradient_are_unbiased_where_noise_dominates():
    found = [of(g, 3, resamples=1) for g, _ in trials(1_000, 8, 20, 3, 0.5)]
    trace = np.sum(1 / np.sqrt(np.arange(1, 21)))
    for name, truth in (
        ("trace_covariance", trace),
        ("squared_gradient", 0.5 * trace / 24),
    ):
        values = np.array([getattr(each, name) for each in found])
        stderr = values.std(ddof=1) / len(values) ** 0.5
        assert abs(values.mean() - truth) < 4 * stderr
        assert stderr < 0.05 * truth  # small enough to see the bias, which is 200 %


@pytest.mark.slow
@pytest.mark.parametrize(
    ("groups", "dimension", "size", "signal", "weights"),
    [
        (50, 20, 1, 0.3, 1),
        (50, 50, 4, 1, 1),
        (100, 30, 1, 5, 1 / np.sqrt(np.arange(1, 31))),
        (200, 40, 1, 100, 1),
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    groups, dimension, size, signal, weights
):
    below = above = 0
    for gradients, truth in trials(1_000, groups, dimension, size, signal, weights):
        found = of(gradients, size, weights, resamples=400)
        below += truth < found.low
        above += truth > found.high
    assert 0.93 <= 1 - (below + above) / 1_000 <= 0.97
    assert max(below, above) / 1_000 < 0.05  # neither end is wrong alone


def test_without_a_gradient_the_upper_end_is_infinite_as_often_as_it_says():
    """The truth is infinite, and excluded in 2.5 % of trials: 12.5 of 500, with a standard deviation of 3.5."""
    excluded = sum(
        of(g, resamples=300).high < math.inf for g, _ in trials(500, 60, 40, 1, 0)
    )
    assert 2 <= excluded <= 26


def test_an_estimate_of_no_gradient_is_infinite_with_a_finite_lower_end():
    gradients = np.random.default_rng(0).normal(size=(50, 20))
    gradients -= gradients.mean(axis=0) / 6
    found = of(gradients)
    assert found.squared_gradient < 0
    assert found.value == found.high == math.inf
    assert 50 < found.low < math.inf


def test_a_gradient_without_noise_needs_a_batch_of_nearly_nothing():
    gradients = 1 + 1e-4 * np.random.default_rng(0).normal(size=(50, 20))
    found = of(gradients)
    np.testing.assert_allclose(found.value, 1e-8, rtol=0.2)
    assert 0 < found.low < 1e-8 < found.high < 2e-8


@pytest.mark.parametrize("product", [0.0, 0.1, 0.3])
def test_equal_gradients_have_no_noise_scale(product):
    """The trace of their covariance is zero up to rounding, of either sign."""
    found = noise_scale.estimate(gram.Gram({"x": np.full((7, 7), product)}, 1))
    assert math.isnan(found.value)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_a_multiple_of_the_loss_has_the_same_noise_scale_and_interval():
    gradients = next(trials(1, 50, 20, 1, 5))[0]
    one, three = of(gradients), of(3 * gradients)
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(getattr(one, name), getattr(three, name), rtol=1e-9)


def test_a_group_of_b_examples_counts_as_b():
    gradients = next(trials(1, 50, 20, 1, 5))[0]
    one, seven = of(gradients), of(gradients, 7)
    for name in ("value", "low", "high", "trace_covariance"):
        np.testing.assert_allclose(
            7 * getattr(one, name), getattr(seven, name), rtol=1e-9
        )


def test_a_higher_level_has_a_wider_interval_and_a_seed_gives_it_again():
    gradients = next(trials(1, 50, 20, 1, 20))[0]
    narrow, wide = of(gradients, level=0.5), of(gradients, level=0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert of(gradients) == of(gradients)
    assert of(gradients) != of(gradients, seed=1)


def test_signs_are_kept_where_the_curvature_is_not_positive():
    """Gradient along the first coordinate, noise along the others; H = diag(weights)."""
    gradients = np.random.default_rng(0).normal(size=(60, 20))
    gradients[:, 0] = 2 + gradients[:, 0] / 10
    bowl, saddle = np.ones(20), np.r_[1, -np.ones(19)]
    plain = of(gradients, weights=bowl)
    assert 0 < plain.low < plain.value < plain.high < math.inf
    noise_helps = of(gradients, weights=saddle)
    assert noise_helps.trace_covariance < 0 < noise_helps.squared_gradient
    np.testing.assert_allclose(
        [noise_helps.low, noise_helps.value, noise_helps.high],
        [-plain.high, -plain.value, -plain.low],
        rtol=0.1,
    )
    uphill = of(gradients, weights=-saddle)
    assert uphill.squared_gradient < 0 < uphill.trace_covariance
    assert uphill.value == uphill.low == uphill.high == math.inf
    hill = of(gradients, weights=-bowl)
    assert hill.value == hill.low == hill.high == -math.inf


def test_where_the_sign_of_the_trace_is_not_clear_nothing_is_claimed():
    gradients = 1 + np.random.default_rng(0).normal(size=(60, 20))
    found = of(gradients, weights=np.resize([1.0, -1.0], 20))
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_single_precision_gives_the_same_to_its_rounding():
    x, few = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (point(), data()[0]))
    single = gram.plain(loss, (few, data()[1]), x, 2)
    double = gram.plain(loss, data(), point(), 2)
    a, b = noise_scale.estimate(single), noise_scale.estimate(double)
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-4)


def infinite_loss(x, batch):
    return loss(x, batch) / 0.0


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: gram.plain(loss, data(), point(), 0), "group_size=0: "),
        (
            lambda: gram.plain(loss, data(), point(), 3),
            "group_size=3: must be >= 1 and divide the number of examples 256",
        ),
        (
            lambda: gram.plain(loss, data(), point(), 256),
            "data: 256 examples are fewer than 2 groups of 256",
        ),
        (
            lambda: gram.plain(loss, (data()[0], data()[1][:8]), point(), 4),
            "data: ",
        ),
        (
            lambda: gram.plain(infinite_loss, data(), point(), 4),
            "x: the gradient of a group there is not finite",
        ),
        (
            lambda: gram.curved(
                loss,
                data(),
                point(),
                lambda block: jax.tree.map(lambda leaf: leaf / 0, block),
                4,
            ),
            "hessian: returned a value that is not finite",
        ),
        (lambda: of(np.eye(3), level=1.0), "level=1.0: must be between 0 and 1"),
        (lambda: of(np.eye(3), resamples=0), "resamples=0: must be >= 1"),
    ],
)
def test_bad_input_is_named(broken, message):
    with pytest.raises(ValueError, match=message):
        broken()


def test_layers_are_estimated_at_the_level_and_with_the_seed_that_were_asked_for():
    products = gram.plain(loss, data(), point(), 8)
    for options in ({"level": 0.5}, {"seed": 3}, {"resamples": 50}):
        layers = noise_scale.by_layer(products, **options)
        for path, matrix in products.layers.items():
            alone = gram.Gram({path: matrix}, 8)
            assert layers[path] == noise_scale.estimate(alone, **options)
