import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bsexp import config
from bsexp.training import schedules

# 10 updates of 32 examples an epoch, 20 epochs.
TRAINING = {"epochs": 20 * ((10, 32),), "total_examples": 6_400}
LENGTHS = {
    "steps": lambda epochs: 10 * epochs,
    "epochs": lambda epochs: epochs,
    "examples": lambda epochs: 320 * epochs,
}
# What a schedule needs besides a peak and lengths that reach to the end.
NEEDED = {
    "exponential_decay": {"decay_rate": 0.5},
    "linear_schedule": {"end_value": 0.0},
    "polynomial_schedule": {"end_value": 0.0, "power": 2.0},
    "piecewise_constant_schedule": {"boundaries_and_scales": ((5, 0.1),)},
    "piecewise_interpolate_schedule": {
        "interpolate_type": "linear",
        "boundaries_and_scales": ((5, 0.1),),
    },
    "warmup_constant_schedule": {"warmup_steps": 2},
    "warmup_cosine_decay_schedule": {"warmup_steps": 2},
    "warmup_exponential_decay_schedule": {"warmup_steps": 2, "decay_rate": 0.5},
}


def at(positions, training=TRAINING, **settings):
    factor = schedules.factor(config.Schedule(**settings), **training)
    return np.array([factor(position) for position in positions])


def epochs(*values):
    return [jnp.int32(320 * value) for value in values]


def test_without_settings_the_factor_is_one_throughout():
    np.testing.assert_array_equal(at(epochs(0, 1, 19.9, 20)), 1.0)


def test_the_catalogue_is_what_optax_has():
    found = schedules.catalogue()
    assert set(NEEDED) < set(found)
    assert set(found) - set(NEEDED) == {
        "constant_schedule",
        "cosine_decay_schedule",
        "cosine_onecycle_schedule",
        "linear_onecycle_schedule",
    }
    needed = inspect.Parameter.empty
    assert found["cosine_decay_schedule"] == {
        "init_value": needed,
        "decay_steps": needed,
        "alpha": 0.0,
        "exponent": 1.0,
    }


@pytest.mark.parametrize("name", sorted(schedules.catalogue()))
def test_every_listed_schedule_climbs_to_one_and_takes_the_training_s_length(name):
    arguments = NEEDED.get(name, {})
    assert not schedules.errors(config.Schedule(name, arguments), **TRAINING)
    values = at(epochs(*range(21)), name=name, arguments=arguments)
    np.testing.assert_allclose(values.max(), 1, rtol=1e-6)
    if name.startswith("warmup_"):
        np.testing.assert_allclose(values[:3], [0, 0.5, 1], rtol=1e-6)
    if "decay_steps" in schedules.catalogue()[name] or "onecycle" in name:
        assert (
            values[-1] < 1e-4 < values[-2]
        )  # the end of training is that of the decay
    if "transition_steps" in schedules.catalogue()[name] and "decay_rate" in arguments:
        np.testing.assert_allclose(values[-1], 0.5, rtol=1e-6)


