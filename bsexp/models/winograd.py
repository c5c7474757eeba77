"""Convolution of a small image as a product of polynomials, taken at a few points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bsexp.models import remainders

# And infinity. Of the sets tried they round least: 256 channels to 3.4e-6 of the largest output, where windows round to 3e-7;
# with 2 in the place of 1/2, the usual set, to 8e-6.
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
MOST_POINTS = len(POINTS) + 1


class Side(NamedTuple):
    """A convolution along height or width, in cells of as many entries as the stride.

    Attributes:
        outputs: m.
        taps: r, cells of the kernel.
        ahead: zeros ahead of the kernel, that its cells lie on those of the image.
        first: cells of zeros before the image.
        cells: of the image, as far as windows reach.
    """

    outputs: int
    taps: int
    ahead: int
    first: int
    cells: int

    @property
    def points(self) -> int:
        """Return m + r - 1, the cells that m outputs see: as many as a product of both polynomials has terms."""
        return self.outputs + self.taps - 1


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
        ahead, first = -low % stride, -(-low // stride)
        taps = -(-(ahead + length) // stride)
        cells = min(-(-side // stride), count + taps - 1 - first)
        found.append(Side(count, taps, ahead, first, cells))
    return found


def convolve(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    """Return the convolution as A^T ((G kernel G^T) (B^T inputs B)) A, in between a matrix product for each pair of points.

    Along a side, m outputs of r taps g and m + r - 1 entries d are A^T ((G g) * (B^T d)): m + r - 1 products, where
    windows take m r.

    Args:
        inputs: [b, H, W, C].
        kernel: [h, w, C, F].
        stride: s in both directions; the s x s entries of a cell count as channels.
        padding: "SAME" or "VALID".

    Returns:
        [b, m, m, F].

    Wrong to use with more than MOST_POINTS points along a side: each further one rounds several times as much.

    Source: Lavin and Gray 2015, arXiv:1509.09308; the points: Barabasz et al. 2018, arXiv:1803.10986.
    """
    examples, *lengths, channels = inputs.shape
    along = sides(inputs.shape, kernel.shape, stride, padding)
    of_outputs, of_kernel, of_inputs = (
        np.kron(*matrices).astype(inputs.dtype)
        for matrices in zip(*map(_transforms, along), strict=True)
    )
    none = (0, 0, 0)
    ends = [
        (0, stride * side.cells - length, 0)
        for side, length in zip(along, lengths, strict=True)
    ]
    image = jax.lax.pad(inputs, jnp.zeros((), inputs.dtype), (none, *ends, none))
    image = image.reshape((examples, along[0].cells, stride, -1, stride, channels))
    image = image.transpose((1, 3, 0, 2, 4, 5))
    image = image.reshape((-1, examples, stride * stride * channels))
    width = [
        (side.ahead, stride * side.taps - side.ahead - length, 0)
        for side, length in zip(along, kernel.shape[:2], strict=True)
    ]
    taps = jax.lax.pad(kernel, jnp.zeros((), kernel.dtype), (*width, none, none))
    taps = taps.reshape((along[0].taps, stride, -1, stride, *kernel.shape[2:]))
    taps = taps.transpose((0, 2, 5, 1, 3, 4))
    taps = taps.reshape((-1, kernel.shape[-1], image.shape[-1]))
    # A product for each pair of points and not one of a batch, of which the compiler gives no part to a second core.
    products = [
        values @ factors.T
        for values, factors in zip(
            _apart(_mapped(of_inputs, image)),
            _apart(_mapped(of_kernel, taps)),
            strict=True,
        )
    ]
    outputs = _mapped(of_outputs, jnp.stack(products))
    outputs = outputs.reshape((along[0].outputs, -1, examples, kernel.shape[-1]))
    return outputs.transpose((2, 0, 1, 3))


def _mapped(matrix: np.ndarray, stacked: jax.Array) -> jax.Array:
    """Apply a matrix to the first axis. In two dimensions: of three, the compiler would turn the cotangent round."""
    flat = matrix @ stacked.reshape((len(stacked), -1))
    return flat.reshape((len(matrix), *stacked.shape[1:]))


def _apart(stacked: jax.Array) -> list[jax.Array]:
    return [part[0] for part in jax.lax.split(stacked, (1,) * len(stacked))]


def _transforms(side: Side) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T [m, points], G [points, r], and of B^T the columns of the image's cells."""
    points = side.points
    of_inputs = np.linalg.inv(_evaluation(points, points)).T
    # By powers of two, which round nothing: so that no value is large where its factor is small.
    scale = 2 ** np.round(np.log2(np.abs(of_inputs).max(axis=1, keepdims=True)))
    seen = slice(side.first, side.first + side.cells)
    return (
        _evaluation(points, side.outputs).T,
        _evaluation(points, side.taps) * scale,
        of_inputs[:, seen] / scale,
    )


def _evaluation(points: int, terms: int) -> np.ndarray:
    """Return the matrix [points, terms] from a polynomial's coefficients to its values, the last at infinity."""
    finite = np.vander(POINTS[: points - 1], terms, increasing=True)
    return np.vstack([finite, np.eye(terms)[-1:]])
