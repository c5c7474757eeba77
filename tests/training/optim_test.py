import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bsexp import config
from bsexp.training import checkpoint, optim

START = {
    "dense": {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.ones(2)},
    "norm": {"scale": jnp.array([1.0, 0.5]), "offset": jnp.array([0.1, -0.1])},
}


def loss(parameters):
    """Not a parabola, and of another steepness for each leaf."""
    return sum(
        (i + 1) * jnp.log(jnp.cosh(leaf - i)).sum()
        for i, leaf in enumerate(jax.tree.leaves(parameters))
    )


def trained(optimizer, steps=20, factor=lambda _: 1.0):
    built = optim.build(optimizer)

    @jax.jit
    def update(parameters, state, factor):
        updates, state = built.update(
            jax.grad(loss)(parameters), state, parameters, factor
        )
        return optax.apply_updates(parameters, updates), state

    parameters, state = START, built.init(START, optim.rates(optimizer))
    for step in range(steps):
        parameters, state = update(parameters, state, factor(step))
    return parameters


slope = jax.grad(loss)


def trained_by(transformation, steps=20, gradient=slope):
    @jax.jit
    def update(parameters, state):
        updates, state = transformation.update(gradient(parameters), state, parameters)
        return optax.apply_updates(parameters, updates), state

    parameters, state = START, transformation.init(START)
    for _ in range(steps):
        parameters, state = update(parameters, state)
    return parameters


def assert_close(found, expected, rtol=1e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7),
        found,
        expected,
    )


def kernels_only(_):
    return {
        "dense": {"kernel": True, "bias": False},
        "norm": {"scale": False, "offset": False},
    }


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
        "rprop",
        "scale_by_rprop",
    } & set(found)


SIDE_BY_SIDE = {
    "sgd": (config.Optimizer("sgd", 0.1), optax.sgd(0.1)),
    "momentum": (
        config.Optimizer("sgd", 0.05, {"momentum": 0.9}),
        optax.sgd(0.05, momentum=0.9),
    ),
    "nesterov": (
        config.Optimizer("sgd", 0.05, {"momentum": 0.9, "nesterov": True}),
        optax.sgd(0.05, momentum=0.9, nesterov=True),
    ),
    "adam": (config.Optimizer("adam", 0.03, {"b1": 0.8}), optax.adam(0.03, b1=0.8)),
    "adamw": (
        config.Optimizer("adamw", 0.03, weight_decay=0.1),
        optax.adamw(0.03, weight_decay=0.1),
    ),
    "adamw of kernels": (
        config.Optimizer("adamw", 0.03, weight_decay=0.1, decay_mask="kernels"),
        optax.adamw(0.03, weight_decay=0.1, mask=kernels_only),
    ),
    "nadamw": (
        config.Optimizer("nadamw", 0.03, weight_decay=0.1),
        optax.nadamw(0.03, weight_decay=0.1),
    ),
    "adagrad": (config.Optimizer("adagrad", 0.1), optax.adagrad(0.1)),
    "lars": (
        config.Optimizer("lars", 2.0, weight_decay=0.01),
        optax.lars(2.0, weight_decay=0.01),
    ),
    "lars of kernels": (
        config.Optimizer("lars", 2.0, weight_decay=0.01, decay_mask="kernels"),
        optax.lars(2.0, weight_decay=0.01, weight_decay_mask=kernels_only),
    ),
    "lamb": (
        config.Optimizer("lamb", 0.01, weight_decay=0.1),
        optax.lamb(0.01, weight_decay=0.1),
    ),
    "adafactor": (
        config.Optimizer("adafactor", 0.01, weight_decay=0.01),
        optax.adafactor(0.01, weight_decay_rate=0.01),
    ),
    "clipped": (
        config.Optimizer("sgd", 0.1, clip_norm=0.5),
        optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1)),
    ),
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_twenty_updates_are_those_of_plain_optax(name):
    optimizer, reference = SIDE_BY_SIDE[name]
    found = trained(optimizer)
    assert_close(found, trained_by(reference))
    moved = jax.tree.map(lambda a, b: abs(a - b).max() > 1e-3, found, START)
    assert all(jax.tree.leaves(moved))


