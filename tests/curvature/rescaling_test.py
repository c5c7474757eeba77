"""Which measures of sharpness a rescaling that leaves the function unchanged leaves unchanged: Dinh et al. 2017."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from bsexp.curvature import operator, perturbation, rescaling, sharpness
from bsexp.models import dense, normalisation

pytestmark = pytest.mark.usefixtures("float64")

ALPHA = 20.0
KEY = jax.random.key(1)
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(40, 4)))
LABELS = jnp.asarray(np.random.default_rng(1).integers(3, size=40))


def cross_entropy(logits, labels):
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -picked.mean()


def plain_network(x, inputs):
    hidden = jax.nn.relu(inputs @ x["first"]["kernel"] + x["first"]["bias"])
    hidden = jax.nn.relu(hidden @ x["second"]["kernel"] + x["second"]["bias"])
    return hidden @ x["third"]["kernel"] + x["third"]["bias"]


def plain_start():
    generator = np.random.default_rng(2)
    sizes = {"first": (4, 6), "second": (6, 5), "third": (5, 3)}
    return {
        name: {
            "kernel": jnp.asarray(generator.normal(size=size)) / size[0] ** 0.5,
            "bias": jnp.asarray(0.1 * generator.normal(size=size[1])),
        }
        for name, size in sizes.items()
    }


NORMALISED = dense.FullyConnected(widths=(6, 5), num_classes=3, momentum=0.9)
WHOLE = normalisation.whole(len(INPUTS))


def normalised_start():
    """F1, only smaller, with running averages that have moved."""
    variables = NORMALISED.init(KEY, INPUTS, WHOLE, None)
    for _ in range(3):
        _, moved = NORMALISED.apply(
            variables, INPUTS, WHOLE, None, mutable=["statistics"]
        )
        variables = {"params": variables["params"], **moved}
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)


def normalised_network(statistics, x, inputs):
    variables = {"params": x, "statistics": statistics}
    return NORMALISED.apply(variables, inputs, None, None)


@functools.cache
def case(name):
    """A network, a point after 300 steps of gradient descent, and how to rescale it."""
    if name == "plain":
        network, x = plain_network, plain_start()
        patterns = {
            "multiplied": ("first/kernel", "first/bias"),
            "divided": "second/kernel",
        }
    else:
        variables = normalised_start()
        network = jax.tree_util.Partial(normalised_network, variables["statistics"])
        x = variables["params"]
        patterns = {
            "multiplied": ("NormalisedDense_0/scale", "NormalisedDense_0/offset"),
            "divided": "NormalisedDense_1/kernel",
        }

    def loss(x, batch):
        return cross_entropy(network(x, batch[0]), batch[1])

    gradient = jax.jit(jax.grad(loss))
    for _ in range(300):
        slope = gradient(x, (INPUTS, LABELS))
        x = jax.tree.map(lambda leaf, g: leaf - 0.1 * g, x, slope)
    rescaled = rescaling.rescale(x, ALPHA, **patterns)
    return network, operator.objective(loss, [(INPUTS, LABELS)]), loss, x, rescaled


both = pytest.mark.parametrize("name", ["plain", "normalised"])


def sizes(x):
    return jax.tree.map(jnp.abs, x)


@both
def test_the_function_is_the_same_and_the_parameters_are_not(name):
    network, loss, _, x, rescaled = case(name)
    outputs = network(x, INPUTS)
    assert jnp.abs(outputs).max() > 0.5
    np.testing.assert_allclose(network(rescaled, INPUTS), outputs, atol=1e-12)
    np.testing.assert_allclose(loss.value(rescaled), loss.value(x), atol=1e-12)
    change = ravel_pytree(rescaled)[0] / ravel_pytree(x)[0]
    ratios, counts = np.unique(
        np.round(change[~jnp.isnan(change)], 9), return_counts=True
    )
    np.testing.assert_allclose(ratios, [1 / ALPHA, 1, ALPHA])
    assert counts[0] == 30


@both
def test_the_hessian_changes_by_the_factors_of_the_theorem(name):
    """H becomes D^-1 H D^-1: its diagonal by alpha^-2 and alpha^2."""
    _, _, loss, x, rescaled = case(name)

    flat, unravel = ravel_pytree(x)
    hessian = jax.jit(jax.hessian(lambda v: loss(unravel(v), (INPUTS, LABELS))))
    before, after = hessian(flat), hessian(ravel_pytree(rescaled)[0])
    factor = ravel_pytree(rescaled)[0] / ravel_pytree(x)[0]
    factor = jnp.where(jnp.isnan(factor), 1, factor)
    np.testing.assert_allclose(after, before / jnp.outer(factor, factor), atol=1e-10)
    assert jnp.trace(after) > 20 * jnp.trace(before)
    assert jnp.linalg.eigvalsh(after)[-1] > 20 * jnp.linalg.eigvalsh(before)[-1]


@both
def test_keskar_s_sharpness_changes(name):
    _, loss, _, x, rescaled = case(name)
    before, after = (
        sharpness.keskar(loss, point, 1e-3, iterations=10, steps=10).value
        for point in (x, rescaled)
    )
    assert after > 5 * before > 0


@both
@pytest.mark.parametrize("steps", [1, 10])
def test_sam_s_sharpness_changes_and_the_adaptive_one_does_not(name, steps):
    _, loss, _, x, rescaled = case(name)
    before, after = (
        perturbation.worst_case(loss, point, 1e-2, steps=steps).value
        for point in (x, rescaled)
    )
    assert after > 5 * before > 0
    before, after = (
        perturbation.worst_case(loss, point, 1e-2, steps=steps, scale=sizes(point))
        for point in (x, rescaled)
    )
    assert before.value > 0
    np.testing.assert_allclose(after.value, before.value, rtol=1e-9)


@both
def test_the_average_rise_changes_and_the_adaptive_one_does_not(name):
    _, loss, _, x, rescaled = case(name)
    before, after = (
        perturbation.average_case(loss, point, 1e-2, KEY, 60).value
        for point in (x, rescaled)
    )
    assert after > 20 * before > 0
    before, after = (
        perturbation.average_case(loss, point, 1e-2, KEY, 60, scale=sizes(point))
        for point in (x, rescaled)
    )
    assert before.value > 3 * before.stderr
    np.testing.assert_allclose(after.samples, before.samples, rtol=1e-6)


def test_dtypes_stay_and_leaves_that_no_pattern_names_too():
    x = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(2, jnp.float32), "c": jnp.ones(1)}
    found = rescaling.rescale(x, 4.0, multiplied="a", divided=("b",))
    np.testing.assert_array_equal(found["a"], [4, 4])
    np.testing.assert_array_equal(found["b"], [0.25, 0.25])
    np.testing.assert_array_equal(found["c"], [1])
    assert found["a"].dtype == found["b"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0}, "alpha=0.0: must be finite and > 0"),
        ({"alpha": -2.0}, "alpha=-2.0: must be finite and > 0"),
        ({"alpha": np.nan}, "alpha=nan: must be finite and > 0"),
        ({"multiplied": "zeroth/*"}, "multiplied: .*zeroth/.*first/bias"),
        ({"divided": ("second/kernel", "x")}, "divided: .*'x'.*third/kernel"),
        ({"divided": "*/kernel"}, "multiplied and divided: both match first/kernel$"),
    ],
)
def test_bad_input_is_named_with_the_paths_that_exist(changes, message):
    good = {"alpha": 2.0, "multiplied": "first/*", "divided": "second/kernel"}
    with pytest.raises(ValueError, match=message):
        rescaling.rescale(plain_start(), **{**good, **changes})
