"""Max-pooling, in the form that is fastest on JAX's platform."""

import functools

import jax
import jax.numpy as jnp

from bsexp.models import remainders


def max_pool(inputs: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Return the largest entry of each window, by slices on a CPU, else by the compiler's own.

    The derivative goes to the first of equal entries, row by row, in either form.

    Args:
        inputs: [b, H, W, C].
        window: height and width.
        stride: in both directions.
        padding: "SAME", ceil(H / stride) x ceil(W / stride) windows, of which what lies outside the image does not
            count; or "VALID", windows within the image only.

    Returns:
        [b, windows, windows, C].
    """
    form = by_slices if jax.default_backend() == "cpu" else by_compiler
    return form(inputs, window, stride, padding)


def by_compiler(inputs: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Return the max-pool as the compiler computes it."""
    return jax.lax.reduce_window(
        inputs,
        -jnp.inf,
        jax.lax.max,
        (1, window, window, 1),
        (1, stride, stride, 1),
        padding,
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def by_slices(inputs: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Return the max-pool as the maximum of one strided slice for each place in the window."""
    return functools.reduce(
        jnp.maximum, _slices(inputs, -jnp.inf, window, stride, padding)
    )


@by_slices.defjvp
def _by_slices_jvp(
    window: int,
    stride: int,
    padding: str,
    primals: tuple[jax.Array],
    tangents: tuple[jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Remember the place of each window's maximum, the root of its square.

    The root is exact, and there to be dear: the compiler would compute the places anew for each entry of a window
    rather than keep them, but it keeps a root. Forward and backward pass of C1's first pool at 256 examples took
    6 ms instead of 30.
    """
    inputs = jax.lax.stop_gradient(primals[0])
    entries = _slices(inputs, -jnp.inf, window, stride, padding)
    largest, square = entries[0], jnp.zeros(entries[0].shape, jnp.float32)
    for number, entry in enumerate(entries[1:], 1):
        square = jnp.where(entry > largest, jnp.float32(number**2), square)
        largest = jnp.maximum(largest, entry)
    place = jnp.sqrt(square)
    moves = _slices(tangents[0], 0.0, window, stride, padding)
    return by_slices(primals[0], window, stride, padding), sum(
        jnp.where(place == number, move, 0) for number, move in enumerate(moves)
    )


def _slices(
    inputs: jax.Array, fill: float, window: int, stride: int, padding: str
) -> list[jax.Array]:
    """Return the entries of all windows, place by place.

    The image is first split into its rows and columns modulo the stride: then the backward pass adds small arrays and
    joins them, instead of adding window x window arrays of the image's size: a gradient of C1 at 256 examples took
    0.18 seconds of CPU time instead of 0.34.
    """
    rest, counts = remainders.split(inputs, fill, (window,) * 2, stride, padding)
    channels = inputs.shape[-1]
    rows = rest.reshape((*rest.shape[:4], stride * channels))
    parts = [
        jax.lax.split(rows[:, :, remainder], (channels,) * stride, 3)
        for remainder in range(stride)
    ]
    return [
        parts[i % stride][j % stride][:, i // stride :, j // stride :][
            :, : counts[0], : counts[1]
        ]
        for i in range(window)
        for j in range(window)
    ]