def test_adamw_does_not_decay_unless_the_configuration_says_so():
    """Optax's own default is 1e-4: a default lives in bsexp/config alone."""
    assert_close(trained(config.Optimizer("adamw", 0.03)), trained_by(optax.adamw(0.03, weight_decay=0.0)))  # fmt: skip


@pytest.mark.parametrize("mask", ["all", "kernels"])
def test_weight_decay_of_sgd_is_the_gradient_of_a_penalty(mask):
    """Loss + lambda |x|^2 / 2 over what decays, after the gradient of the loss was clipped."""
    optimizer = config.Optimizer(
        "sgd", 0.1, {"momentum": 0.9}, weight_decay=0.2, decay_mask=mask, clip_norm=3.0
    )

    def gradient(parameters):
        raw = slope(parameters)
        norm = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(raw)))
        return jax.tree.map(
            lambda g, x, decays: g * jnp.minimum(1, 3.0 / norm) + decays * 0.2 * x,
            raw,
            parameters,
            jax.tree.map(lambda each: each or mask == "all", kernels_only(parameters)),
        )

    assert optax.tree.norm(slope(START)) > 3
    assert_close(trained(optimizer), trained_by(optax.sgd(0.1, 0.9), gradient=gradient))


def test_without_weight_decay_the_penalty_is_left_out_and_the_numbers_stay():
    """It would read the parameters for each moment; both states are alike, so that checkpoints are."""
    without = config.Optimizer(learning_rate=0.03)
    rates = optim.rates(without)
    states, texts = [], []
    for optimizer in (without, dataclasses.replace(without, weight_decay=0.1)):
        built = optim.build(optimizer)
        update = jax.jit(built.update)
        parameters, state = START, built.init(START, rates)
        texts.append(update.lower(slope(START), state, START, 1.0).as_text())
        for _ in range(20):
            step, state = update(slope(parameters), state, parameters, 1.0)
            parameters = optax.apply_updates(parameters, step)
        states.append((parameters, state))
    assert texts[0].count("multiply") == texts[1].count("multiply") - 4
    assert_close(*states)


def test_the_state_of_a_run_that_does_not_decay_is_that_of_its_cohort_with_a_mask_too():
    """It is trained by the program of one that decays, and its checkpoint is read without that one."""
    decays = config.Optimizer("sgd", weight_decay=0.1, decay_mask="kernels")
    without = dataclasses.replace(decays, weight_decay=0.0)
    made = [
        optim.build(each).init(START, optim.rates(each)) for each in (decays, without)
    ]
    assert jax.tree.structure(made[0]) == jax.tree.structure(made[1])


@pytest.mark.parametrize("name", sorted(optim.catalogue()))
def test_every_listed_optimizer_takes_its_rates_at_run_time(name):
    """One traced program; at a factor of zero nothing moves, and half the learning rate twice is the whole one."""
    optimizer = config.Optimizer(name, 1e-2)
    built = optim.build(optimizer)
    gradient = jax.tree.map(lambda x: 0.5 * x + 0.1, START)

    @jax.jit
    def first(rates, factor):
        return built.update(gradient, built.init(START, rates), START, factor)[0]

    rates = optim.rates(optimizer)
    whole = first(rates, 1.0)
    assert whole["dense"]["kernel"].shape == (2, 2)
    assert min(abs(leaf).max() for leaf in jax.tree.leaves(whole)) > 0
    half = rates | {"learning_rate": rates["learning_rate"] / 2}
    assert_close(first(half, 2.0), whole)
    assert_close(first(rates, 0.0), jax.tree.map(jnp.zeros_like, whole))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb"])
def test_runs_of_other_rates_train_as_one_vmapped_program(name):
    members = [
        config.Optimizer(name, rate, weight_decay=decay)
        for rate, decay in ((0.01, 0.0), (0.1, 0.0), (0.01, 0.3), (0.05, 0.1))
    ]
    (shared,) = {repr(optim.without_rates(member)) for member in members}
    assert shared == repr(optim.without_rates(members[0]))
    built = optim.build(members[-1])  # one that decays
    factors = jnp.linspace(1, 0.1, 20)

    @jax.vmap
    def run(rates):
        def update(carry, factor):
            parameters, state = carry
            gradient = jax.grad(loss)(parameters)
            updates, state = built.update(gradient, state, parameters, factor)
            return (optax.apply_updates(parameters, updates), state), None

        return jax.lax.scan(update, (START, built.init(START, rates)), factors)[0]

    rates = jax.tree.map(lambda *each: jnp.stack(each), *map(optim.rates, members))
    found, states = run(rates)
    for i, member in enumerate(members):
        expected = trained(member, factor=lambda step: factors[step])
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], found), expected, 1e-5)
    assert_close(states.hyperparams, rates)  # the factor did not wear them down
    assert len({float(each) for each in found["dense"]["kernel"][:, 0, 1]}) == 4


