"""The trace of a symmetric operator, by layer, with its diagonal: random estimates with standard errors.

An operator whose trace is partly known is cheaper: tr(A) = tr(A - B) + tr(B) with the diagonal of B as ``control``. For a
Hessian take B = G, the Gauss-Newton matrix, whose diagonal is exact (`composite.Composite.gauss_newton_diagonal`), and
estimate the residual H - G alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from bsexp.curvature import block, estimate, precise, selection
from bsexp.curvature.estimate import Estimate
from bsexp.curvature.operator import Operator

Pytree = Any


@dataclasses.dataclass(frozen=True)
class Trace(Estimate):
    """The trace of an operator, and what the same products tell beside it.

    Attributes:
        layers: path of a leaf, such as "layer/kernel" -> the trace of its diagonal block.
        diagonal: a pytree like the parameters; an estimate of each diagonal entry, far noisier than their sum.
        diagonal_stderr: its standard error, entry by entry.
        square: tr(A^2) = |A|_F^2 of the operator itself, without the control.
    """

    layers: dict[str, Estimate] = dataclasses.field(repr=False)
    diagonal: Pytree = dataclasses.field(repr=False)
    diagonal_stderr: Pytree = dataclasses.field(repr=False)
    square: Estimate = dataclasses.field(repr=False)


def hutchinson(
    operator: Operator,
    like: Pytree,
    key: jax.Array,
    budget: int,
    *,
    tolerance: float = 0.0,
    control: Pytree | None = None,
) -> Trace:
    """Estimate tr(A) + sum(control) as the mean of v^T A v over Rademacher vectors v.

    Unbiased for any A; the variance of one sample is 2 (|A|_F^2 - sum_i A_ii^2) for symmetric A, so a diagonal
    operator is exact after one.

    Args:
        operator: A: block [k, ...] -> A block, on pytrees shaped as ``like`` with a leading axis of vectors.
        like: a pytree that gives shapes and dtypes.
        key: random key; equal keys give equal probes.
        budget: most operator-vector products, at least 2.
        tolerance: relative standard error to stop at, see `estimate.within`; with 0 the whole budget is spent.
        control: diagonal of what was subtracted from the operator of interest to make A.

    Raises:
        ValueError: a budget below 2, from which no standard error follows; a tolerance below 0; the operator
            returned NaN or infinity.

    Source: Hutchinson 1990, doi:10.1080/03610919008812866.
    """
    _check(budget, 2, tolerance)
    exact = control if control is not None else jax.tree.map(jnp.zeros_like, like)

    def pair(vectors: Pytree) -> tuple[Pytree, Pytree, Pytree]:
        images = operator(vectors)
        return vectors, images, images

    return _sampled(pair, like, key, budget, tolerance, _Exact(exact, 0.0, 0))


def hutchpp(
    operator: Operator,
    like: Pytree,
    key: jax.Array,
    budget: int,
    *,
    directions: int,
    tolerance: float = 0.0,
    control: Pytree | None = None,
) -> Trace:
    """Estimate tr(A) + sum(control) by Hutch++: exact on a random subspace of A's range, Hutchinson beyond it.

    With Q an orthonormal basis of A S, S random signs, and P = Q Q^T: tr(A) = tr(Q^T A Q) + tr((I - P) A (I - P)).
    The samples are of the second term and independent given Q, so the standard error is honest. Pays where few
    directions carry most of |A|_F.

    Args:
        operator: see `hutchinson`, as the next two.
        like: gives shapes and dtypes.
        key: random key.
        budget: most operator-vector products, at least 2 r + 2.
        directions: r, the dimension of the subspace; takes 2 r products, and memory for 2 r vectors.
        tolerance: see `hutchinson`.
        control: see `hutchinson`.

    Raises:
        ValueError: as `hutchinson`; r is not between 1 and the dimension.

    Source: Meyer et al. 2021, arXiv:2010.09649.
    """
    dimension = sum(np.size(leaf) for leaf in jax.tree.leaves(like))
    if not 1 <= directions <= dimension:
        raise ValueError(
            f"directions={directions}: must be between 1 and the dimension {dimension}"
        )
    _check(budget, 2 * directions + 2, tolerance)
    sketch_key, probe_key = jax.random.split(key)
    sketch = block.rademacher(sketch_key, like, directions)
    basis = _orthonormal(_checked(block.applied(operator, sketch)))
    images = _checked(block.applied(operator, basis))
    exact = _projected_diagonal(basis, images)
    if control is not None:
        exact = jax.tree.map(jnp.add, exact, control)

    def pair(vectors: Pytree) -> tuple[Pytree, Pytree, Pytree]:
        rest = _deflated(basis, vectors)
        product = operator(rest)
        return rest, _deflated(basis, product), product

    known = _Exact(exact, float(_squared_norms(images).sum()), 2 * directions)
    return _sampled(pair, like, probe_key, budget, tolerance, known)


def xtrace(
    operator: Operator,
    like: Pytree,
    key: jax.Array,
    budget: int,
    *,
    repeats: int = 8,
    control: Pytree | None = None,
) -> Estimate:
    """Estimate tr(A) + sum(control) by XTrace, in independent repeats.

    XTrace with k vectors is the mean of k Hutch++ estimates, each of which leaves one vector out of the subspace and uses
    it as its probe. These are not independent: intervals from their spread held the truth in 69 to 95 % of 2 000
    trials where they should in 95. So each sample here is a whole XTrace of budget / (2 repeats) vectors, and the
    standard error is that between repeats.

    Args:
        operator: see `hutchinson`, as the next two.
        like: gives shapes and dtypes.
        key: random key.
        budget: most operator-vector products, at least 4 repeats.
        repeats: independent runs, at least 2; each keeps k vectors four times in memory.
        control: see `hutchinson`.

    Raises:
        ValueError: too small a budget, fewer than 2 repeats, or the operator returned NaN or infinity.

    Wrong to use for a flat tail below the rounding of the products: of n eigenvalues t under k machine precisions of the
    largest / sqrt(n) nothing is seen, neither in the value, which lacks n t, nor in the standard error.

    Source: Epperly, Tropp, Webber 2024, arXiv:2301.07825.
    """
    if repeats < 2:
        raise ValueError(f"repeats={repeats}: must be >= 2")
    _check(budget, 4 * repeats, 0.0)
    dimension = sum(np.size(leaf) for leaf in jax.tree.leaves(like))
    number = min(budget // (2 * repeats), dimension)
    samples = [
        _xtrace_once(operator, like, each, number)
        for each in jax.random.split(key, repeats)
    ]
    exact = 0.0 if control is None else sum(_leaf_sums(control))
    return estimate.from_samples(
        np.array(samples), 2 * number * repeats, "budget", exact
    )


def _check(budget: int, least: int, tolerance: float) -> None:
    if budget < least:
        raise ValueError(f"budget={budget}: must be >= {least}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}: must be >= 0")


@dataclasses.dataclass(frozen=True)
class _Exact:
    """What is known before sampling: a diagonal, a squared Frobenius norm, and the products that it took."""

    diagonal: Pytree
    square: float
    num_matvecs: int


def _sampled(
    pair: Callable[[Pytree], tuple[Pytree, Pytree, Pytree]],
    like: Pytree,
    key: jax.Array,
    budget: int,
    tolerance: float,
    exact: _Exact,
) -> Trace:
    """Sample u_i w_i over probes, (u, w, product) = pair(v), until tolerance or budget is reached."""
    known = np.array(_leaf_sums(exact.diagonal))
    by_leaf = np.zeros((0, len(known)))
    squares, moments, spent = np.zeros(0), None, exact.num_matvecs
    stopped = "budget"
    while spent < budget:
        size = min(block.WIDTH, budget - spent)
        probes = block.rademacher(jax.random.fold_in(key, spent), like, size)
        left, right, product = pair(probes)
        rows = np.array(jax.tree.leaves(block.inner_products(left, right)))
        by_leaf = np.concatenate([by_leaf, rows.T.astype(np.float64)])
        squares = np.append(squares, np.asarray(_squared_norms(product), np.float64))
        if not np.isfinite(by_leaf).all():
            raise ValueError("operator: returned a value that is not finite")
        moments = _merged(moments, left, right)
        spent += size
        totals = by_leaf.sum(axis=1)
        if estimate.within(totals, tolerance, known.sum()):
            stopped = "tolerance"
            break

    def found(samples: np.ndarray, part: float) -> Estimate:
        return estimate.from_samples(samples, spent, stopped, part)

    number, mean, deviations = moments
    layers = zip(selection.paths(like), by_leaf.T, known, strict=True)
    return Trace(
        **vars(found(by_leaf.sum(axis=1), known.sum())),
        layers={path: found(samples, part) for path, samples, part in layers},
        diagonal=jax.tree.map(jnp.add, exact.diagonal, mean),
        diagonal_stderr=jax.tree.map(
            lambda leaf: jnp.sqrt(leaf / (number * (number - 1))), deviations
        ),
        square=found(squares, exact.square),
    )


def _leaf_sums(tree: Pytree) -> list[float]:
    return [float(np.asarray(leaf, np.float64).sum()) for leaf in jax.tree.leaves(tree)]


def _merged(moments: Any, left: Pytree, right: Pytree) -> Any:
    """Add a block's products u_i w_i to their running (number, mean, sum of squared deviations)."""
    size = block.size(left)
    number = 0 if moments is None else moments[0]
    mean, deviations = _moments(moments and moments[1:], left, right, number)
    return number + size, mean, deviations


