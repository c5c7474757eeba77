import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bsexp import models
from bsexp.models import normalisation

MNIST = (28, 28, 1)


@pytest.fixture(scope="module")
def f1():
    return models.build("F1", MNIST, 10, 0.9)


@pytest.fixture(scope="module")
def trained(f1):
    """F1 with statistics and parameters that are not at their initial values."""
    parameters, _ = f1.init(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 100))
    parameters = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), parameters
    )
    _, statistics = train(f1, parameters, f1.init(jax.random.key(0))[1], images(512, 2))
    return parameters, statistics


def train(model, parameters, statistics, inputs):
    """Train on one ghost batch; F1 has no dropout, and no key to draw it from."""
    ghost = normalisation.whole(len(inputs))
    return model.train(parameters, statistics, inputs, None, ghost)


def images(count, seed=0):
    return jax.random.uniform(jax.random.key(seed), (count, *MNIST))


def reference(parameters, statistics, inputs, *, running):
    """F1 from Flax's own Dense and BatchNorm, layer by layer."""
    hidden = inputs.reshape(len(inputs), -1)
    for i in range(5):
        layer, averages = (
            parameters[f"NormalisedDense_{i}"],
            statistics[f"NormalisedDense_{i}"],
        )
        hidden = nn.Dense(512).apply(
            {"params": {key: layer[key] for key in ("kernel", "bias")}}, hidden
        )
        norm = nn.BatchNorm(
            use_running_average=running,
            momentum=0.9,
            epsilon=1e-5,
            use_fast_variance=False,
        )
        variables = {
            "params": {"scale": layer["scale"], "bias": layer["offset"]},
            "batch_stats": {"mean": averages["mean"], "var": averages["variance"]},
        }
        hidden = norm.apply(variables, hidden, mutable=["batch_stats"])[0]
        hidden = nn.relu(hidden)
    return nn.Dense(10).apply({"params": parameters["Dense_0"]}, hidden)


def test_f1_has_the_paper_s_number_of_parameters(f1):
    shapes = jax.eval_shape(f1.init, jax.random.key(0))[0]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 1_462_794


def test_starts_are_uniform_and_a_function_of_the_key(f1):
    first, again, other = (f1.init(jax.random.key(seed))[0] for seed in (0, 0, 1))
    kernel = first["NormalisedDense_0"]["kernel"]
    np.testing.assert_array_equal(kernel, again["NormalisedDense_0"]["kernel"])
    assert np.any(kernel != other["NormalisedDense_0"]["kernel"])
    bound = (6 / (784 + 512)) ** 0.5  # Glorot and Bengio 2010
    assert np.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.var(), bound**2 / 3, rtol=0.01)


@pytest.mark.parametrize("mode", models.MODES)
def test_each_mode_is_dense_then_batch_norm_as_flax_computes_them(f1, trained, mode):
    inputs = images(64)
    expected = reference(*trained, inputs, running=mode == "running")
    np.testing.assert_allclose(
        f1.apply(*trained, inputs, mode), expected, rtol=2e-4, atol=2e-4
    )


def test_gradients_in_mode_running_are_those_without_folding(f1, trained):
    parameters, statistics = trained
    inputs, weights = images(64), jax.random.normal(jax.random.key(3), (64, 10))
    folded = jax.grad(
        lambda p: (f1.apply(p, statistics, inputs, "running") * weights).sum()
    )(parameters)
    plain = jax.grad(
        lambda p: (reference(p, statistics, inputs, running=True) * weights).sum()
    )(parameters)
    for a, b in zip(jax.tree.leaves(folded), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


def test_modes_differ_and_neither_is_taken_for_the_other(f1, trained):
    running, batch = (f1.apply(*trained, images(64), mode) for mode in models.MODES)
    assert np.abs(running - batch).max() > 1e-2


def test_in_mode_running_examples_do_not_depend_on_each_other(f1, trained):
    inputs = images(8)
    together = f1.apply(*trained, inputs, "running")
    alone = f1.apply(*trained, inputs[:1], "running")
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-4)


def test_training_normalises_by_the_batch_and_moves_the_averages_one_step(f1, trained):
    parameters, statistics = trained
    inputs = images(128)
    logits, moved = train(f1, parameters, statistics, inputs)
    np.testing.assert_array_equal(
        logits, f1.apply(parameters, statistics, inputs, "batch")
    )
    layer = parameters["NormalisedDense_0"]
    outputs = inputs.reshape(128, -1) @ layer["kernel"] + layer["bias"]
    old, new = statistics["NormalisedDense_0"], moved["NormalisedDense_0"]
    np.testing.assert_allclose(
        new["mean"], 0.9 * old["mean"] + 0.1 * outputs.mean(0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        new["variance"],
        0.9 * old["variance"] + 0.1 * outputs.var(0),
        rtol=1e-4,
        atol=1e-5,
    )


def test_in_mode_batch_the_bias_before_a_batch_norm_has_a_gradient_of_exactly_zero(
    f1, trained
):
    parameters, statistics = trained
    slope = jax.grad(
        lambda p: (f1.apply(p, statistics, images(32), "batch") ** 2).sum()
    )(parameters)
    assert not slope["NormalisedDense_0"]["bias"].any(), (
        "rounding noise here would let Adam walk at random"
    )


def test_statistics_between_two_points_start_and_end_at_theirs(trained):
    _, end = trained
    start = jax.tree.map(lambda leaf: 2 * leaf + 1, end)
    for alpha, expected in ((0.0, start), (1.0, end)):
        found = models.interpolate_statistics(start, end, alpha)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            found,
            expected,
        )


@pytest.mark.parametrize("alpha", [-1.0, 2.0])
def test_variances_stay_valid_outside_the_segment(alpha):
    start = {
        "layer": {"mean": jnp.array([0.0, 1.0]), "variance": jnp.array([4.0, 0.0])}
    }
    end = {"layer": {"mean": jnp.array([1.0, 1.0]), "variance": jnp.array([1.0, 9.0])}}
    found = models.interpolate_statistics(start, end, alpha)["layer"]
    assert (found["variance"] + normalisation.EPSILON > 0).all()
    np.testing.assert_allclose(found["mean"], [alpha, 1.0])
