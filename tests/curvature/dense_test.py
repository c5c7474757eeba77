"""Everything that is found through products, against the dense Hessian of small networks in double precision."""

import functools

import jax
import numpy as np
import pytest
from curvature import networks

from bsexp.curvature import composite, density, lanczos, operator, selection, trace

pytestmark = pytest.mark.usefixtures("float64")


@functools.cache
def found(network):
    """The case, its objective, its dense Hessian and that one's eigenvalues."""
    case = networks.case(network)
    size = networks.EXAMPLES if network == "batch" else 8
    chunks = operator.split(case.data, size)
    hessian = np.asarray(networks.hessian(case))
    objective = composite.composite(case.predict, case.criterion, chunks)
    return case, objective, hessian, np.linalg.eigvalsh(hessian)


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_eigenvalues_at_both_ends_are_the_dense_ones(network):
    case, objective, hessian, values = found(network)
    for which, expected in (
        ("largest", values[::-1][:3]),
        ("smallest", values[:3]),
        ("magnitude", values[np.argsort(-np.abs(values))][:3]),
    ):
        pairs = lanczos.eigenpairs(
            objective.hessian(case.x),
            case.x,
            jax.random.key(0),
            3,
            which=which,
            iterations=60,
            tolerance=1e-9,
        )
        assert pairs.converged.all()
        np.testing.assert_allclose(pairs.values, expected, rtol=1e-6)
        vectors = np.asarray(jax.vmap(networks.flat)(pairs.vectors))
        images = vectors @ hessian
        np.testing.assert_allclose(
            images, pairs.values[:, None] * vectors, atol=1e-6 * values[-1]
        )


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_trace_layers_diagonal_and_square_are_the_dense_ones(network):
    """As many Rademacher vectors as make five standard errors a few per cent: what a wrong factor cannot pass."""
    case, objective, hessian, values = found(network)
    control = network != "batch"
    got = trace.hutchinson(
        (objective.residual if control else objective.hessian)(case.x),
        case.x,
        jax.random.key(1),
        600,
        control=objective.gauss_newton_diagonal(case.x) if control else None,
    )
    truth = np.diag(hessian)
    assert abs(got.value - truth.sum()) <= 5 * got.stderr
    assert got.stderr < 0.05 * np.abs(truth).sum()
    sizes = [leaf.size for leaf in jax.tree.leaves(case.x)]
    parts = np.split(truth, np.cumsum(sizes)[:-1])
    for path, part in zip(selection.paths(case.x), parts, strict=True):
        layer = got.layers[path]
        assert abs(layer.value - part.sum()) <= 5 * layer.stderr + 1e-12
    deviation = np.abs(networks.flat(got.diagonal) - truth)
    assert (
        deviation <= 6 * np.asarray(networks.flat(got.diagonal_stderr)) + 1e-12
    ).all()
    if not control:
        assert abs(got.square.value - np.sum(values**2)) <= 5 * got.square.stderr


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_moments_of_the_density_are_those_of_the_dense_spectrum(network):
    case, objective, _, values = found(network)
    spectrum = density.lanczos_quadrature(
        objective.hessian(case.x),
        case.x,
        jax.random.key(2),
        starts=60,
        iterations=12,
    )
    for power in (1, 2, 3, 4):
        moment = density.moment(spectrum, power)
        truth = np.mean(values**power)
        assert abs(moment.value - truth) <= 5 * moment.stderr
        assert moment.stderr < 0.3 * np.mean(np.abs(values) ** power)