@jax.jit
def _moments(
    old: tuple[Pytree, Pytree] | None, left: Pytree, right: Pytree, number: jax.Array
) -> tuple[Pytree, Pytree]:
    """Merge means and deviations of two groups: Chan et al. 1983, doi:10.1080/00031305.1983.10483115."""
    products = jax.tree.map(jnp.multiply, left, right)
    mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), products)
    deviations = jax.tree.map(
        lambda leaf, centre: ((leaf - centre) ** 2).sum(axis=0), products, mean
    )
    if old is None:
        return mean, deviations
    size = block.size(left)
    share = size / (number + size)
    shift = jax.tree.map(jnp.subtract, mean, old[0])
    return (
        jax.tree.map(lambda a, s: a + s * share.astype(s.dtype), old[0], shift),
        jax.tree.map(
            lambda a, b, s: a + b + s**2 * (number * share).astype(s.dtype),
            old[1],
            deviations,
            shift,
        ),
    )


@jax.jit
def _squared_norms(vectors: Pytree) -> jax.Array:
    return sum(jax.tree.leaves(block.inner_products(vectors, vectors)))


def _checked(vectors: Pytree) -> Pytree:
    if not bool(jnp.isfinite(_squared_norms(vectors)).all()):
        raise ValueError("operator: returned a value that is not finite")
    return vectors


