"""Extreme eigenpairs of a symmetric operator by block Lanczos with full re-orthogonalisation."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree

from bsexp.curvature import block

Pytree = Any
Operator = Callable[[Pytree], Pytree]
Product = Callable[[list[jax.Array]], list[jax.Array]]  # of flat vectors [n]

# Vectors that share one call of the operator; more of them cost memory and save little.
BLOCK = 4
# Basis vectors that share one matrix product. With 1.46 M numbers on 2 CPU cores one is removed from a vector in 1.4 ms
# alone, in 0.6 to 1.1 ms in panels of 4 to 32; a panel is allocated whole, so a large one wastes memory.
PANEL = 8
# What rounding leaves of a vector without anything new, in machine precisions x |A|. With 10, a few of 200 spaces that
# ought to be invariant after two steps went on, and nodes of one eigenvalue lay 19 apart; with 30 none did.
ROUNDING = 30
ORDER = {
    "largest": np.negative,
    "smallest": np.positive,
    "magnitude": lambda values: -np.abs(values),
}


class Eigenpairs(NamedTuple):
    """Approximate eigenpairs, the most wanted first, and how good they are.

    Attributes:
        values: float64 [k], Ritz values.
        vectors: block of k orthonormal vectors.
        residuals: float64 [k], |A v - value v|_2, computed with one more product each: an eigenvalue lies within this
            distance.
        converged: bool [k], whether the residual is at most tolerance x |value|, or 30 machine precisions x |A|.
        num_matvecs: operator-vector products spent.
    """

    values: np.ndarray
    vectors: Pytree
    residuals: np.ndarray
    converged: np.ndarray
    num_matvecs: int


def eigenpairs(  # noqa: PLR0913 - whose eigenpairs, which and how many, how far to go, where from
    operator: Operator,
    like: Pytree,
    key: jax.Array,
    number: int,
    *,
    which: str = "largest",
    iterations: int,
    tolerance: float,
    start: Pytree | None = None,
) -> Eigenpairs:
    """Find the largest, smallest or absolutely largest eigenvalues of a symmetric operator.

    Block Lanczos: each step multiplies the newest block and adds what is new in its image to an orthonormal basis. A
    block of w vectors meets w copies of a multiple eigenvalue and no more. So where w < number, pairs that have settled
    are put to a test: a fresh random vector is followed for as many steps as they took, and again while that
    changes a value. This doubles the products; a start of ``number`` vectors or more is not put to it.

    Args:
        operator: block [k, ...] -> A block, on pytrees shaped as ``like`` with a leading axis of at most 4 vectors.
        like: a pytree that gives shapes and dtypes.
        key: random key of the normal start vector and of fresh ones.
        number: k, how many pairs.
        which: "largest", "smallest" (both algebraically) or "magnitude" (largest absolute value).
        iterations: most steps; products and basis vectors are about iterations x block size + k.
        tolerance: a pair has settled when its estimated residual is at most tolerance x |value|.
        start: block of vectors, such as the eigenvectors found earlier in training; dependent ones are dropped. None
            for one random vector.

    Raises:
        ValueError: ``number``, ``which``, ``iterations``, ``tolerance`` or ``start`` is not as above, or the operator
            returns NaN or infinity.

    Wrong to use with a ``start`` to watch for what the start does not see: while a tracked pair settles in two steps, an
    eigenvalue that has overtaken it elsewhere stays unseen. Start cold now and then.

    Source: Ruhe 1979, doi:10.1090/S0025-5718-1979-0521282-9; twice is enough: Giraud et al. 2005,
    doi:10.1007/s00211-005-0615-4.
    """
    dimension = sum(jnp.size(leaf) for leaf in jax.tree.leaves(like))
    goal = _Goal(which, number, tolerance, iterations, dimension)
    _check(goal)

    def fresh() -> jax.Array:
        drawn = block.normal(jax.random.fold_in(key, len(krylov)), like, 1)
        return flat_vectors(drawn)[0]

    krylov = Krylov()
    for vector in [fresh()] if start is None else _checked(start, like):
        krylov.append(vector, float(_length(vector)))
    if iterations * len(krylov) < number:
        raise ValueError(
            f"iterations={iterations}: must be >= {number}/{len(krylov)}, number over independent start vectors"
        )
    multiply = flat_product(operator, like)
    ritz = _search(krylov, multiply, fresh, goal)
    vectors = krylov.combined(ritz.weights)
    residuals = np.array(
        [
            float(_distance(image, value, vector))
            for image, value, vector in zip(
                multiply(vectors), ritz.values, vectors, strict=True
            )
        ]
    )
    return Eigenpairs(
        ritz.values,
        _block(like, vectors),
        residuals,
        residuals <= goal.bounds(ritz),
        krylov.num_matvecs + number,
    )


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
        length = float(_length(vector))
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
            self._scale = max(self._scale, float(_length(image)))
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
    """Make the product of flat vectors from an operator on blocks, at most BLOCK vectors a call.

    The product raises ValueError where the operator returns NaN or infinity.
    """

    def multiply(vectors: list[jax.Array]) -> list[jax.Array]:
        images = []
        for first in range(0, len(vectors), BLOCK):
            image = operator(_block(like, vectors[first : first + BLOCK]))
            if not bool(_finite(image)):
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
def _block(like: Pytree, vectors: list[jax.Array]) -> Pytree:
    """Undo `flat_vectors`."""
    return jax.vmap(ravel_pytree(like)[1])(jnp.stack(vectors))


@jax.jit
def _finite(vectors: Pytree) -> jax.Array:
    leaves = jax.tree.leaves(vectors)
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


_length = jax.jit(jnp.linalg.norm)


@jax.jit
def _distance(image: jax.Array, value: float, vector: jax.Array) -> jax.Array:
    return jnp.linalg.norm(image - value.astype(vector.dtype) * vector)


def _rounding(dtype: Any) -> float:
    return ROUNDING * float(jnp.finfo(dtype).eps)


# The default precision of a matrix product on an accelerator, TF32 or bfloat16, would lose orthogonality.
_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def _removed(panel: jax.Array, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    components = _matmul(panel, vector)
    return components, vector - _matmul(components, panel)


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
    added = _matmul(weights.T, panel)
    return added if total is None else total + added


@jax.jit
def _units(vectors: jax.Array) -> list[jax.Array]:
    return list(vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True))


class _Goal(NamedTuple):
    which: str
    number: int
    tolerance: float
    iterations: int
    dimension: int

    def best(self, ritz: Ritz) -> Ritz:
        chosen = np.argsort(ORDER[self.which](ritz.values), stable=True)[: self.number]
        return Ritz(
            ritz.values[chosen],
            ritz.weights[:, chosen],
            ritz.residuals[chosen],
            ritz.rounding,
        )

    def bounds(self, ritz: Ritz) -> np.ndarray:
        """Return the largest residuals that pass."""
        return np.maximum(self.tolerance * np.abs(ritz.values), ritz.rounding)

    def settled(self, ritz: Ritz) -> bool:
        return bool(np.all(ritz.residuals <= self.bounds(ritz)))


def _search(
    krylov: Krylov, multiply: Product, fresh: Callable[[], jax.Array], goal: _Goal
) -> Ritz:
    """Grow the space until the wanted pairs settle and, where copies can be missing, the search for them changes none."""
    narrow = len(krylov) < goal.number
    ritz = _settle(krylov, multiply, fresh, goal)
    patience = krylov.steps
    while narrow and krylov.steps < goal.iterations:
        before = ritz.values
        steps = min(patience, goal.iterations - krylov.steps)
        _explore(krylov, multiply, fresh, steps)
        ritz = _settle(krylov, multiply, fresh, goal)
        if np.all(np.abs(ritz.values - before) <= goal.bounds(ritz)):
            break
    return ritz


def _settle(
    krylov: Krylov, multiply: Product, fresh: Callable[[], jax.Array], goal: _Goal
) -> Ritz:
    """Multiply all that waits until the wanted pairs settle or no step, or no dimension, is left."""
    while True:
        if krylov.num_matvecs >= goal.number:
            ritz = goal.best(krylov.ritz())
            all_done = krylov.num_matvecs == goal.dimension
            if all_done or krylov.steps >= goal.iterations or goal.settled(ritz):
                return ritz
        if not krylov.waiting():
            krylov.append(fresh(), 1.0)
        advance([krylov], multiply)


def _explore(
    krylov: Krylov, multiply: Product, fresh: Callable[[], jax.Array], steps: int
) -> None:
    """Follow a fresh vector alone: it sees the copies that are orthogonal to the space, if there are any."""
    since = len(krylov)
    krylov.append(fresh(), 1.0)
    for _ in range(steps):
        if not krylov.waiting(since):
            return
        advance([krylov], multiply, since)


def _check(goal: _Goal) -> None:
    if not 1 <= goal.number <= goal.dimension:
        raise ValueError(
            f"number={goal.number}: must be from 1 to the dimension, {goal.dimension}"
        )
    if goal.which not in ORDER:
        raise ValueError(f"which={goal.which!r}: must be one of {sorted(ORDER)}")
    if goal.iterations < 1:
        raise ValueError(f"iterations={goal.iterations}: must be > 0")
    if not goal.tolerance > 0:
        raise ValueError(f"tolerance={goal.tolerance}: must be > 0")


def _checked(start: Pytree, like: Pytree) -> list[jax.Array]:
    """Return the vectors of a start block, flat."""
    if jax.tree.map(lambda leaf: jnp.shape(leaf)[1:], start) != jax.tree.map(
        jnp.shape, like
    ):
        raise ValueError("start: must be a block of vectors shaped like `like`")
    vectors = flat_vectors(
        jax.tree.map(lambda leaf, as_is: jnp.asarray(leaf, as_is.dtype), start, like)
    )
    if not bool(_finite(vectors)) or not any(bool(v.any()) for v in vectors):
        raise ValueError("start: must be finite and not zero")
    return vectors