def test_the_schedule_of_goyal_et_al_is_warmed_up_and_divided_by_ten():
    """Goyal et al. 2017, arXiv:1706.02677: 5 epochs of warm-up, a tenth from epochs 30, 60 and 80 of 90."""
    found = at(
        [*epochs(0, 1, 4.9, 5, 29.9, 30, 59.9, 60, 79.9, 80, 89.9)],
        {"epochs": 90 * ((10, 32),), "total_examples": 320 * 90},
        name="piecewise_constant_schedule",
        arguments={"boundaries_and_scales": ((30, 0.1), (60, 0.1), (80, 0.1))},
        warmup=5,
    )
    expected = [0.02, 0.22, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_cosine_reaches_zero_when_training_ends():
    found = at(epochs(0, 5, 10, 15, 20), name="cosine_decay_schedule")
    expected = 0.5 * (1 + np.cos(np.pi * np.array([0, 0.25, 0.5, 0.75, 1])))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", sorted(NEEDED))
@pytest.mark.parametrize("unit", ["steps", "examples"])
def test_lengths_mean_the_same_in_every_unit(name, unit):
    def written(unit):
        length = LENGTHS[unit]
        arguments = {
            key: length(value) if key == "warmup_steps" else value
            for key, value in NEEDED[name].items()
        }
        if "boundaries_and_scales" in arguments:
            arguments["boundaries_and_scales"] = ((length(5), 0.1),)
        if "transition_begin" in schedules.catalogue()[name]:
            arguments["transition_begin"] = length(3)
        return {"arguments": arguments, "warmup": length(2), "unit": unit, "name": name}

    positions = epochs(0, 1, 2.5, 3, 4, 5, 12, 19.9)
    by_epoch = at(positions, **written("epochs"))
    assert len(set(by_epoch)) > 2
    np.testing.assert_allclose(at(positions, **written(unit)), by_epoch, rtol=1e-5)


def test_the_factor_is_optax_s_schedule_by_update_for_a_fixed_batch_size():
    schedule = optax.exponential_decay(
        1.0, 50, 0.3, transition_begin=20, staircase=True
    )
    arguments = {"transition_steps": 50, "decay_rate": 0.3, "transition_begin": 20, "staircase": True}  # fmt: skip
    found = at(
        [32 * step for step in range(200)],
        name="exponential_decay",
        arguments=arguments,
        unit="steps",
    )
    expected = [float(schedule(step)) for step in range(200)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# Two epochs of 10 updates of 32 examples, and three of 3 updates of 100, which leave out more of the training set.
GROWING = {"epochs": ((10, 32), (10, 32), (3, 100), (3, 100), (3, 100)), "total_examples": 1_540}  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "lengths"), [("epochs", (2, 3, 5)), ("steps", (20, 23, 29))]
)
def test_where_batches_grow_a_length_ends_with_that_epoch_or_update(unit, lengths):
    """The third epoch begins after 640 examples, the fourth after 940, and the training ends after 1 540."""
    first, second, end = lengths
    drops = {"boundaries_and_scales": ((first, 0.1), (second, 0.1))}
    found = at(
        (608, 640, 840, 940),
        GROWING,
        name="piecewise_constant_schedule",
        arguments=drops,
        unit=unit,
    )
    np.testing.assert_allclose(found, [1, 0.1, 0.1, 0.01], rtol=1e-6)
    cosine = {"name": "cosine_decay_schedule", "unit": unit}
    (last,) = at([1_540], GROWING, arguments={"decay_steps": end}, **cosine)
    assert last < 1e-6
    # A line from the end of the second epoch to that of the third.
    line = {"end_value": 0.0, "transition_begin": first, "transition_steps": second - first}  # fmt: skip
    found = at(
        (640, 740, 940), GROWING, name="linear_schedule", arguments=line, unit=unit
    )
    np.testing.assert_allclose(found, [1, 2 / 3, 0], rtol=1e-5)
    # The last update of the warm-up begins at 840 examples, of 100; the first batches had 32.
    ramp = at((608, 840, 940), GROWING, warmup=second, unit=unit)
    np.testing.assert_allclose(ramp, [640 / 940, 872 / 940, 1], rtol=1e-6)
    too_long = schedules.errors(config.Schedule(warmup=end + 1, unit=unit), **GROWING)
    assert too_long["schedule.warmup"].startswith(f"must be at most {end} {unit}, the")


def test_a_staircase_is_refused_where_batches_grow_and_it_would_jump_at_other_updates():
    arguments = {"decay_rate": 0.5, "transition_steps": 1, "staircase": True}
    chosen = config.Schedule(name="exponential_decay", arguments=arguments)
    told = schedules.errors(chosen, **GROWING)["schedule.arguments"]
    assert told.startswith("staircase cannot follow batches that grow")
    even = {"epochs": ((10, 32),) * 4, "total_examples": 1_280}
    assert schedules.errors(chosen, **even) == {}
    smooth = config.Schedule(name="exponential_decay", arguments={**arguments, "staircase": False})  # fmt: skip
    assert schedules.errors(smooth, **GROWING) == {}


def test_where_batches_grow_optax_counts_the_begin_of_a_decay_from_the_end_of_its_ramp():
    """A ramp over 10 updates of 10 examples, 5 of 20 at full rate, then half as much after each 5."""
    training = {"epochs": ((10, 10), (10, 20)), "total_examples": 300}
    arguments = {"warmup_steps": 10, "transition_begin": 5, "transition_steps": 5, "decay_rate": 0.5}  # fmt: skip
    name = "warmup_exponential_decay_schedule"
    found = at([50, 100, 160, 200, 240, 300], training, name=name, arguments=arguments, unit="steps")  # fmt: skip
    np.testing.assert_allclose(found, [0.5, 1, 1, 1, 0.5**0.4, 0.5], rtol=1e-5)