@jax.jit
def _orthonormal(vectors: Pytree) -> Pytree:
    """Return an orthonormal basis of a block's span, a block of as many vectors."""
    matrix, restore = block.as_matrix(vectors)
    return restore(jnp.linalg.qr(matrix.T)[0].T)


@jax.jit
def _deflated(basis: Pytree, vectors: Pytree) -> Pytree:
    """Return (I - Q Q^T) v, done twice: once leaves rounding errors along Q."""
    matrix, _ = block.as_matrix(basis)
    rest, restore = block.as_matrix(vectors)
    for _ in range(2):
        rest = rest - precise.matmul(precise.matmul(rest, matrix.T), matrix)
    return restore(rest)


@jax.jit
def _projected_diagonal(basis: Pytree, images: Pytree) -> Pytree:
    """Return the diagonal of A - (I - P) A (I - P) = P A + A P - P A P, P = Q Q^T, from Q and A Q."""
    matrix, restore = block.as_matrix(basis)
    image, _ = block.as_matrix(images)
    inner = precise.matmul(matrix, image.T)
    both = 2 * image - precise.matmul((inner + inner.T) / 2, matrix)
    return block.vector(restore((matrix * both).sum(axis=0)[None]), 0)


def _xtrace_once(
    operator: Operator, like: Pytree, key: jax.Array, number: int
) -> float:
    probes = block.normal(key, like, number)
    images = _checked(block.applied(operator, probes))
    basis = _orthonormal(images)
    again = _checked(block.applied(operator, basis))
    return float(_xtrace_mean(probes, images, basis, again))


@jax.jit
def _xtrace_mean(
    probes: Pytree, images: Pytree, basis: Pytree, again: Pytree
) -> jax.Array:
    """Return the mean over i of tr(Q_i^T A Q_i) + r_i^T A r_i (n - k + 1) / |r_i|^2, r_i = (I - Q_i Q_i^T) w_i.

    Q_i spans the images A w_j of all j but i; in the coordinates of Q it is all that is orthogonal to s_i, the
    normalised i-th column of R^-T, where A W = Q R. Where A has a rank below k nothing is lost by leaving one out.
    """
    w, _ = block.as_matrix(probes)
    y, _ = block.as_matrix(images)
    q, _ = block.as_matrix(basis)
    z, _ = block.as_matrix(again)
    number, dimension = w.shape
    triangle, inner = precise.matmul(q, y.T), precise.matmul(q, z.T)
    # Not a pseudo-inverse: it leaves out small singular values that the rank below still counts, and then no s_i is right.
    inverse = solve_triangular(triangle, jnp.eye(number, dtype=triangle.dtype)).T
    whole = jnp.linalg.matrix_rank(triangle) == number
    s = jnp.where(whole, inverse / jnp.linalg.norm(inverse, axis=0), 0)
    inside = precise.matmul(q, w.T)
    kept = inside - s * (s * inside).sum(axis=0)
    quadratic = (
        (inside * triangle).sum(axis=0)
        - 2 * (kept * precise.matmul(z, w.T)).sum(axis=0)
        + (kept * precise.matmul(inner, kept)).sum(axis=0)
    )
    length = (w**2).sum(axis=1) - (kept**2).sum(axis=0)
    # Of a lower rank nothing is left beyond Q, and both are rounding.
    rest = jnp.where(
        whole,
        quadratic * (dimension - number + 1) / jnp.where(whole, length, 1),
        0,
    )
    return (jnp.trace(inner) - (s * precise.matmul(inner, s)).sum(axis=0) + rest).mean()
