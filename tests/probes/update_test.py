"""The next update of a point, on real MNIST, against Optax by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest
from training import jobs

from bsexp import config, probes
from bsexp.data import sources
from bsexp.probes.bench import Bench
from bsexp.probes.task import Point
from bsexp.training import descent, optim, recipe, step

NUMBER = 60
MEASURE = config.Measure(
    hessian=config.Hessian(examples=NUMBER), statistics_batch=NUMBER
)


@pytest.fixture(scope="module")
def data(mnist):
    few = sources.Split(mnist.train.images[:NUMBER], mnist.train.labels[:NUMBER])
    return dataclasses.replace(mnist, train=few, test=few)


def point(optimizer):
    run = config.Run("SB", 0, 20, config.Base(optimizer=optimizer))
    shared = recipe.build(run, jobs.network(), NUMBER)
    state = step.init(shared, optim.rates(optimizer), 0)
    return Point(
        "a",
        state.parameters,
        state.statistics,
        state.parameters,
        descent=descent.at(shared, optimizer, state),
    )


def measured(data, where):
    bench = Bench(jobs.network(), data, NUMBER, lambda _: None)
    sizes = {"train": NUMBER, "test": NUMBER}
    found = {}
    for task in probes.tasks(("update",), MEASURE, sizes):
        found |= task.measure(bench, where).values
    return found


def gradient_of(data, where, mode):
    images = jnp.asarray(data.train.images) / 255

    def loss(parameters):
        logits = jobs.network().apply(parameters, where.statistics, images, mode)
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.asarray(data.train.labels)
        ).mean()

    return jax.grad(loss)(where.parameters)


def test_the_norms_are_those_of_the_full_gradient_and_of_adams_step_on_it(data):
    where = point(config.Optimizer(learning_rate=0.01))
    found = measured(data, where)
    for mode in ("running", "batch"):
        gradient = gradient_of(data, where, mode)
        adam = optax.adam(0.01)
        update, _ = adam.update(gradient, adam.init(where.parameters))
        expected = {"gradient_norm": gradient, "update_norm": update}
        for name, tree in expected.items():
            value = float(optax.tree.norm(tree))
            assert found[f"update/{name}/{mode}"] == pytest.approx(value, rel=1e-3)
    assert found["update/learning_rate"] == 0.01
    assert found["update/preconditioned_limit"] == pytest.approx(38 / 0.01)
    assert "update/stability_limit" not in found


def test_for_sgd_the_update_is_as_long_as_the_rate_times_the_gradient(data):
    found = measured(data, point(config.Optimizer(name="sgd", learning_rate=0.5)))
    for mode in ("running", "batch"):
        length = found[f"update/gradient_norm/{mode}"]
        assert found[f"update/update_norm/{mode}"] == 0.5 * length
    assert found["update/stability_limit"] == 4.0


def test_without_the_optimizers_state_nothing_is_found(data):
    where = point(config.Optimizer())._replace(descent=None)
    assert measured(data, where) == {}