def test_no_update_of_the_warm_up_stands_still_and_the_last_is_at_full_rate():
    found = at([32 * step for step in range(6)], warmup=4, unit="steps")
    np.testing.assert_allclose(found, [0.25, 0.5, 0.75, 1, 1, 1])


def test_a_factor_is_the_same_for_the_same_examples_at_another_batch_size():
    settings = {"name": "cosine_decay_schedule", "unit": "epochs"}
    other = {**TRAINING, "epochs": 20 * ((2, 160),)}
    positions = epochs(0, 4, 9, 20)
    np.testing.assert_array_equal(
        at(positions, **settings), at(positions, other, **settings)
    )


def test_jumps_come_at_their_update_in_a_training_of_many_examples():
    """Beyond 2^24 examples, where float32 no longer holds every whole number."""
    size, epoch = 127, 127 * 10_087
    training = {"epochs": ((10_087, size),) * 90, "total_examples": 90 * epoch}  # fmt: skip
    settings = {
        "name": "piecewise_constant_schedule",
        "arguments": {"boundaries_and_scales": ((31, 0.1), (61, 0.1), (83, 0.1))},
    }
    factor = jax.jit(schedules.factor(config.Schedule(**settings), **training))
    for jump, before in ((31, 1), (61, 0.1), (83, 0.01)):
        for position, expected in ((jump * epoch - size, before), (jump * epoch, before / 10)):  # fmt: skip
            np.testing.assert_allclose(factor(jnp.int32(position)), expected, rtol=1e-5)
            as_float = jnp.float32(position // size) * size
            np.testing.assert_allclose(factor(as_float), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "field", "message"),
    [
        ({"warmup": 21}, "warmup", "must be at most 20 epochs, the whole training"),
        ({"warmup": 200.5, "unit": "steps"}, "warmup", "must be at most 200 steps"),
        ({"warmup": 6_401, "unit": "examples"}, "warmup", "must be at most 6400 examples"),
        ({"name": "exponential_decay"}, "arguments", "TypeError: exponential_decay() missing 1 required"),
        ({"name": "cosine_decay_schedule", "arguments": {"decay_steps": 0}}, "arguments", "decay_steps is 0 examples; must be > 0"),
        ({"name": "cosine_decay_schedule", "arguments": {"decay_steps": "ten"}}, "arguments", "ValueError"),
        ({"name": "linear_schedule", "arguments": {"end_value": 0, "transition_begin": 20}}, "arguments", "transition_steps is 0 examples"),
        ({"name": "linear_schedule", "arguments": {"end_value": -0.1}}, "arguments", "negative, infinite or zero"),
        ({"name": "warmup_cosine_decay_schedule", "arguments": {"warmup_steps": 21}}, "arguments", "warmup_steps must be at most 20 epochs"),
        ({"arguments": {"value": 0.0}}, "arguments", "negative, infinite or zero"),
        ({"arguments": {"value": 2}}, "arguments", "rise to 2 times config.optimizer.learning_rate, which is the peak"),
        ({"name": "warmup_cosine_decay_schedule", "arguments": {"warmup_steps": 1, "peak_value": 1.5}}, "arguments", "rise to 1.5 times"),
        ({"name": "cosine_decay_schedule", "arguments": {"init_value": 100}}, "arguments", "rise to 100 times"),
        ({"name": "piecewise_constant_schedule", "arguments": {"boundaries_and_scales": (5, 0.1)}}, "arguments", "must be pairs of a moment and a factor"),
        ({"name": "piecewise_constant_schedule", "arguments": {"boundaries_and_scales": ((1, 0.1), (1, 0.1))}}, "arguments", "must rise, from above 0 to below the end; the whole training is 20 epochs"),
        ({"name": "piecewise_constant_schedule", "arguments": {"boundaries_and_scales": ((-1, 0.1),)}}, "arguments", "must rise"),
        ({"name": "piecewise_constant_schedule", "arguments": {"boundaries_and_scales": ((20, 0.1),)}}, "arguments", "must rise"),
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_be_meant_is_told(settings, field, message):
    (found,) = schedules.errors(config.Schedule(**settings), **TRAINING).items()
    assert found[0] == f"schedule.{field}"
    assert message in found[1]


def test_a_warm_up_may_be_the_whole_training():
    whole = config.Schedule(warmup=20)
    assert not schedules.errors(whole, **TRAINING)
    assert schedules.errors(dataclasses.replace(whole, warmup=20.1), **TRAINING)
