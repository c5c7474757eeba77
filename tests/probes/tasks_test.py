"""What probes hand on, and what they record."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from bsexp import config, probes
from bsexp.curvature import operator
from bsexp.probes.task import Point

SIZES = {"train": 60_000, "test": 10_000}
OWN = ("hessian", "sharpness", "density", "flatness", "noise_scale", "path")


def another(value):
    return {
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value / 2 or 0.25,
        str: lambda: "loss" if value == "phi" else 777,
        tuple: lambda: value[:-1],
    }[type(value)]()


def described(name, measure):
    return [
        (each.name, each.settings) for each in probes.tasks((name,), measure, SIZES)
    ]


@pytest.mark.parametrize("name", OWN)
def test_whatever_is_set_is_in_the_settings_of_a_task(name):
    """Or a changed experiment would keep what the old one measured."""
    measure = config.Measure()
    chosen = getattr(measure, name)
    for field in dataclasses.fields(chosen):
        other = dataclasses.replace(
            chosen, **{field.name: another(getattr(chosen, field.name))}
        )
        changed = dataclasses.replace(measure, **{name: other})
        if field.name != "subspace_unit_columns":  # of no meaning without a subspace
            assert described(name, changed) != described(name, measure), field.name


@pytest.mark.parametrize("name", ["evaluation", "update", *OWN])
def test_what_mode_batch_measures_depends_on_the_batch(name):
    other = dataclasses.replace(config.Measure(), statistics_batch=77)
    for task in probes.tasks((name,), other, SIZES):
        assert task.settings.get("statistics_batch") == (
            77 if task.name.endswith("/batch") else None
        ), task.name


def test_every_probe_measures_the_examples_of_its_own_settings():
    numbers = {"hessian": 11, "density": 12, "flatness": 13, "path": 14}
    measure = config.Measure()
    own = {
        name: dataclasses.replace(getattr(measure, name), examples=number)
        for name, number in numbers.items()
    }
    for name, number in numbers.items():
        for task in probes.tasks((name,), dataclasses.replace(measure, **own), SIZES):
            assert task.settings["examples"] == number, task.name


def test_each_half_width_has_a_box_of_its_own():
    """Of |x|^2 / 2 the corner away from 0 is the highest."""
    chosen = config.Sharpness(epsilons=(1e-3, 0.1))
    measure = config.Measure(modes=("running",), sharpness=chosen)
    x = jnp.array([1.0, -2.0])
    objective = operator.objective(lambda x, _: (x @ x) / 2, [jnp.zeros(1)])
    bench = types.SimpleNamespace(objective=lambda *_: objective)
    for task, epsilon in zip(
        probes.tasks(("sharpness",), measure, SIZES), chosen.epsilons, strict=True
    ):
        sizes = np.array([1, 2]) + epsilon * np.array([2, 3])
        phi = 100 * (sizes @ sizes / 2 - 2.5) / 3.5
        found = task.measure(bench, Point("a", x, {}, x)).values[task.name]
        np.testing.assert_allclose(found, phi, rtol=1e-3)
