"""A change of scale that leaves the function as it is, and what the probes say of it, on real MNIST."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import jobs

from bsexp import config, models, probes
from bsexp.data import sources
from bsexp.models import normalisation
from bsexp.probes import invariance
from bsexp.probes.bench import Bench
from bsexp.probes.task import Point

TRAIN, TEST = 200, 60
SIZES = {"train": TRAIN, "test": TEST}
MEASURE = config.Measure(
    statistics_batch=100,
    sharpness=config.Sharpness(
        epsilons=(1e-3,),
        running_examples=100,
        batch_examples=100,
        guide_examples=100,
        lbfgsb_iterations=2,
        ascent_steps=4,
    ),
    hessian=config.Hessian(examples=100, trace_probes=2, lanczos_iterations=5),
    flatness=config.Flatness(
        examples=100, sam_examples=50, steps=1, evaluations=4, noise=0.05
    ),
    invariance=config.Invariance(doublings=3),
)


def point_of(model, images):
    """The start of a network after its running averages have moved, with biases that are not zero."""
    parameters, statistics = model.init(jax.random.key(0))
    parameters = jax.tree.map(
        lambda leaf: leaf if leaf.ndim > 1 else leaf + 0.02, parameters
    )
    keys = jax.random.split(jax.random.key(1), len(images))
    ghost = normalisation.whole(len(images))
    for _ in range(5):
        _, statistics = model.train(parameters, statistics, images, keys, ghost)
    return Point("a", parameters, statistics, parameters)


@pytest.mark.parametrize("name", ["F1", pytest.param("C1", marks=pytest.mark.slow)])
def test_the_outputs_stay_and_the_layers_before_batch_norm_grow(name):
    shape = (28, 28, 1) if name == "F1" else (32, 32, 3)
    model = models.build(name, shape, 10, 0.9)
    images = jax.random.uniform(jax.random.key(2), (20, *shape))
    point = point_of(model, images)
    there = invariance.rescaled(point, 8)
    for mode in models.MODES:
        before = model.apply(point.parameters, point.statistics, images, mode)
        after = model.apply(there.parameters, there.statistics, images, mode)
        assert jnp.abs(before).max() > 0.1
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)
    grown = {"kernel": 8, "bias": 8, "scale": 1, "offset": 1}
    for layer, leaves in point.parameters.items():
        for key, leaf in leaves.items():
            factor = grown[key] if layer in point.statistics else 1
            np.testing.assert_array_equal(there.parameters[layer][key], factor * leaf)


def test_a_unit_without_variance_keeps_its_output_in_mode_running():
    """There epsilon is all that batch norm divides by: scaled with the rest, or the output would be 8 times as large."""
    model = models.build("F1", (28, 28, 1), 10, 0.9)
    images = jax.random.uniform(jax.random.key(2), (20, 28, 28, 1))
    point = point_of(model, images)
    still = jax.tree.map(jnp.zeros_like, point.statistics)
    point = point._replace(statistics=still)
    there = invariance.rescaled(point, 8)
    before = model.apply(point.parameters, point.statistics, images, "running")
    after = model.apply(there.parameters, there.statistics, images, "running")
    assert jnp.abs(before).max() > 1e6
    np.testing.assert_allclose(after, before, rtol=1e-4)


def test_layers_within_blocks_are_found_and_a_network_without_any_is_refused():
    model = models.build("probes.nested:Nested", (4, 4, 1), 10, 0.9)
    images = jax.random.uniform(jax.random.key(2), (20, 4, 4, 1))
    point = point_of(model, images)
    there = invariance.rescaled(point, 8)
    for mode in models.MODES:
        before = model.apply(point.parameters, point.statistics, images, mode)
        after = model.apply(there.parameters, there.statistics, images, mode)
        assert jnp.abs(before).max() > 0.1
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)
    old, new = (
        each.parameters["Block_1"]["NormalisedDense_0"] for each in (point, there)
    )
    np.testing.assert_array_equal(new["kernel"], 8 * old["kernel"])
    np.testing.assert_array_equal(new["scale"], old["scale"])
    np.testing.assert_array_equal(
        there.parameters["Dense_0"]["kernel"], point.parameters["Dense_0"]["kernel"]
    )
    with pytest.raises(ValueError, match="no batch norm"):
        invariance.rescaled(point._replace(statistics={}), 8)


@pytest.fixture(scope="module")
def bench(mnist):
    data = dataclasses.replace(
        mnist,
        train=sources.Split(mnist.train.images[:TRAIN], mnist.train.labels[:TRAIN]),
        test=sources.Split(mnist.test.images[:TEST], mnist.test.labels[:TEST]),
    )
    return Bench(jobs.network(), data, MEASURE.statistics_batch, lambda _: None)


@pytest.fixture(scope="module")
def point(mnist):
    return point_of(jobs.network(), jnp.asarray(mnist.train.images[:100]) / 255)


@pytest.fixture(scope="module")
def measured(bench, point):
    """Factor -> measures, at 1 and at 8."""
    listed = probes.tasks(("invariance",), MEASURE, SIZES)
    assert [task.name for task in listed] == [
        f"invariance/{factor}" for factor in (1, 2, 4, 8)
    ]
    found = [task.measure(bench, point).detail for task in (listed[0], listed[-1])]
    return {detail["factor"]: detail["measures"] for detail in found}


@pytest.mark.slow
def test_unscaled_the_numbers_are_those_of_the_probes(bench, point, measured):
    (task,) = probes.tasks(
        ("sharpness",), dataclasses.replace(MEASURE, modes=("running",)), SIZES
    )
    values = task.measure(bench, point).values
    assert values.items() <= measured[1].items()


@pytest.mark.slow
@pytest.mark.parametrize("mode", models.MODES)
def test_loss_and_adaptive_measures_stay_and_the_others_call_it_flatter(measured, mode):
    suffix = "" if mode == "running" else "/batch"
    kept = [f"train_loss{suffix}", f"test_loss{suffix}"]
    kept += [f"flatness/{kind}/{mode}" for kind in ("adaptive", "adaptive_noise")]
    for name in kept:
        np.testing.assert_allclose(measured[8][name], measured[1][name], rtol=2e-3)
    fooled = [f"sharpness/full/1e-3/{mode}", f"hessian/lambda_max/{mode}"]
    fooled += [f"flatness/{kind}/{mode}" for kind in ("sam", "m_sharpness")]
    for name in fooled:
        assert measured[8][name] < 0.8 * measured[1][name], name


def test_the_cost_and_the_settings_are_those_of_all_that_is_measured():
    inner = probes.tasks(
        ("evaluation", "sharpness", "hessian", "flatness"), MEASURE, SIZES
    )
    for task in probes.tasks(("invariance",), MEASURE, SIZES):
        assert task.cost == sum(each.cost for each in inner)
        assert task.settings == {each.name: each.settings for each in inner}
        assert not task.pair
        # The baseline is what the others are to look flatter than: as trained is enough.
        assert task.baseline == (task.name == "invariance/1")
