"""Convolution, in the form that is fastest on the platform for which the program is compiled."""

import jax
import jax.numpy as jnp
import numpy as np


def convolve(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution, by matrix product on a CPU where the stride is above 1, else by the compiler's own.

    With a stride of 1 the matrix of windows is kernel-size times as large as the image, and the compiler's convolution
    faster: see scripts/benchmarks/convolution.py.

    Args:
        inputs: [b, H, W, C].
        kernel: [h, w, C, F].
        stride: in both directions.
        padding: "SAME", zeros around the image so that ceil(H / stride) x ceil(W / stride) positions come out; or
            "VALID", windows within the image only.

    Returns:
        [b, positions, positions, F].
    """

    def chosen(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        return by_matmul(inputs, kernel, stride, padding)

    def compiled(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        return by_compiler(inputs, kernel, stride, padding)

    if stride == 1:
        return compiled(inputs, kernel)
    return jax.lax.platform_dependent(inputs, kernel, cpu=chosen, default=compiled)


def by_compiler(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution as the compiler computes it."""
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def by_matmul(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution as one matrix product of all windows with the kernel."""
    *window, channels, features = kernel.shape
    sizes = inputs.shape[1:3]
    pads = jax.lax.padtype_to_pads(sizes, window, (stride, stride), padding)
    padded = jnp.pad(inputs, ((0, 0), *pads, (0, 0)))
    rows, columns = (
        stride * np.arange((sum(pad) + size - length) // stride + 1)[:, None]
        + np.arange(length)
        for size, length, pad in zip(sizes, window, pads, strict=True)
    )
    windows = padded[:, rows[:, None, :, None], columns[None, :, None, :]]
    matrix = windows.reshape((-1, window[0] * window[1] * channels))
    outputs = matrix @ kernel.reshape((-1, features))
    return outputs.reshape((len(inputs), len(rows), len(columns), features))
