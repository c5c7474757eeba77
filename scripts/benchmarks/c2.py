"""A loss of C2's size: the deep convolutional network of Keskar et al. 2017, without its batch norm and dropout.

What is wanted of it is memory, which the 15 million parameters and the activations of the convolutions decide.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import log_softmax, relu

WIDTHS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
EXAMPLES = 64


def start() -> dict[str, jax.Array]:
    """Return random parameters: 14 982 474 numbers."""
    shapes, channels = {}, 3
    for stack, widths in enumerate(WIDTHS):
        for layer, width in enumerate(widths):
            shapes[f"{stack}/{layer}"] = (3, 3, channels, width)
            channels = width
    shapes |= {"dense": (512, 512), "logits": (512, 10)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    x = {}
    for key, (name, shape) in zip(keys, shapes.items(), strict=True):
        fan_in = shape[0] if len(shape) == 2 else 9 * shape[2]
        x[f"{name}/kernel"] = jax.random.normal(key, shape) * (2 / fan_in) ** 0.5
        x[f"{name}/bias"] = jnp.zeros(shape[-1])
    return x


def data() -> tuple[jax.Array, jax.Array]:
    """Return random images of CIFAR's shape with random labels."""
    images, labels = jax.random.split(jax.random.key(1))
    return (
        jax.random.uniform(images, (EXAMPLES, 32, 32, 3)),
        jax.random.randint(labels, (EXAMPLES,), 0, 10),
    )


def loss(x: Any, batch: Any) -> jax.Array:
    """Return the mean cross-entropy."""
    hidden, labels = batch
    for stack, widths in enumerate(WIDTHS):
        for layer in range(len(widths)):
            name = f"{stack}/{layer}"
            convolved = jax.lax.conv_general_dilated(
                hidden,
                x[f"{name}/kernel"],
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            hidden = relu(convolved + x[f"{name}/bias"])
        batch_size, height, width, channels = hidden.shape
        windows = (batch_size, height // 2, 2, width // 2, 2, channels)
        hidden = hidden.reshape(windows).max(axis=(2, 4))
    flat = hidden.reshape(len(labels), -1)
    hidden = relu(flat @ x["dense/kernel"] + x["dense/bias"])
    logits = hidden @ x["logits/kernel"] + x["logits/bias"]
    return -log_softmax(logits)[jnp.arange(len(labels)), labels].mean()
