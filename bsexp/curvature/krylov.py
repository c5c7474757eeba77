"""Krylov spaces of a symmetric operator: an orthonormal basis grown by products, fully re-orthogonalised."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree

from bsexp.curvature import block, precise
from bsexp.curvature.operator import Operator, finite

Pytree = Any
Product = Callable[[list[jax.Array]], list[jax.Array]]  # of flat vectors [n]

# Basis vectors that share one matrix product. With 1.46 M numbers on 2 CPU cores one is removed from a vector in 1.4 ms
# alone, in 0.6 to 1.1 ms in panels of 4 to 32; a panel is allocated whole, so a large one wastes memory.
PANEL = 8
# What rounding leaves of a vector without anything new, in machine precisions x |A|. With 10, a few of 200 spaces that
# ought to be invariant after two steps went on, and nodes of one eigenvalue lay 19 apart; with 30 none did.
ROUNDING = 30


class Ritz(NamedTuple):
    """Eigenpairs of the projection of A on a basis of m vectors, j of them multiplied.

    Attributes:
        values: float64 [j].
        weights: float64 [m, j], components of the Ritz vectors along the basis.
        residuals: float64 [j], |A v - value v|_2 without a product, up to rounding.
        rounding: what rounding may leave of a residual or move a value by: 30 machine precisions x the largest |value|.
    """

    values: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray
    rounding: float


class Krylov:
    """An orthonormal basis V, grown by images under A, with A V_j = V H on the j vectors multiplied so far.

    Every image is orthogonalised against all of V, twice, so H is measured in full, not assumed to be
    tridiagonal; a vector without anything new is dropped. In float32, 60 vectors of 400 000 numbers came out
    orthogonal to 8e-6; below the square root of machine precision, 3e-4, the Ritz values do not feel it (Simon 1984).
    """

    def __init__(self) -> None:
        self.steps = 0  # products of a block
        self._size = 0
        self._panels: list[jax.Array] = []  # [PANEL, n] each, unused rows zero
        self._waiting: dict[int, jax.Array] = {}  # not yet multiplied
        self._columns: dict[int, np.ndarray] = {}  # of H, in order of multiplication
        self._scale = 0.0  # the largest |A v| seen

    def __len__(self) -> int:
        """Return m, the number of basis vectors."""
        return self._size

    @property
    def num_matvecs(self) -> int:
        """Return j, the number of basis vectors multiplied."""
        return len(self._columns)

    def waiting(self, since: int = 0) -> dict[int, jax.Array]:
        """Return the basis vectors from ``since`` on that are not multiplied; where there are none, V is invariant."""
        return {
            index: vector for index, vector in self._waiting.items() if index >= since
        }

    def append(self, vector: jax.Array, scale: float) -> np.ndarray:
        """Add what is new in a vector, if more than rounding at that scale; return the vector's components along V."""
        components = np.zeros(len(self._panels) * PANEL)
        for _ in range(2):
            parts = []
            for panel in self._panels:
                part, vector = _removed(panel, vector)
                parts.append(part)
            components += np.ravel(jax.device_get(parts))
        components = components[: self._size]
        length = float(length_of(vector))
        if length <= _rounding(vector.dtype) * scale or self._size == vector.size:
            return components
        if self._size % PANEL == 0:
            self._panels.append(jnp.zeros((PANEL, vector.size), vector.dtype))
        self._panels[-1], self._waiting[self._size] = _placed(
            self._panels[-1], self._size % PANEL, vector, length
        )
        self._size += 1
        return np.append(components, length)

    def absorb(self, images: dict[int, jax.Array]) -> None:
        """Extend H and V by the images of waiting vectors."""
        self.steps += 1
        for index, image in images.items():
            self._scale = max(self._scale, float(length_of(image)))
            self._columns[index] = self.append(image, self._scale)
            del self._waiting[index]

    def ritz(self) -> Ritz:
        """Solve the projected eigenproblem; the residual is what A moves out of the multiplied vectors' span."""
        multiplied = list(self._columns)
        H = np.zeros((self._size, len(multiplied)))
        for place, column in enumerate(self._columns.values()):
            H[: len(column), place] = column
        square = H[multiplied]
        # NumPy's eigh starts threads from about 30 x 30 on: 16 ms on two busy cores where SciPy's takes 0.2 ms.
        values, inner = scipy.linalg.eigh((square + square.T) / 2)
        weights = np.zeros_like(H)
        weights[multiplied] = inner
        residuals = np.linalg.norm(np.delete(H, multiplied, axis=0) @ inner, axis=0)
        rounding = _rounding(self._panels[0].dtype) * float(np.abs(values).max())
        return Ritz(values, weights, residuals, rounding)

    def combined(self, weights: np.ndarray) -> list[jax.Array]:
        """Return the unit vectors with these components [m, k] along the basis."""
        padded = np.zeros((len(self._panels) * PANEL, weights.shape[1]))
        padded[: self._size] = weights
        total = None
        for part, panel in zip(
            np.split(padded, len(self._panels)), self._panels, strict=True
        ):
            total = _accumulated(total, part.astype(panel.dtype), panel)
        return _units(total)


def advance(spaces: list[Krylov], multiply: Product, since: int = 0) -> None:
    """Multiply what waits in each space, all in one product."""
    taken = [space.waiting(since) for space in spaces]
    images = iter(
        multiply([vector for vectors in taken for vector in vectors.values()])
    )
    for space, vectors in zip(spaces, taken, strict=True):
        space.absorb({index: next(images) for index in vectors})


def flat_product(operator: Operator, like: Pytree) -> Product:
    """Make the product of flat vectors from an operator on blocks, at most block.WIDTH vectors a call.

    The product raises ValueError where the operator returns NaN or infinity.
    """

    def multiply(vectors: list[jax.Array]) -> list[jax.Array]:
        images = []
        for first in range(0, len(vectors), block.WIDTH):
            image = operator(as_block(like, vectors[first : first + block.WIDTH]))
            if not finite(image):
                raise ValueError("operator: returned a value that is not finite")
            images += flat_vectors(image)
        return images

    return multiply


@jax.jit
def flat_vectors(vectors: Pytree) -> list[jax.Array]:
    """Take a block apart into flat vectors [n]."""
    flat = jax.vmap(lambda vector: ravel_pytree(vector)[0])(vectors)
    return list(flat)


@jax.jit
def as_block(like: Pytree, vectors: list[jax.Array]) -> Pytree:
    """Undo `flat_vectors`."""
    return jax.vmap(ravel_pytree(like)[1])(jnp.stack(vectors))


length_of = jax.jit(jnp.linalg.norm)  # |v|_2


def _rounding(dtype: Any) -> float:
    return ROUNDING * float(jnp.finfo(dtype).eps)


@jax.jit
def _removed(panel: jax.Array, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    components = precise.matmul(panel, vector)
    return components, vector - precise.matmul(components, panel)


@functools.partial(jax.jit, donate_argnums=0)
def _placed(
    panel: jax.Array, row: int, vector: jax.Array, length: float
) -> tuple[jax.Array, jax.Array]:
    unit = vector / length
    return panel.at[row].set(unit), unit


@functools.partial(jax.jit, donate_argnums=0)
def _accumulated(
    total: jax.Array | None, weights: jax.Array, panel: jax.Array
) -> jax.Array:
    added = precise.matmul(weights.T, panel)
    return added if total is None else total + added


@jax.jit
def _units(vectors: jax.Array) -> list[jax.Array]:
    return list(vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True))
