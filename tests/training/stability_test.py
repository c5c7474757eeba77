"""The limits against what Optax's own optimizers do on a quadratic."""

import jax
import jax.numpy as jnp
import optax
import pytest

from bsexp import config
from bsexp.training import stability

RATE = 0.1
# With eps = 1 far above sqrt(v), Adam divides by 1: it is its momentum that is tested.
ADAM = {"eps": 1.0}


def growth(name, arguments, curvature):
    """By how much the largest |x| of twenty steps rises over a hundred more, of x^2 * curvature / 2."""
    optimizer = getattr(optax, name)(learning_rate=RATE, **arguments)

    def update(carry, _):
        x, state = carry
        change, state = optimizer.update(curvature * x, state, x)
        return (x + change, state), jnp.abs(x)

    x = jnp.float32(1e-15)  # so small that sqrt(v) stays far below eps
    state = optimizer.init(x)
    if name.startswith("adam"):
        # Long after the start: the bias correction of the first steps makes them larger, and the limit smaller.
        state = (state[0]._replace(count=jnp.int32(100_000)), *state[1:])
    _, sizes = jax.lax.scan(update, (x, state), length=220)
    return float(sizes[-20:].max() / sizes[100:120].max())


@pytest.mark.parametrize(
    ("name", "arguments", "matrix", "expected"),
    [
        ("sgd", {}, "hessian", 20),
        ("sgd", {"momentum": 0.9}, "hessian", 38),
        ("sgd", {"momentum": 0.9, "nesterov": True}, "hessian", 38 / 2.8),
        ("adam", ADAM, "preconditioned", 380),
        ("adam", {"b1": 0.5, **ADAM}, "preconditioned", 60),
        ("adamw", {"weight_decay": 0.0, **ADAM}, "preconditioned", 380),
    ],
)
def test_steps_grow_just_above_the_limit_and_shrink_just_below(
    name, arguments, matrix, expected
):
    kept = {key: value for key, value in arguments.items() if key != "weight_decay"}
    found = stability.limit(config.Optimizer(name=name, arguments=kept), RATE)
    assert found.matrix == matrix
    assert found.value == pytest.approx(expected)
    assert growth(name, arguments, 0.998 * found.value) < 1
    assert growth(name, arguments, 1.002 * found.value) > 1


@pytest.mark.parametrize(
    "changed",
    [
        {"weight_decay": 1e-4},
        {"clip_norm": 1.0},
        {"sam_radius": 0.05},
        {"arguments": {"nesterov": True}},
        {"name": "adagrad"},
    ],
)
def test_where_the_limit_is_not_known_none_is_given(changed):
    assert stability.limit(config.Optimizer(**changed), RATE) is None


def test_a_schedule_that_has_come_to_rest_has_no_limit():
    assert stability.limit(config.Optimizer(), 0.0) is None
