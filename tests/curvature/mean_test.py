"""Means over chunks on one and on several devices, and how they round."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp.curvature import mean, operator

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType
from bsexp.curvature import composite, mean, operator

generator = np.random.default_rng(0)
inputs = generator.normal(size=(203, 6)).astype(np.float32)
labels = generator.integers(0, 3, 203)
x = {"a": jnp.asarray(generator.normal(size=(6, 5)), jnp.float32), "b": jnp.asarray(generator.normal(size=(5, 3)), jnp.float32)}
v = jax.tree.map(lambda leaf: jnp.stack([leaf + 1, 2 * leaf - 1, -leaf]), x)

def predict(x, inputs):
    return jnp.tanh(inputs @ x["a"]) @ x["b"]

def products(chunks):
    f = composite.composite(predict, composite.CROSS_ENTROPY, chunks)
    value, gradient = f.value_and_gradient(x)
    key = jax.random.key(0)
    return {
        "value": f.value(x), "value too": value, "gradient": gradient, "hessian": f.hessian(x)(v),
        "gauss_newton": f.gauss_newton(x)(v), "residual": f.residual(x)(v),
        "sampled_fisher": f.sampled_fisher(x, key, 2)(v), "diagonal": f.gauss_newton_diagonal(x),
    }

chunks = operator.split((inputs, labels), 20)
alone = products(chunks)
for shape, names in (((1,), ("data",)), ((2,), ("data",)), ((4,), ("data",)), ((8,), ("data",)), ((2, 4), ("population", "data"))):
    devices = jax.devices()[: int(np.prod(shape))]
    mesh = jax.make_mesh(shape, names, devices=devices, axis_types=(AxisType.Auto,) * len(shape))
    spread = products(mean.spread(chunks, mesh))
    for name, expected in alone.items():
        for a, b in zip(jax.tree.leaves(spread[name]), jax.tree.leaves(expected), strict=True):
            error = np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(b)
            assert error <= 1e-6, (shape, name, error)
            assert not hasattr(a, "devices") or len(a.devices()) == 1

placed = mean.spread(chunks, mesh)
total = jax.tree.map(lambda leaf: jnp.zeros((4, 3, *leaf.shape)), x)
total = jax.device_put(total, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
text = mean.reduce_over_devices.lower(total, everywhere).compile().as_text()
started = [line for line in text.splitlines() if " all-reduce(" in line or " all-reduce-start(" in line]
assert len(started) == 1, started
Partial = jax.tree_util.Partial
loss = Partial(composite.mean_loss, Partial(composite.CROSS_ENTROPY.loss), Partial(predict))
for function in (operator.linearise, operator.apply):
    own, shared = placed.rounds[0], (Partial(operator.gradient, loss), x)
    if function is operator.apply:
        own, shared = mean.called_on_each(operator.linearise, mesh, "data", own, *shared), (x,)
    text = mean.called_on_each.lower(function, mesh, "data", own, *shared).compile().as_text()
    assert "all-reduce" not in text
print("equal")
"""


@pytest.mark.slow
def test_one_two_four_and_eight_devices_give_the_same_numbers_with_one_all_reduce():
    """In a process of its own, since the number of virtual devices is fixed when JAX starts."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=Path(__file__).parent.parent.parent,
        env={
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "JAX_PLATFORMS": "cpu",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr[-2_000:]


def rounding_error(accumulation):
    """Sum 2 000 chunks of one example, 0.1 each and one of 1e5, in float32; return the relative error."""
    data = np.r_[1e5, np.full(1_999, 0.1)].astype(np.float32)
    found = operator.objective(
        lambda x, batch: (x * batch).mean(),
        operator.split(data, 1),
        accumulation=accumulation,
    )
    _, gradient = found.value_and_gradient(jnp.float32(1.0))
    truth = data.astype(np.float64).mean()
    assert gradient.dtype == jnp.float32
    return abs(float(gradient) - truth) / truth


def test_compensated_and_double_sums_round_once():
    assert rounding_error("plain") > 1e-6
    # Half a unit in the last place of float32 is 6e-8; each of 2 000 weighted terms may round as well.
    assert rounding_error("compensated") < 2e-7
    assert rounding_error("float64") < 2e-7


def test_weights_are_exact_with_a_short_last_chunk():
    data = np.arange(7.0, dtype=np.float32)
    found = mean.Mean([data[:3], data[3:6], data[6:]], "plain")
    assert found.examples == 7
    np.testing.assert_allclose(
        found.scalar(lambda chunk, x: x * chunk.mean(), jnp.float32(2.0)), 6.0
    )


def test_bad_input_is_named():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with pytest.raises(ValueError, match="axis='model': the mesh has data"):
        mean.spread([np.zeros(3)], mesh, axis="model")
    with pytest.raises(ValueError, match="accumulation='exact': must be one of"):
        mean.Mean([np.zeros(3)], "exact")
    with pytest.raises(ValueError, match="data: holds a number that is not finite"):
        operator.split(np.array([1.0, np.nan]), 1)
