"""Convolution and max-pooling in the forms made for a CPU against the compiler's own, layer by layer and in all of C1 and C2."""

import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import optax
from benchmarks import timing

from bsexp import config, models
from bsexp.models import convolution, normalisation, pooling

BATCH_SIZE = 256
IMAGE_SHAPE = (32, 32, 3)
# Inputs, kernel, stride: what the networks of the paper hold, at their largest batch that a laptop trains fast.
CONVOLUTIONS = {
    "first of C1": ((32, 32, 3), (5, 5, 3, 64), 2),
    "second of C1": ((8, 8, 64), (5, 5, 64, 64), 2),
    "first of C1 released": ((32, 32, 3), (5, 5, 3, 64), 1),
    "second of C1 released": ((16, 16, 64), (5, 5, 64, 64), 1),
    "second of C2": ((32, 32, 64), (3, 3, 64, 64), 1),
    "third of C2": ((16, 16, 64), (3, 3, 64, 128), 1),
    "eighth of C2": ((4, 4, 256), (3, 3, 256, 512), 1),
    "last of C2": ((2, 2, 512), (3, 3, 512, 512), 1),
}
# Network -> examples of a batch; an update of C2 on 256 by the compiler's forms takes two CPU cores ten seconds and more.
NETWORKS = {"C1": BATCH_SIZE, "C2": 32}
POOLS = {
    "first of C1": ((16, 16, 64), 3),
    "first of C1 released": ((32, 32, 64), 3),
    "first of C2": ((32, 32, 64), 2),
}


def rows() -> Iterator[dict[str, Any]]:
    """Compare forward and backward pass of both forms: of layers and pools at BATCH_SIZE, of networks at what NETWORKS says."""
    for name, (inputs_shape, kernel_shape, stride) in CONVOLUTIONS.items():
        arguments = _random((BATCH_SIZE, *inputs_shape), kernel_shape)
        # An image has no derivative in training.
        constants = 1 if inputs_shape == IMAGE_SHAPE else 0

        def convolved(
            form: Callable[..., Any],
            stride: int = stride,
            arguments: tuple[jax.Array, ...] = arguments,
            constants: int = constants,
        ) -> Callable[[], Any]:
            def function(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
                return form(inputs, kernel, stride, "SAME")

            return _gradient(function, *arguments, constants=constants)

        yield _row(
            f"convolution, {name}",
            convolved(convolution.convolve_in_training),
            convolved(convolution.by_compiler),
        )
    for name, (shape, window) in POOLS.items():
        (inputs,) = _random((BATCH_SIZE, *shape))

        def pooled(
            form: Callable[..., Any], window: int = window, inputs: jax.Array = inputs
        ) -> Callable[[], Any]:
            return _gradient(lambda x: form(x, window, 2, "SAME"), inputs)

        yield _row(
            f"max-pool, {name}",
            pooled(pooling.by_slices),
            pooled(pooling.by_compiler),
        )
    for network, size in NETWORKS.items():
        for variant in models.NETWORKS[network]:
            yield _row(
                f"{network} {variant}",
                _gradient_of(network, variant, size),
                _by_compiler(network, variant, size),
                size,
            )


def _row(
    name: str,
    ours: Callable[[], Any],
    compiler: Callable[[], Any],
    size: int = BATCH_SIZE,
) -> dict[str, Any]:
    spent, compiler_spent, ratios = timing.paired(ours, compiler)
    return {
        "benchmark": f"forward and backward pass: {name}",
        "batch_size": size,
        "milliseconds": 1e3 * spent,
        "milliseconds_by_compiler": 1e3 * compiler_spent,
        **timing.spread("times_the_compiler", ratios),
    }


def _random(*shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return tuple(
        jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)
    )


def _gradient(
    function: Callable[..., jax.Array], *arguments: jax.Array, constants: int = 0
) -> Callable[[], Any]:
    """Return a call of the function and the product of a vector with its Jacobian by all arguments after the constants."""
    (vector,) = _random(jax.eval_shape(function, *arguments).shape)

    @jax.jit
    def run(vector: jax.Array, *arguments: jax.Array) -> Any:
        of_rest = functools.partial(function, *arguments[:constants])
        outputs, pull = jax.vjp(of_rest, *arguments[constants:])
        return outputs, pull(vector)

    return lambda: run(vector, *arguments)


def _gradient_of(network: str, variant: str, size: int) -> Callable[[], Any]:
    """Return a call of the gradient of a training batch's loss, dropout and all; traced here and now."""
    momentum = config.Model().batch_norm_momentum
    model = models.build(network, IMAGE_SHAPE, 10, momentum, variant)
    key = jax.random.key(0)
    parameters, statistics = model.init(key)
    inputs = jax.random.uniform(key, (size, *IMAGE_SHAPE))
    labels = jax.random.randint(key, (size,), 0, 10)
    keys = jax.random.split(key, size)

    def loss(parameters: Any, *arrays: Any) -> tuple[jax.Array, Any]:
        statistics, inputs, labels, keys = arrays
        logits, moved = model.train(
            parameters, statistics, inputs, keys, normalisation.whole(size)
        )
        return (
            optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(),
            moved,
        )

    arguments = parameters, statistics, inputs, labels, keys
    compiled = (
        jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(*arguments).compile()
    )
    return lambda: compiled(*arguments)


def _by_compiler(network: str, variant: str, size: int) -> Callable[[], Any]:
    with (
        mock.patch.object(convolution, "convolve_in_training", convolution.by_compiler),
        mock.patch.object(pooling, "max_pool", pooling.by_compiler),
    ):
        return _gradient_of(network, variant, size)
