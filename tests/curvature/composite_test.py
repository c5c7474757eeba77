"""Gauss-Newton, Fisher and residual operators against dense matrices in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curvature import networks
from hypothesis import given, settings
from hypothesis import strategies as st

from bsexp.curvature import composite, operator

pytestmark = pytest.mark.usefixtures("float64")
CASES = [
    (network, criterion)
    for network in networks.NETWORKS
    for criterion in ("cross_entropy", "squared_error")
]


def built(network, criterion="cross_entropy", size=8, **more):
    case = networks.case(network, criterion)
    chunks = operator.split(case.data, size)
    return case, composite.composite(case.predict, case.criterion, chunks, **more)


def outer_products(case, matrices):
    """Return mean_b J_b^T M_b J_b from the dense Jacobian of the outputs."""
    jacobian = networks.jacobian(case)
    return jnp.einsum("bci,bcd,bdj->ij", jacobian, matrices, jacobian) / len(jacobian)


def hessians_of_the_criterion(case):
    outputs = case.predict(case.x, case.data[0])
    return jax.jit(jax.vmap(jax.hessian(case.criterion.loss)))(outputs, case.data[1])


@pytest.mark.parametrize(("network", "criterion"), CASES)
def test_hessian_gauss_newton_and_residual_are_the_dense_ones(network, criterion):
    case = networks.case(network, criterion)
    # With the statistics of a batch a chunk is a batch: one chunk then.
    chunks = operator.split(case.data, 100 if network == "batch" else 8)
    found = composite.composite(case.predict, case.criterion, chunks)
    hessian = networks.hessian(case)
    gauss_newton = outer_products(case, hessians_of_the_criterion(case))
    scale = np.abs(hessian).max()
    for product, expected in (
        (found.hessian(case.x), hessian),
        (found.gauss_newton(case.x), gauss_newton),
        (found.fisher(case.x), gauss_newton),
        (found.residual(case.x), hessian - gauss_newton),
    ):
        got = networks.columns(product, case.x)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(found.value(case.x), case.loss(case.x, case.data))


def test_the_exact_fisher_is_the_expected_outer_product_over_classes():
    """sum_c p_c g_c g_c^T with g_c the gradient at target c: the definition."""
    case, found = built("dense")
    outputs = case.predict(case.x, case.data[0])
    slopes = jax.vmap(
        lambda z: jax.vmap(lambda c: jax.grad(case.criterion.loss)(z, c))(
            jnp.arange(len(z))
        )
    )(outputs)
    weights = jax.nn.softmax(outputs)
    expected = outer_products(
        case, jnp.einsum("bk,bkc,bkd->bcd", weights, slopes, slopes)
    )
    got = networks.columns(found.fisher(case.x), case.x)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_the_empirical_fisher_is_the_mean_outer_product_of_the_gradients():
    case, found = built("dense")
    gradients = networks.per_example_gradients(case)
    got = networks.columns(found.empirical_fisher(case.x), case.x)
    expected = gradients.T @ gradients / len(gradients)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("criterion", ["cross_entropy", "squared_error"])
def test_the_sampled_fisher_tends_to_the_exact_one_as_one_over_root_samples(criterion):
    case, found = built("dense", criterion)
    exact = networks.columns(found.fisher(case.x), case.x)
    errors = []
    for samples in (100, 10_000):
        product = found.sampled_fisher(case.x, jax.random.key(0), samples)
        sampled = networks.columns(product, case.x)
        errors.append(np.linalg.norm(sampled - exact) / np.linalg.norm(exact))
    assert errors[0] < 0.5
    assert errors[1] < 0.2 * errors[0], "ten times smaller but for luck"


def test_the_sampled_fisher_draws_the_same_targets_whatever_the_chunks():
    case, found = built("dense")
    _, other = built("dense", size=12)
    first, second = (
        networks.columns(each.sampled_fisher(case.x, jax.random.key(1), 3), case.x)
        for each in (found, other)
    )
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "criterion"), [case for case in CASES if case[0] != "batch"]
)
def test_the_diagonal_of_gauss_newton_is_exact(network, criterion):
    case, found = built(network, criterion)
    expected = jnp.diag(outer_products(case, hessians_of_the_criterion(case)))
    got = networks.flat(found.gauss_newton_diagonal(case.x))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12 * expected.max())


def test_the_diagonal_refuses_outputs_that_depend_on_other_examples():
    case, found = built("batch", size=100)
    with pytest.raises(ValueError, match="predict: the outputs of an example depend"):
        found.gauss_newton_diagonal(case.x)


@given(st.permutations(range(networks.EXAMPLES)), st.integers(1, networks.EXAMPLES))
@settings(max_examples=3, deadline=None)
def test_order_and_chunks_do_not_matter(order, size):
    with jax.enable_x64(True):
        case, found = built("dense", size=100)
        shuffled = jax.tree.map(lambda leaf: leaf[jnp.asarray(order)], case.data)
        other = composite.composite(
            case.predict, case.criterion, operator.split(shuffled, size)
        )
        for name in ("gauss_newton", "residual", "empirical_fisher"):
            vectors = networks.some_vectors(case.x, 2)
            np.testing.assert_allclose(
                networks.flat(getattr(other, name)(case.x)(vectors)),
                networks.flat(getattr(found, name)(case.x)(vectors)),
                rtol=1e-9,
                atol=1e-12,
            )
        np.testing.assert_allclose(
            networks.flat(other.gauss_newton_diagonal(case.x)),
            networks.flat(found.gauss_newton_diagonal(case.x)),
            rtol=1e-9,
            atol=1e-14,
        )


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_label_that_is_no_class_makes_no_loss(shift):
    """Indexing would wrap or clamp it, and give the loss of another class."""
    case = networks.case("dense", "cross_entropy")
    inputs, labels = case.data
    wrong = operator.split((inputs, labels + shift), 8)
    found = composite.composite(case.predict, case.criterion, wrong)
    assert np.isnan(found.value(case.x))


def test_bad_input_is_named():
    case, found = built("dense")
    broken = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), case.x)
    for call, message in (
        (lambda: found.hessian(broken), "x: holds a number that is not finite"),
        (lambda: found.gauss_newton(broken), "x: holds a number that is not finite"),
        (lambda: found.gauss_newton_diagonal(broken), "predict: .* not finite"),
        (
            lambda: found.sampled_fisher(case.x, jax.random.key(0), 0),
            "samples=0: must be > 0",
        ),
        (lambda: built("dense", accumulation="exact"), "accumulation='exact': must be"),
        (lambda: found.hessian(case.x)(case.x), "vectors: must be like x"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
