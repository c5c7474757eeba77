"""Extreme eigenpairs of a symmetric operator by block Lanczos with full re-orthogonalisation."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bsexp.curvature import block, krylov
from bsexp.curvature.krylov import Krylov, Product, Pytree, Ritz
from bsexp.curvature.operator import Operator, finite

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
        drawn = block.normal(jax.random.fold_in(key, len(space)), like, 1)
        return krylov.flat_vectors(drawn)[0]

    space = Krylov()
    for vector in [fresh()] if start is None else _checked(start, like):
        space.append(vector, float(krylov.length_of(vector)))
    if iterations * len(space) < number:
        raise ValueError(
            f"iterations={iterations}: must be >= {number}/{len(space)}, number over independent start vectors"
        )
    multiply = krylov.flat_product(operator, like)
    ritz = _search(space, multiply, fresh, goal)
    vectors = space.combined(ritz.weights)
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
        krylov.as_block(like, vectors),
        residuals,
        residuals <= goal.bounds(ritz),
        space.num_matvecs + number,
    )


@jax.jit
def _distance(image: jax.Array, value: float, vector: jax.Array) -> jax.Array:
    return jnp.linalg.norm(image - value.astype(vector.dtype) * vector)


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
    space: Krylov, multiply: Product, fresh: Callable[[], jax.Array], goal: _Goal
) -> Ritz:
    """Grow the space until the wanted pairs settle and, where copies can be missing, the search for them changes none."""
    narrow = len(space) < goal.number
    ritz = _settle(space, multiply, fresh, goal)
    patience = space.steps
    while narrow and space.steps < goal.iterations:
        before = ritz.values
        steps = min(patience, goal.iterations - space.steps)
        _explore(space, multiply, fresh, steps)
        ritz = _settle(space, multiply, fresh, goal)
        if np.all(np.abs(ritz.values - before) <= goal.bounds(ritz)):
            break
    return ritz


def _settle(
    space: Krylov, multiply: Product, fresh: Callable[[], jax.Array], goal: _Goal
) -> Ritz:
    """Multiply all that waits until the wanted pairs settle or no step, or no dimension, is left."""
    while True:
        if space.num_matvecs >= goal.number:
            ritz = goal.best(space.ritz())
            all_done = space.num_matvecs == goal.dimension
            if all_done or space.steps >= goal.iterations or goal.settled(ritz):
                return ritz
        if not space.waiting():
            space.append(fresh(), 1.0)
        krylov.advance([space], multiply)


def _explore(
    space: Krylov, multiply: Product, fresh: Callable[[], jax.Array], steps: int
) -> None:
    """Follow a fresh vector alone: it sees the copies that are orthogonal to the space, if there are any."""
    since = len(space)
    space.append(fresh(), 1.0)
    for _ in range(steps):
        if not space.waiting(since):
            return
        krylov.advance([space], multiply, since)


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
    vectors = krylov.flat_vectors(
        jax.tree.map(lambda leaf, as_is: jnp.asarray(leaf, as_is.dtype), start, like)
    )
    if not finite(vectors) or not any(bool(v.any()) for v in vectors):
        raise ValueError("start: must be finite and not zero")
    return vectors
