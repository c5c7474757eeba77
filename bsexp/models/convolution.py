"""Convolution, in the form that is fastest on JAX's platform."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from bsexp.models import bilinear, remainders, winograd

# With fewer, such as an image's three, a matrix product for each place of the kernel has too little to do: the derivative by
# the kernel of the first layer of C1 as released took 152 ms, of all windows at once 79.
FEW_CHANNELS = 16
# Entries of the kernel at all points, 4 MiB, for each tile of an image: what takes longer to come by than small batches save.
# Of one tile and 4.2 to 9.4 million, the last six layers of C2 made its update take 1.04 of the time at B = 32, 0.66 at 128.
MOST_AT_POINTS = 2**20


def convolve_in_training(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution as `convolve`, but on a CPU by `winograd` where that takes fewer products.

    It rounds to 1e-5 of the largest output, so what is measured is left to `convolve`. An update takes of the time, with
    C1 0.80 at B = 256, 0.90 at 32, 1.00 at 16; with C1 as released 0.75 at 64; with C2 0.90 at 8, 0.71 at 32, 0.60 at
    128, and 35 seconds to compile instead of 20. The choice does not depend on the number of examples: microbatches would
    round otherwise than the batch.

    Args:
        inputs: [b, H, W, C].
        kernel: [h, w, C, F].
        stride: in both directions.
        padding: "SAME" or "VALID", as for `convolve`.

    Returns:
        [b, positions, positions, F].
    """
    form = convolve
    if jax.default_backend() == "cpu" and _is_by_points(
        inputs, kernel, stride, padding
    ):
        form = winograd.convolve
    return form(inputs, kernel, stride, padding)


