"""Small networks with data, and their dense derivatives."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bsexp.curvature import composite
from bsexp.models import dense, normalisation

EXAMPLES = 24  # three chunks of eight: one size, one compilation
CLASSES = 3


class Case(NamedTuple):
    """A network with a point and data, in double precision."""

    predict: Any
    criterion: composite.Criterion
    x: Any
    data: Any

    def loss(self, x, batch):
        inputs, targets = batch
        return jax.vmap(self.criterion.loss)(self.predict(x, inputs), targets).mean()


def _dense(x, inputs):
    flat = inputs.reshape(len(inputs), -1)
    return jnp.tanh(flat @ x["first"]["kernel"] + x["first"]["bias"]) @ x["second"]


def _convolution(x, inputs):
    images = jax.lax.conv_general_dilated(
        inputs, x["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(images).mean(axis=(1, 2)) @ x["dense"]


def _shared(x, inputs):
    """Apply one kernel at four positions, as in a transformer."""
    sequence = inputs.reshape(len(inputs), 4, -1)
    return jnp.tanh(sequence @ x["kernel"]).sum(axis=1) @ x["dense"]


def _normalised(mode):
    network = dense.FullyConnected((6, 5), CLASSES, 0.9)
    two = normalisation.whole(2)
    variables = network.init(jax.random.key(0), jnp.zeros((2, 4, 4, 1)), two, None)
    statistics = jax.tree.map(
        lambda leaf: (
            leaf + jax.random.uniform(jax.random.key(leaf.size), leaf.shape) / 3
        ),
        variables["statistics"],
    )

    def predict(x, inputs):
        ghost = None if mode == "running" else normalisation.whole(len(inputs))
        known = {"params": x, "statistics": statistics}
        return network.apply(known, inputs, ghost, None)

    return predict, variables["params"]


NETWORKS = ("dense", "convolution", "shared", "running", "batch")


@functools.cache
def _network(name):
    generator = np.random.default_rng(3)

    def drawn(*shape):
        return jnp.asarray(generator.normal(size=shape)) / 2

    shapes = {
        "dense": (
            _dense,
            {
                "first": {"kernel": drawn(16, 5), "bias": drawn(5)},
                "second": drawn(5, CLASSES),
            },
        ),
        "convolution": (
            _convolution,
            {"kernel": drawn(3, 3, 1, 4), "dense": drawn(4, CLASSES)},
        ),
        "shared": (_shared, {"kernel": drawn(4, 6), "dense": drawn(6, CLASSES)}),
    }
    predict, x = shapes[name] if name in shapes else _normalised(name)
    moved = [
        jnp.asarray(leaf, jnp.float64) + generator.normal(size=leaf.shape) / 10
        for leaf in jax.tree.leaves(x)
    ]
    return predict, jax.tree.unflatten(jax.tree.structure(x), moved)


def case(name, criterion="cross_entropy"):
    """Return a case; call it with double precision enabled."""
    predict, x = _network(name)
    generator = np.random.default_rng(4)
    inputs = jnp.asarray(generator.normal(size=(EXAMPLES, 4, 4, 1)))
    if criterion == "cross_entropy":
        targets = jnp.asarray(generator.integers(0, CLASSES, EXAMPLES))
        return Case(predict, composite.CROSS_ENTROPY, x, (inputs, targets))
    targets = jnp.asarray(generator.normal(size=(EXAMPLES, CLASSES)))
    return Case(predict, composite.SQUARED_ERROR, x, (inputs, targets))


def flat(tree):
    return ravel_pytree(tree)[0]


def hessian(case):
    vector, unravel = ravel_pytree(case.x)
    return jax.jit(jax.hessian(lambda v: case.loss(unravel(v), case.data)))(vector)


def jacobian(case):
    vector, unravel = ravel_pytree(case.x)
    return jax.jit(jax.jacobian(lambda v: case.predict(unravel(v), case.data[0])))(
        vector
    )


def per_example_gradients(case):
    vector, unravel = ravel_pytree(case.x)

    def gradient(inputs, target):
        alone = (inputs[None], target[None])
        return jax.grad(lambda v: case.loss(unravel(v), alone))(vector)

    return jax.jit(jax.vmap(gradient))(*case.data)


_rows = jax.jit(jax.vmap(flat))


def columns(product, x):
    """Return an operator as a dense matrix, found eight columns at a time."""
    vector, unravel = ravel_pytree(x)
    size = vector.size
    as_block = jax.jit(jax.vmap(unravel))
    identity = jnp.eye(-(-size // 8) * 8, size, dtype=vector.dtype)
    parts = [_rows(product(as_block(identity[i : i + 8]))) for i in range(0, size, 8)]
    return jnp.concatenate(parts)[:size]


def some_vectors(x, number, seed=7):
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(generator.normal(size=(number, *leaf.shape))), x
    )
