"""Windows that move over images by a stride, and the images' rows and columns by their remainder modulo it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def windows(
    sides: Sequence[int], window: Sequence[int], stride: int, padding: str
) -> tuple[Sequence[tuple[int, int]], tuple[int, int]]:
    """Return the padding before and after height and width, and the numbers of windows along them."""
    pads = jax.lax.padtype_to_pads(sides, window, (stride,) * 2, padding)
    rows, columns = (
        (side + sum(pad) - length) // stride + 1
        for side, length, pad in zip(sides, window, pads, strict=True)
    )
    return pads, (rows, columns)


def split(
    inputs: jax.Array, fill: float, window: tuple[int, int], stride: int, padding: str
) -> tuple[jax.Array, tuple[int, int]]:
    """Return padded images by their remainders, and the numbers of windows.

    The window at (i, j) holds, of the rows of remainder r, those from i on, and of the columns likewise: strided windows of
    the images are dense windows of each remainder.

    Args:
        inputs: [b, H, W, C].
        fill: what stands around the images.
        window: height and width.
        stride: in both directions.
        padding: "SAME" or "VALID".

    Returns:
        [b, rows, stride, columns, stride, C], and the windows along height and width.
    """
    sides = inputs.shape[1:3]
    pads, counts = windows(sides, window, stride, padding)
    # As many rows and columns of each remainder: windows end within count + (length - 1) // stride of them.
    blocks = [
        count + (length - 1) // stride
        for count, length in zip(counts, window, strict=True)
    ]
    width = [
        (low, stride * block - side - low, 0)
        for side, (low, _), block in zip(sides, pads, blocks, strict=True)
    ]
    none = (0, 0, 0)
    padded = jax.lax.pad(inputs, jnp.array(fill, inputs.dtype), (none, *width, none))
    shape = len(inputs), blocks[0], stride, blocks[1], stride, inputs.shape[-1]
    return padded.reshape(shape), counts
