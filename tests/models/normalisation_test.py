import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp import models
from bsexp.models import normalisation

IMAGE = (8, 8, 2)


@pytest.fixture(scope="module", params=["F1", "C1"])
def trained(request):
    """Return a model, parameters and statistics that are not at their initial values, and 24 examples with keys."""
    variant = "released" if request.param == "C1" else "paper"
    model = models.build(request.param, IMAGE, 5, 0.9, variant)
    random = np.random.default_rng(0)
    parameters, statistics = jax.tree.map(
        lambda leaf: leaf + np.float32(0.1 * random.random(leaf.shape)),
        jax.jit(model.init)(jax.random.key(0)),
    )
    inputs = jax.random.uniform(jax.random.key(2), (24, *IMAGE))
    return (
        dataclasses.replace(model, train=jax.jit(model.train, static_argnums=4)),
        parameters,
        statistics,
        inputs,
        jax.random.split(jax.random.key(3), 24),
    )


def assert_close(found, expected, tolerance=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


def test_ghost_batches_in_one_call_are_each_normalised_alone(trained):
    model, parameters, statistics, inputs, keys = trained
    whole = normalisation.whole(8)
    logits, moved = model.train(parameters, statistics, inputs, keys, whole)
    alone = [
        model.train(parameters, statistics, inputs[i : i + 8], keys[i : i + 8], whole)
        for i in (0, 8, 16)
    ]
    assert_close(logits, jnp.concatenate([each for each, _ in alone]))
    average = jax.tree.map(
        lambda *leaves: sum(leaves) / 3, *(each for _, each in alone)
    )
    assert_close(moved, average)
    one_batch, _ = model.train(
        parameters, statistics, inputs, keys, normalisation.whole(24)
    )
    assert jnp.abs(one_batch - logits).max() > 1e-2, "the division must matter"


def test_the_running_averages_move_one_step_however_many_ghost_batches_there_are(
    trained,
):
    model, parameters, _, inputs, keys = trained
    far = jax.tree.map(lambda leaf: 1e6 + 0 * leaf, trained[2])
    for size in (8, 24):
        _, moved = model.train(parameters, far, inputs, keys, normalisation.whole(size))
        assert_close(
            jax.tree.map(lambda leaf: leaf / 1e6, moved),
            jax.tree.map(lambda leaf: 0.9 + 0 * leaf, far),
            1e-3,
        )


def test_a_ghost_batch_that_does_not_divide_the_examples_is_refused(trained):
    model, parameters, statistics, inputs, keys = trained
    with pytest.raises(TypeError, match="reshape"):
        model.train(parameters, statistics, inputs, keys, normalisation.whole(7))


@pytest.mark.slow
def test_ghost_batches_spread_over_devices_are_those_of_one_device():
    """In a process of its own: the number of virtual devices is fixed when JAX starts."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", Path(__file__).parent / "spread.py"],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": "1",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        },
        capture_output=True,
        text=True,
        timeout=1_200,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
