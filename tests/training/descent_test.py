"""The next update against one made by hand with Optax."""

import jax
import numpy as np
import optax
import pytest
from training import cohorts

from bsexp import config
from bsexp.training import descent, optim, recipe, step


def shared(optimizer, **fields):
    """A recipe, and its state after three updates with known gradients."""
    base = config.Base(model=config.Model(name="tiny"), optimizer=optimizer, **fields)
    run = config.Run("test", 0, 64, base)
    made = recipe.build(run, cohorts.network(), cohorts.EXAMPLES)
    state = step.init(made, optim.rates(optimizer), 0)
    for i in range(3):
        gradient = known_gradient(state.parameters, i)
        _, moved = made.optimizer.update(
            gradient, state.optimizer, state.parameters, 1.0
        )
        state = state._replace(
            step=state.step + 1, examples=state.examples + 64, optimizer=moved
        )
    return made, state


def known_gradient(parameters, number):
    key = jax.random.key(number)
    return jax.tree.map(
        lambda leaf: jax.random.normal(key, leaf.shape) + leaf, parameters
    )


def next_update(optimizer, **fields):
    made, state = shared(optimizer, **fields)
    found = descent.at(made, optimizer, state)
    gradient, update = found.update(lambda x: known_gradient(x, 9))
    jax.tree.map(
        np.testing.assert_array_equal, gradient, known_gradient(state.parameters, 9)
    )
    return found, state, gradient, update


def test_sgd_goes_exactly_the_learning_rate_times_the_gradient():
    found, _, gradient, update = next_update(
        config.Optimizer(name="sgd", learning_rate=0.25)
    )
    assert found.learning_rate == 0.25
    assert found.limit == ("hessian", 8.0)
    jax.tree.map(
        lambda g, u: np.testing.assert_array_equal(u, -0.25 * g), gradient, update
    )


@pytest.mark.parametrize(
    "robust",
    [
        {"conservative": 1e-3, "conservative_iterations": 3},
        {"adversarial": 0.1},
        {"stability": 0.1},
    ],
)
def test_training_of_another_loss_or_in_iterations_has_no_known_limit(robust):
    """Iterations towards where the update began change the bound, which is one for the curvature of the loss descended."""
    optimizer = config.Optimizer(name="sgd", learning_rate=0.25)
    found, *_ = next_update(optimizer, robust=config.Robust(**robust))
    assert found.limit is None


def test_adam_goes_on_from_its_moments():
    _, state, gradient, update = next_update(config.Optimizer(learning_rate=0.01))
    by_hand = optax.adam(0.01)
    kept = by_hand.init(state.parameters)
    for i in range(3):
        _, kept = by_hand.update(known_gradient(state.parameters, i), kept)
    expected, _ = by_hand.update(gradient, kept)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9),
        update,
        expected,
    )


def test_the_learning_rate_is_that_of_the_schedule_at_the_state():
    """Three updates of 64 examples into a linear decay to zero over ten."""
    schedule = config.Schedule(
        name="linear_schedule",
        arguments={"end_value": 0.0, "transition_steps": 10},
        unit="steps",
    )
    optimizer = config.Optimizer(name="sgd", learning_rate=1.0)
    found, _, gradient, update = next_update(optimizer, schedule=schedule)
    assert found.learning_rate == pytest.approx(0.7)
    assert found.limit.value == pytest.approx(2 / 0.7)
    ratio = optax.tree.norm(update) / optax.tree.norm(gradient)
    assert float(ratio) == pytest.approx(0.7, rel=1e-5)


@pytest.mark.parametrize("adaptive", [False, True])
def test_sharpness_aware_minimisation_takes_the_gradient_where_it_ascends(adaptive):
    """The known gradient is x plus a constant, so that at x + d it is larger by d.

    SAM's d is rho g / |g|; ASAM's, relative to the sizes of x, is rho x^2 g / |x g|.
    """
    optimizer = config.Optimizer(
        name="sgd", learning_rate=1.0, sam_radius=0.5, sam_adaptive=adaptive
    )
    found, state, gradient, update = next_update(optimizer)
    sizes = jax.tree.map(
        lambda x: abs(x) if adaptive else jax.numpy.ones_like(x), state.parameters
    )
    length = optax.tree.norm(jax.tree.map(lambda s, g: s * g, sizes, gradient))
    jax.tree.map(
        lambda s, g, u: np.testing.assert_allclose(
            u, -(g + 0.5 * s**2 * g / length), rtol=1e-5, atol=1e-6
        ),
        sizes,
        gradient,
        update,
    )
    assert found.limit is None


def test_each_iteration_on_a_batch_goes_uphill_from_where_it_stands():
    """Two of them by hand: decay, ascent and the way back to x are all at the second one's own point."""
    optimizer = config.Optimizer(
        name="sgd", learning_rate=0.1, weight_decay=0.5, sam_radius=5.0
    )
    robust = config.Robust(conservative=2.0, conservative_iterations=2)
    _, state, _, update = next_update(optimizer, robust=robust)

    def moved(y, back):
        plain = known_gradient(y, 9)
        length = 5.0 / optax.tree.norm(plain)
        return jax.tree.map(
            lambda y, g, way: -0.1 * ((1 + length) * g + 2.0 * way + 0.5 * y),
            *(y, plain, back),
        )

    x = state.parameters
    first = moved(x, jax.tree.map(jax.numpy.zeros_like, x))
    second = moved(jax.tree.map(jax.numpy.add, x, first), first)
    jax.tree.map(
        lambda u, a, b: np.testing.assert_allclose(u, a + b, rtol=1e-4, atol=1e-5),
        *(update, first, second),
    )