def test_the_factor_is_a_schedule_of_optax():
    schedule = optax.cosine_decay_schedule(0.03, 20)
    found = trained(config.Optimizer("adamw", 0.03, weight_decay=0.1), factor=lambda step: schedule(step) / 0.03)  # fmt: skip
    assert_close(found, trained_by(optax.adamw(schedule, weight_decay=0.1)))


def test_the_state_comes_back_from_a_checkpoint(tmp_path):
    optimizer = config.Optimizer("sgd", 0.1, {"momentum": 0.9}, clip_norm=1.0)
    built = optim.build(optimizer)
    state = built.init(START, optim.rates(optimizer))
    _, state = built.update(START, state, START, 0.5)
    fresh = built.init(START, optim.rates(optim.without_rates(optimizer)))
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
        found = checkpoints.restore(fresh)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, found, state)


def test_only_kernels_cannot_be_kept_apart_where_optax_has_no_mask():
    optimizer = config.Optimizer("novograd", decay_mask="kernels")
    assert "novograd decays all parameters" in optim.error(optimizer)
    assert optim.error(dataclasses.replace(optimizer, decay_mask="all")) == ""


def test_adam_s_first_step_is_the_learning_rate_against_the_sign():
    """Kingma and Ba 2015: after bias correction the first update is -lr g / (|g| + eps)."""
    optimizer = config.Optimizer(learning_rate=0.1, arguments={"eps": 1e-12})
    gradient = jnp.array([3.0, -1e-3])
    built = optim.build(optimizer)
    state = built.init(gradient, optim.rates(optimizer))
    update, _ = built.update(gradient, state, gradient, 0.5)
    np.testing.assert_allclose(update, [-0.05, 0.05], rtol=1e-5)


@pytest.mark.parametrize(
    "arguments", [{"b1": "high"}, {"eps": (1, 2)}, {"mu_dtype": "no type"}]
)
def test_arguments_that_optax_cannot_use_are_told_before_anything_starts(arguments):
    assert optim.error(config.Optimizer()) == ""
    assert "Error: " in optim.error(config.Optimizer(arguments=arguments))


@pytest.mark.parametrize("name", ["adam", "adamw", "lamb"])
def test_the_preconditioner_is_what_the_optimizer_divides_by(name):
    """After one step from zero, v / (1 - b2) = g^2, whatever b2 is; a penalty would be part of g, but no leaf is a kernel."""
    optimizer = config.Optimizer(
        name,
        arguments={"b2": 0.9, "eps": 1e-3, "eps_root": 0.5},
        weight_decay=0.1,
        decay_mask="kernels",
    )
    built = optim.build(optimizer)
    parameters = {"w": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
    gradient = jax.tree.map(lambda leaf: -leaf, parameters)
    state = built.init(parameters, optim.rates(optimizer))
    _, state = built.update(gradient, state, parameters, 1.0)
    found = optim.preconditioner(optimizer, state)
    expected = jax.tree.map(lambda leaf: jnp.sqrt(leaf**2 + 0.5) + 1e-3, parameters)
    assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamax", "adamaxw", "yogi", "radam"])
def test_what_does_not_divide_by_second_moments_as_adam_does_has_no_preconditioner(
    name,
):
    """Adamax keeps a largest gradient, Yogi another mean, in the state of Optax's Adam; RAdam divides at times."""
    optimizer = config.Optimizer(name=name, learning_rate=0.1)
    built = optim.build(optimizer)
    state = built.init(START, optim.rates(optimizer))
    _, state = built.update(START, state, START, 1.0)
    assert optim.preconditioner(optimizer, state) is None
