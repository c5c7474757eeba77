"""Convolution as products of polynomials, taken at a few points: tile by tile of the image."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bsexp.models import remainders

# And infinity. Of the sets tried they round least: 256 channels to 3.4e-6 of the largest output, where windows round to 3e-7;
# with 2 in the place of 1/2, the usual set, to 8e-6. Each further point rounds several times as much.
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
MOST_POINTS = len(POINTS) + 1


class Side(NamedTuple):
    """A convolution along height or width, in cells of as many entries as the stride.

    Attributes:
        positions: of the kernel.
        outputs: m, positions of a tile.
        taps: r, cells of the kernel.
        ahead: zeros ahead of the kernel, that its cells lie on those of the image.
        first: cells of zeros before the image.
        cells: of the image.
    """

    positions: int
    outputs: int
    taps: int
    ahead: int
    first: int
    cells: int

    @property
    def tiles(self) -> int:
        """Return how many tiles have all positions."""
        return -(-self.positions // self.outputs)

    @property
    def points(self) -> int:
        """Return m + r - 1, the cells that a tile's outputs see: as many as the product of both polynomials has terms."""
        return self.outputs + self.taps - 1

    @property
    def seen(self) -> range:
        """Return the cells of a tile that are not zeros around the image: of more than one tile, all."""
        if self.tiles > 1:
            return range(self.points)
        return range(self.first, min(self.points, self.first + self.cells))