def convolve(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution, on a CPU in a form of our own, see `by_parts`.

    Args:
        inputs: [b, H, W, C].
        kernel: [h, w, C, F].
        stride: in both directions.
        padding: "SAME", zeros around the image so that ceil(H / stride) x ceil(W / stride) positions come out; or
            "VALID", windows within the image only.

    Returns:
        [b, positions, positions, F].
    """
    # Here and not by `jax.lax.platform_dependent`: linearised, that leaves a branch around each convolution, in which the
    # compiler does not find the fast program for a transposed kernel: a product with C2's Hessian took twice as long.
    form = by_parts if jax.default_backend() == "cpu" else by_compiler
    return form(inputs, kernel, stride, padding)


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
    rest, (rows, columns) = remainders.split(inputs, 0.0, window, stride, padding)

    def entries(i: int, j: int) -> jax.Array:
        of_place = rest[:, i // stride :, i % stride, j // stride :, j % stride]
        return of_place[:, :rows, :columns]

    # Joined slices and not one gather: a gradient of C1 takes 0.93 of the time.
    places = [entries(i, j) for i in range(window[0]) for j in range(window[1])]
    matrix = jnp.concatenate(places, axis=3).reshape((-1, len(places) * channels))
    outputs = matrix @ kernel.reshape((-1, features))
    return outputs.reshape((len(inputs), rows, columns, features))


# A linearisation keeps the image and not a copy of it for each place of the kernel: C2's takes 13.6 MiB an example instead of
# 26.9, and no longer.
@functools.partial(jax.checkpoint, static_argnums=(2, 3), prevent_cse=False)
def by_shifts(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution as a sum of matrix products, one for each place of the kernel, with the image shifted to it."""
    *window, channels, features = kernel.shape
    pads, (rows, columns) = remainders.windows(
        inputs.shape[1:3], window, stride, padding
    )
    padded = jnp.pad(inputs, ((0, 0), *pads, (0, 0)))

    def shifted(i: int, j: int) -> jax.Array:
        last = i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1
        seen = padded[:, i : last[0] : stride, j : last[1] : stride]
        return seen.reshape((-1, channels)) @ kernel[i, j]

    places = [shifted(i, j) for i in range(window[0]) for j in range(window[1])]
    outputs = sum(places[1:], start=places[0])
    return outputs.reshape((len(inputs), rows, columns, features))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def by_parts(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution, its value and its derivatives by inputs and by kernel each in the form that is fastest on a CPU.

    The compiler has no fast program for an image smaller than the kernel (the last three layers of C2: 1 GFLOP/s where
    shifts reach 35 on the same core), for the derivative by the inputs at a stride above 1, which puts zeros
    between entries (the second layer of C1 and 256 examples: 53 ms; windows 21, remainders 5), and for the
    derivative by the kernel of a large image (the second layer of C2: 4 GFLOP/s, windows 14, shifts 18). Example by example
    that derivative would be a convolution in as many groups. Where it is a product of all windows, they are there for the
    value too: a gradient of C1 takes 0.95 of the time that it takes with the compiler's value.
    """
    if _is_by_windows(inputs, stride):
        return by_matmul(inputs, kernel, stride, padding)
    form = by_shifts if _is_small(inputs, kernel) else by_compiler
    return form(inputs, kernel, stride, padding)


@functools.partial(by_parts.defjvp, symbolic_zeros=True)
def _by_parts_jvp(
    stride: int,
    padding: str,
    primals: tuple[jax.Array, jax.Array],
    tangents: tuple[Any, Any],
) -> tuple[jax.Array, Any]:
    inputs, kernel = primals
    outputs = by_parts(inputs, kernel, stride, padding)

    def of_inputs(move: jax.Array) -> jax.Array:
        form = by_remainders if stride > 1 else by_compiler
        if _is_small(inputs, kernel):
            form = by_shifts
        return form(move, kernel, stride, padding)

    def of_kernel(move: jax.Array) -> jax.Array:
        form = by_matmul if _is_by_windows(inputs, stride) else by_shifts
        return form(inputs, move, stride, padding)

    return outputs, bilinear.moved(outputs, tangents, of_inputs, of_kernel)


def _is_by_windows(inputs: jax.Array, stride: int) -> bool:
    """Say whether the derivative by the kernel is a product of all windows."""
    return stride > 1 or inputs.shape[-1] < FEW_CHANNELS


def _is_by_points(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> bool:
    """Say whether products at the points of polynomials are fewer than over windows, fast to prepare and exact enough."""
    along = winograd.sides(inputs.shape, kernel.shape, stride, padding)
    *window, channels, features = kernel.shape
    places = stride**2 * math.prod(side.points for side in along)
    tiles = math.prod(side.tiles for side in along)
    by_windows = math.prod(window) * math.prod(side.positions for side in along)
    return (
        channels >= FEW_CHANNELS
        and jnp.finfo(inputs.dtype).bits >= 32
        and max(side.points for side in along) <= winograd.MOST_POINTS
        and places * tiles < by_windows
        and places * channels * features <= MOST_AT_POINTS * tiles
    )


def _is_small(inputs: jax.Array, kernel: jax.Array) -> bool:
    """Say whether an image has fewer rows or columns than the kernel."""
    return any(
        side < length
        for side, length in zip(inputs.shape[1:3], kernel.shape[:2], strict=True)
    )


def by_remainders(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution as a sum of convolutions of stride 1, one for each remainder of row and column.

    With inputs and kernel split into their rows and columns modulo the stride, no step of its transpose has zeros
    between its entries, for which the compiler's own form has no fast program on a CPU.
    """
    rest, counts = remainders.split(inputs, 0.0, kernel.shape[:2], stride, padding)
    # Split and not sliced: its transpose joins what that of slices would add up; a gradient of C1 takes 0.95 of the time.
    split = [
        [part[:, :, 0, :, 0] for part in jax.lax.split(rows, (1,) * stride, 4)]
        for rows in jax.lax.split(rest, (1,) * stride, 2)
    ]
    parts = []
    # A kernel that is shorter than the stride has no rows of the last remainders.
    for i in range(min(stride, kernel.shape[0])):
        for j in range(min(stride, kernel.shape[1])):
            part = kernel[i::stride, j::stride]
            last = [
                count + length - 1
                for count, length in zip(counts, part.shape[:2], strict=True)
            ]
            parts.append(
                by_compiler(split[i][j][:, : last[0], : last[1]], part, 1, "VALID")
            )
    return sum(parts[1:], start=parts[0])
