"""The spectral density of a symmetric operator by stochastic Lanczos quadrature, and what can be read from it."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from bsexp.curvature import block, estimate, krylov
from bsexp.curvature.estimate import Estimate

# Residual over distance to the next node, below which a node is one eigenvalue and not a summary of many. Measured on
# a semicircle and on a Marchenko-Pastur law (n = 800, 20 to 160 steps): most nodes within the bulk were above 1, at its
# edges above 0.5; a lone eigenvalue went from 0.5 to 1e-3 within a few steps.
CONVERGED = 0.1
# Share of one eigenvalue, 1 / n, below which a node is no part of a bulk: it is one eigenvalue that a start hardly
# holds, or the second copy of a multiple one, which rounding alone brings up (weights near 1e-20).
NEGLIGIBLE = 1e-4


@dataclasses.dataclass(frozen=True)
class Density:
    """Gauss quadratures of the spectral measure (1/n) sum_i delta(x - lambda_i), one for each random start.

    A start whose Krylov space became invariant early has fewer than m nodes: its row is filled up with its first node
    at weight 0 and an infinite residual.

    Attributes:
        nodes: float64 [starts, m], Ritz values.
        weights: float64 [starts, m], at least 0; each row sums to 1.
        residuals: float64 [starts, m], an eigenvalue lies within this distance of the node, up to rounding.
        rounding: what rounding may move a node by: 30 machine precisions x the largest |node|.
        dimension: n.
        num_matvecs: operator-vector products spent.
    """

    nodes: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray
    rounding: float
    dimension: int
    num_matvecs: int


class Negative(NamedTuple):
    """How much of a spectrum is negative.

    Attributes:
        fraction: share of the eigenvalues that lie below -threshold.
        share: sum of |lambda| over all negative eigenvalues, over the sum of |lambda| over all.
    """

    fraction: Estimate
    share: Estimate


class Curve(NamedTuple):
    """A smoothed density with its 95 % band, all float64 [points].

    Attributes:
        grid: where.
        mean: density, eigenvalues per unit and per dimension: its integral is 1.
        lower: lower end of the band at each point by itself; may be below 0.
        upper: upper end.
    """

    grid: np.ndarray
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class Outliers(NamedTuple):
    """Eigenvalues that stand apart from the bulk.

    Attributes:
        values: float64 [k], ascending; a multiple eigenvalue is listed once.
        residuals: float64 [k], an eigenvalue lies within this distance of the value.
        lower: lower edge of the bulk, seen from inside.
        upper: upper edge.
    """

    values: np.ndarray
    residuals: np.ndarray
    lower: float
    upper: float


def lanczos_quadrature(
    operator: krylov.Operator,
    like: krylov.Pytree,
    key: jax.Array,
    *,
    starts: int,
    iterations: int,
) -> Density:
    """Run Lanczos with full re-orthogonalisation from Rademacher vectors v / |v|.

    The nodes are the eigenvalues of the projected matrix, the weights the squares of its eigenvectors' first
    components. Then sum_i w_i f(theta_i) = v^T f(A) v / n for every polynomial f of degree below 2 m, and the mean over
    starts is an unbiased estimate of tr f(A) / n.

    Args:
        operator: block [k, ...] -> A block, on pytrees shaped as ``like`` with a leading axis of at most 4 vectors.
        like: a pytree that gives shapes and dtypes.
        key: random key; equal keys give equal starts.
        starts: number of random vectors, at least 2; the error bars come from their scatter.
        iterations: m, products a start. Four starts share each call of the operator, so that 4 m vectors are held.

    Raises:
        ValueError: starts is below 2, iterations below 1, or the operator returns NaN or infinity.

    Source: Ubaru, Chen, Saad 2017, doi:10.1137/16M1104974; for Hessians: Ghorbani et al. 2019, arXiv:1901.10159.
    """
    if starts < 2:
        raise ValueError(
            f"starts={starts}: must be >= 2, one sample has no standard error"
        )
    if iterations < 1:
        raise ValueError(f"iterations={iterations}: must be > 0")
    multiply = krylov.flat_product(operator, like)
    rows: list[krylov.Ritz] = []
    for first in range(0, starts, block.WIDTH):
        number = min(block.WIDTH, starts - first)
        signs = block.rademacher(jax.random.fold_in(key, first), like, number)
        rows += _group(krylov.flat_vectors(signs), multiply, iterations)
    longest = max(len(row.values) for row in rows)

    def padded(row: np.ndarray, filler: float) -> np.ndarray:
        return np.pad(row, (0, longest - len(row)), constant_values=filler)

    return Density(
        np.array([padded(row.values, row.values[0]) for row in rows]),
        np.array([padded(row.weights[0] ** 2, 0.0) for row in rows]),
        np.array([padded(row.residuals, np.inf) for row in rows]),
        max(row.rounding for row in rows),
        sum(np.size(leaf) for leaf in jax.tree.leaves(like)),
        sum(len(row.values) for row in rows),
    )


def _group(
    vectors: list[jax.Array], multiply: krylov.Product, iterations: int
) -> list[krylov.Ritz]:
    """Run Lanczos from each vector, in lockstep; where a space is invariant, nothing waits to be multiplied."""
    spaces = [krylov.Krylov() for _ in vectors]
    for space, vector in zip(spaces, vectors, strict=True):
        space.append(vector, 1.0)
    for _ in range(iterations):
        krylov.advance(spaces, multiply)
    return [space.ritz() for space in spaces]


def moment(density: Density, power: int) -> Estimate:
    """Estimate tr(A^p) / n, the mean of lambda^p.

    Unbiased for p < 2 m; the error bar is the scatter over the starts.

    Args:
        density: from `lanczos_quadrature`.
        power: p.

    Raises:
        ValueError: power is below 0.
    """
    if power < 0:
        raise ValueError(f"power={power}: must be >= 0")
    return _estimate(density, _integrals(density, density.nodes**power))


def mass(density: Density, lower: float, upper: float) -> Estimate:
    """Estimate the fraction of eigenvalues in [lower, upper).

    The error bar is the scatter over the starts. What it does not hold: a quadrature knows each edge up to the
    weight of the nodes beside it (Chebyshev, Markov, Stieltjes). So put edges where no eigenvalues are.

    Args:
        density: from `lanczos_quadrature`.
        lower: included, in units of the eigenvalues; -inf for all below upper.
        upper: not included; inf for all from lower on.

    Raises:
        ValueError: lower is not below upper.
    """
    if not lower < upper:
        raise ValueError(f"lower={lower}: must be below upper={upper}")
    inside = (density.nodes >= lower) & (density.nodes < upper)
    return _estimate(density, _integrals(density, inside))


def negative(density: Density, threshold: float) -> Negative:
    """Estimate how much of the spectrum is negative, by number and by size.

    Where most eigenvalues are zero up to rounding, as in a network's Hessian, trust the share: what is nearly zero adds
    nearly nothing to it. The fraction then depends on which side of -threshold the nodes of that cluster fall; trust it
    only where twice and half the threshold give the same.

    Args:
        density: from `lanczos_quadrature`.
        threshold: eigenvalues down to -threshold count as zero in the fraction.

    Raises:
        ValueError: threshold is below 0.
    """
    if not threshold >= 0:
        raise ValueError(f"threshold={threshold}: must be >= 0")
    below = _integrals(density, density.nodes < -threshold)
    part = _integrals(density, np.maximum(-density.nodes, 0))
    whole = _integrals(density, np.abs(density.nodes))
    return Negative(
        _estimate(density, below), _estimate(density, _jackknife(part, whole))
    )


def curve(density: Density, grid: np.ndarray, width: float) -> Curve:
    """Smooth the density by a Gaussian: mean over starts of sum_i w_i N(x; theta_i, width^2).

    The band is where the smoothed density of all eigenvalues lies with 95 %, at each point by itself, from the scatter
    over the starts (`estimate.mean_interval`). It holds the chance of the starts, not the error of the quadrature: choose
    a width above the distance between nodes.

    Args:
        density: from `lanczos_quadrature`.
        grid: [points], where to evaluate.
        width: standard deviation of the Gaussian, in units of the eigenvalues.

    Raises:
        ValueError: width is not above 0.
    """
    if not width > 0:
        raise ValueError(f"width={width}: must be > 0")
    samples = np.array(
        [
            np.exp(-0.5 * ((grid[:, None] - nodes) / width) ** 2) @ weights
            for nodes, weights in zip(density.nodes, density.weights, strict=True)
        ]
    ) / (width * np.sqrt(2 * np.pi))
    return Curve(grid, samples.mean(axis=0), *estimate.mean_interval(samples))


def outliers(density: Density, *, gap: float = 0.1) -> Outliers:
    """Find the eigenvalues that stand apart from the bulk.

    An outlier is a node that in every start has converged, to one value within the residuals, and lies beyond the
    bulk. The bulk spans the middle half of all eigenvalues and the nodes that did not converge (by the median of
    the starts, so that one slow start does not matter), and then every converged node within gap x its width, until no
    more is. Eigenvalues that m steps do not resolve therefore count as bulk: more steps may find more outliers.

    Args:
        density: from `lanczos_quadrature`.
        gap: empty space between bulk and outliers, relative to the bulk's width.

    Raises:
        ValueError: gap is not above 0.
    """
    if not gap > 0:
        raise ValueError(f"gap={gap}: must be > 0")
    converged = np.array(
        [
            _converged(nodes, residuals, density.rounding)
            for nodes, residuals in zip(density.nodes, density.residuals, strict=True)
        ]
    )
    lower, upper = _core(density, converged)
    settled = density.nodes[converged]
    while True:
        reach = gap * (upper - lower) + density.rounding
        near = settled[(settled >= lower - reach) & (settled <= upper + reach)]
        wider = near.min(initial=lower), near.max(initial=upper)
        if wider == (lower, upper):
            break
        lower, upper = wider
    apart = converged & ((density.nodes < lower) | (density.nodes > upper))
    values, residuals = _agreed(density, apart)
    return Outliers(values, residuals, float(lower), float(upper))


def _converged(nodes: np.ndarray, residuals: np.ndarray, rounding: float) -> np.ndarray:
    """Say which nodes of a row stand for one eigenvalue each, by residual against the distance to the next node.

    Rounding brings up second copies of a multiple eigenvalue. A copy on its way is off by residual^2 over that distance,
    so nodes closer than CONVERGED x residual are taken together.
    """
    filled = np.isfinite(residuals)
    gaps = np.diff(nodes[filled])
    larger = np.maximum(residuals[filled][1:], residuals[filled][:-1])
    close = gaps <= np.maximum(CONVERGED * larger, rounding)
    converged = np.zeros(len(nodes), dtype=bool)
    for apart in (np.ones_like(close), ~close):
        group = np.r_[0, np.cumsum(apart)]
        edges = np.r_[np.inf, gaps[apart], np.inf]
        limit = np.maximum(CONVERGED * np.minimum(edges[:-1], edges[1:]), rounding)
        worst = np.zeros(len(limit))
        np.maximum.at(worst, group, residuals[filled])
        converged[filled] |= (worst <= limit)[group]
    return converged


def _core(density: Density, converged: np.ndarray) -> tuple[float, float]:
    """Span the middle half of all eigenvalues and, by the median of the starts, the nodes that did not converge."""
    order = np.argsort(density.nodes, axis=None)
    share = np.cumsum(density.weights.ravel()[order]) / len(density.nodes)
    middle = density.nodes.ravel()[order][np.searchsorted(share, [0.25, 0.75])]
    loose = ~converged & (density.weights > NEGLIGIBLE / density.dimension)
    lows = np.min(density.nodes, axis=1, where=loose, initial=np.inf)
    highs = np.max(density.nodes, axis=1, where=loose, initial=-np.inf)
    # Of an even number of starts the inner one of the two in the middle: with two, one may be slow.
    half = (len(lows) - 1) // 2
    inner = np.sort(lows)[::-1][half], np.sort(highs)[half]
    return min(middle[0], inner[0]), max(middle[1], inner[1])


def _agreed(density: Density, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join nodes whose intervals overlap; of groups with a node of every start keep the node of least residual."""
    starts, _ = np.nonzero(chosen)
    order = np.argsort(density.nodes[chosen])
    starts, nodes = starts[order], density.nodes[chosen][order]
    residuals = density.residuals[chosen][order]
    reach = residuals + density.rounding
    ends = np.maximum.accumulate(nodes + reach)
    cuts = 1 + np.flatnonzero((nodes - reach)[1:] > ends[:-1])
    best = [
        group[np.argmin(residuals[group])]
        for group in np.split(np.arange(len(nodes)), cuts)
        if len(set(starts[group])) == len(density.nodes)
    ]
    return nodes[best], residuals[best]


def _integrals(density: Density, values: np.ndarray) -> np.ndarray:
    """Return each start's quadrature of a function that has these values at the nodes."""
    return (density.weights * values).sum(axis=1)


def _estimate(density: Density, samples: np.ndarray) -> Estimate:
    return estimate.from_samples(samples, density.num_matvecs, "budget")


def _jackknife(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return the pseudo-values of mean(part) / mean(whole): their mean is the ratio with its first-order bias removed."""
    number = len(part)
    ratio = _ratio(part.sum(), whole.sum())
    without = _ratio(part.sum() - part, whole.sum() - whole)
    return number * ratio - (number - 1) * without


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; where there is nothing, nothing is negative."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
