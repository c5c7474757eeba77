import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bsexp import config
from bsexp.training import optim


def test_the_catalogue_is_what_optax_has():
    found = optim.catalogue()
    assert {"adam", "sgd", "adamw", "adagrad", "lars", "lamb", "rmsprop"} <= set(found)
    assert {"b1", "b2", "eps"} <= set(found["adam"])
    assert "learning_rate" not in found["adam"]
    assert not {
        "lbfgs",
        "clip",
        "adam_schedule",
        "apply_updates",
        "noisy_sgd",
        "optimistic_adam",
    } & set(found)


@pytest.mark.parametrize("name", sorted(optim.catalogue()))
def test_every_listed_optimizer_updates_from_a_gradient_alone(name):
    parameters = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}
    transformation = optim.build(config.Optimizer(name=name, learning_rate=1e-2))
    gradient = {"kernel": jnp.full((4, 3), 0.5), "bias": jnp.full(3, -0.5)}
    update, _ = transformation.update(
        gradient, transformation.init(parameters), parameters
    )
    assert update["kernel"].shape == (4, 3)


def test_adam_s_first_step_is_the_learning_rate_against_the_sign():
    """Kingma and Ba 2015: after bias correction the first update is -lr g / (|g| + eps)."""
    transformation = optim.build(
        config.Optimizer(learning_rate=0.1, arguments={"eps": 1e-12})
    )
    gradient = jnp.array([3.0, -1e-3])
    update, _ = transformation.update(gradient, transformation.init(gradient), gradient)
    np.testing.assert_allclose(update, [-0.1, 0.1], rtol=1e-5)


def test_arguments_reach_optax():
    built = optim.build(
        config.Optimizer(name="sgd", learning_rate=1.0, arguments={"momentum": 0.5})
    )
    expected = optax.sgd(1.0, momentum=0.5)
    gradient = jnp.array([1.0])
    state, other = built.init(gradient), expected.init(gradient)
    for _ in range(3):
        update, state = built.update(gradient, state)
        target, other = expected.update(gradient, other)
    np.testing.assert_array_equal(update, target)
    assert float(update[0]) == -1.75


@pytest.mark.parametrize(
    "arguments", [{"b1": "high"}, {"eps": (1, 2)}, {"mu_dtype": "no type"}]
)
def test_arguments_that_optax_cannot_use_are_told_before_anything_starts(arguments):
    assert optim.error(config.Optimizer()) == ""
    assert "Error: " in optim.error(config.Optimizer(arguments=arguments))


@pytest.mark.parametrize("name", ["adam", "adamw", "lamb"])
def test_the_preconditioner_is_what_the_optimizer_divides_by(name):
    """After one step from zero, v / (1 - b2) = g^2, whatever b2 is."""
    optimizer = config.Optimizer(name=name, arguments={"b2": 0.9, "eps": 1e-3})
    transformation = optim.build(optimizer)
    parameters = {"w": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
    gradient = jax.tree.map(lambda leaf: -leaf, parameters)
    _, state = transformation.update(
        gradient, transformation.init(parameters), parameters
    )
    found = optim.preconditioner(optimizer, state)
    jax.tree.map(
        lambda got, leaf: np.testing.assert_allclose(got, leaf + 1e-3, rtol=1e-5),
        found,
        parameters,
    )


def test_an_optimizer_without_second_moments_has_no_preconditioner():
    optimizer = config.Optimizer(name="sgd", learning_rate=0.1)
    state = optim.build(optimizer).init({"w": jnp.ones(2)})
    assert optim.preconditioner(optimizer, state) is None