def sides(
    inputs_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    stride: int,
    padding: str,
) -> list[Side]:
    """Return the convolution of [b, H, W, C] with [h, w, C, F] along height and along width."""
    shapes = inputs_shape[1:3], kernel_shape[:2]
    pads, counts = remainders.windows(*shapes, stride, padding)
    found = []
    for side, length, count, (low, _) in zip(*shapes, counts, pads, strict=True):
        ahead = -low % stride
        taps = -(-(ahead + length) // stride)
        outputs = max(1, min(count, MOST_POINTS + 1 - taps))
        first, cells = -(-low // stride), -(-side // stride)
        found.append(Side(count, outputs, taps, ahead, first, cells))
    return found


def convolve(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution, of each tile A^T ((G kernel G^T) (B^T inputs B)) A: a matrix product for each pair of points.

    Along a side, m outputs of r taps g and m + r - 1 entries d are A^T ((G g) * (B^T d)): m + r - 1 products, where
    windows take m r.

    Args:
        inputs: [b, H, W, C].
        kernel: [h, w, C, F].
        stride: s in both directions; the s x s entries of a cell count as channels.
        padding: "SAME" or "VALID".

    Returns:
        [b, positions, positions, F].

    Wrong to use where rounding to 1e-5 of the largest output matters, in bfloat16, of which it leaves nothing, and for a
    kernel of more than MOST_POINTS cells along a side, to whose product the points are too few.

    Source: Lavin and Gray 2015, arXiv:1509.09308; the points: Barabasz et al. 2018, arXiv:1803.10986.
    """
    along = rows, columns = sides(inputs.shape, kernel.shape, stride, padding)
    of_outputs, of_kernel, of_inputs = (
        np.kron(*matrices).astype(inputs.dtype)
        for matrices in zip(*map(_transforms, along), strict=True)
    )
    # A product for each pair of points and not one of a batch, of which the compiler gives no part to a second core.
    products = [
        values @ factors.T
        for values, factors in zip(
            _apart(_mapped(of_inputs, _tiles(inputs, stride, along))),
            _apart(_mapped(of_kernel, _taps(kernel, stride, along))),
            strict=True,
        )
    ]
    outputs = _mapped(of_outputs, jnp.stack(products))
    examples, features = len(inputs), kernel.shape[-1]
    outputs = outputs.reshape(
        (rows.outputs, -1, examples, rows.tiles, columns.tiles, features)
    )
    outputs = outputs.transpose((2, 3, 0, 4, 1, 5))
    outputs = outputs.reshape((examples, rows.tiles * rows.outputs, -1, features))
    return outputs[:, : rows.positions, : columns.positions]


def _tiles(inputs: jax.Array, stride: int, along: Sequence[Side]) -> jax.Array:
    """Return the cells seen of each tile, [cells, b tiles, s s C]."""
    examples, *lengths, channels = inputs.shape
    # Rows and columns of blocks of m cells: the first of a tile lie in its own, the others in the next.
    blocks = [side.tiles - 1 + -(-len(side.seen) // side.outputs) for side in along]
    ends = []
    for side, length, count in zip(along, lengths, blocks, strict=True):
        low = stride * (side.first - side.seen.start)
        ends.append((low, stride * count * side.outputs - low - length, 0))
    none = (0, 0, 0)
    padded = jax.lax.pad(inputs, jnp.zeros((), inputs.dtype), (none, *ends, none))
    rows, columns = along
    cells = padded.reshape(
        (examples, blocks[0], rows.outputs, stride, blocks[1], columns.outputs, -1)
    )
    # Split and not sliced: its transpose joins what that of slices would add up.
    parts = [
        jax.lax.split(part, (1,) * columns.outputs, 5)
        for part in jax.lax.split(cells, (1,) * rows.outputs, 2)
    ]

    def of_tiles(i: int, j: int) -> jax.Array:
        row, i = divmod(i, rows.outputs)
        column, j = divmod(j, columns.outputs)
        part = parts[i][j][:, row:, 0, :, column:, 0]
        part = part[:, : rows.tiles, :, : columns.tiles]
        return part.transpose((0, 1, 3, 2, 4))

    seen = [
        of_tiles(i, j) for i in range(len(rows.seen)) for j in range(len(columns.seen))
    ]
    return jnp.stack(seen).reshape((len(seen), -1, stride * stride * channels))


def _taps(kernel: jax.Array, stride: int, along: Sequence[Side]) -> jax.Array:
    """Return the cells of the kernel, [taps, F, s s C]."""
    *lengths, channels, features = kernel.shape
    ends = [
        (side.ahead, stride * side.taps - side.ahead - length, 0)
        for side, length in zip(along, lengths, strict=True)
    ]
    none = (0, 0, 0)
    padded = jax.lax.pad(kernel, jnp.zeros((), kernel.dtype), (*ends, none, none))
    rows, columns = (side.taps for side in along)
    cells = padded.reshape((rows, stride, columns, stride, channels, features))
    cells = cells.transpose((0, 2, 5, 1, 3, 4))
    return cells.reshape((rows * columns, features, -1))


def _mapped(matrix: np.ndarray, stacked: jax.Array) -> jax.Array:
    """Apply a matrix to the first axis. In two dimensions: of three, the compiler would turn the cotangent round."""
    flat = matrix @ stacked.reshape((len(stacked), -1))
    return flat.reshape((len(matrix), *stacked.shape[1:]))


def _apart(stacked: jax.Array) -> list[jax.Array]:
    return [part[0] for part in jax.lax.split(stacked, (1,) * len(stacked))]


def _transforms(side: Side) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T [m, points], G [points, r] and, of B^T, the columns of the cells seen."""
    points = side.points
    of_inputs = np.linalg.inv(_evaluation(points, points)).T
    # By powers of two, which round nothing: so that no value is large where its factor is small.
    scale = 2 ** np.round(np.log2(np.abs(of_inputs).max(axis=1, keepdims=True)))
    return (
        _evaluation(points, side.outputs).T,
        _evaluation(points, side.taps) * scale,
        of_inputs[:, side.seen.start : side.seen.stop] / scale,
    )


def _evaluation(points: int, terms: int) -> np.ndarray:
    """Return the matrix [points, terms] from a polynomial's coefficients to its values, the last at infinity."""
    finite = np.vander(POINTS[: points - 1], terms, increasing=True)
    return np.vstack([finite, np.eye(terms)[-1:]])
