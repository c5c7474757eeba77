import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from bsexp.curvature import mean, operator

pytestmark = pytest.mark.usefixtures("float64")
EXAMPLES = 23


def data(seed=0):
    generator = np.random.default_rng(seed)
    inputs = jnp.asarray(generator.normal(size=(EXAMPLES, 4)))
    return inputs, jnp.asarray(generator.integers(0, 3, EXAMPLES))


def point(seed=1):
    generator = np.random.default_rng(seed)
    return {
        "first": jnp.asarray(generator.normal(size=(4, 5))),
        "second": jnp.asarray(generator.normal(size=(5, 3))),
    }


def loss(x, batch):
    inputs, labels = batch
    logits = jnp.tanh(inputs @ x["first"]) @ x["second"]
    return -jnp.take_along_axis(
        jax.nn.log_softmax(logits), labels[:, None], axis=1
    ).mean()


@jax.jit
def dense(x):
    """Loss, gradient and Hessian over the whole data set at once."""
    flat, unravel = ravel_pytree(x)
    whole = lambda vector: loss(unravel(vector), data())  # noqa: E731
    return whole(flat), jax.grad(whole)(flat), jax.hessian(whole)(flat)


@pytest.mark.parametrize("size", [1, 4, 5, 22, 23, 100])
def test_value_gradient_and_hessian_are_those_of_the_whole_whatever_the_chunk_size(
    size,
):
    found = operator.objective(loss, operator.split(data(), size))
    value, gradient, hessian = dense(point())
    assert found.examples == EXAMPLES
    np.testing.assert_allclose(found.value(point()), value, rtol=1e-12)
    got, slope = found.value_and_gradient(point())
    np.testing.assert_allclose(got, value, rtol=1e-12)
    np.testing.assert_allclose(ravel_pytree(slope)[0], gradient, rtol=1e-10, atol=1e-14)
    _, unravel = ravel_pytree(point())
    identity = jax.vmap(unravel)(jnp.eye(hessian.shape[0]))
    columns = jax.vmap(lambda tree: ravel_pytree(tree)[0])(
        found.hessian(point())(identity)
    )
    np.testing.assert_allclose(columns, hessian, rtol=1e-10, atol=1e-13)


def test_the_hessian_is_the_same_whether_its_linearisation_is_kept_or_made_anew(
    monkeypatch,
):
    made = []
    run = mean.OneDevice.run

    def counted(function, *arguments):
        made.append(function is operator.linearise)
        return run(function, *arguments)

    monkeypatch.setattr(mean.OneDevice, "run", staticmethod(counted))
    block = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), point(2))

    def products(**options):
        made.clear()
        found = operator.objective(loss, operator.split(data(), 10), **options)
        product = found.hessian(point())
        return product(block), product(block), sum(made)

    *kept, kept_made = products()
    *anew, anew_made = products(kept_bytes=0)
    # Three chunks, linearised once or for each of two blocks; the first one's size is asked before.
    assert (kept_made, anew_made) == (1 + 3, 1 + 6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15),
        kept,
        anew,
    )


def test_a_block_of_one_is_the_same_as_that_vector_in_a_larger_block():
    found = operator.objective(loss, operator.split(data(), 10))
    block = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), point(2))
    together = found.hessian(point())(block)
    alone = found.hessian(point())(jax.tree.map(lambda leaf: leaf[:1], block))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[:1], b, rtol=1e-12), together, alone
    )


@given(st.integers(0, 1_000), st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_the_hessian_is_linear_and_symmetric(seed, a, b):
    with jax.enable_x64(True):
        found = operator.objective(loss, operator.split(data(), 7))

        def product(tree):
            return found.hessian(point())(jax.tree.map(lambda leaf: leaf[None], tree))

        u, v = point(seed), point(seed + 1)
        mixed = ravel_pytree(product(jax.tree.map(lambda p, q: a * p + b * q, u, v)))[0]
        hu, hv = ravel_pytree(product(u))[0], ravel_pytree(product(v))[0]
        np.testing.assert_allclose(mixed, a * hu + b * hv, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(
            ravel_pytree(v)[0] @ hu, ravel_pytree(u)[0] @ hv, rtol=1e-9, atol=1e-11
        )


@given(st.permutations(range(EXAMPLES)), st.integers(1, EXAMPLES))
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_examples_does_not_matter(order, size):
    with jax.enable_x64(True):
        shuffled = jax.tree.map(lambda leaf: leaf[jnp.asarray(order)], data())
        found = operator.objective(loss, operator.split(shuffled, size))
        np.testing.assert_allclose(
            found.value(point()), loss(point(), data()), rtol=1e-12
        )


def test_a_preconditioned_operator_is_the_matrix_between_two_roots():
    found = operator.objective(loss, operator.split(data(), 10))
    _, _, hessian = dense(point())
    diagonal = jax.tree.map(lambda leaf: 0.1 + leaf**2, point(3))
    root = np.sqrt(ravel_pytree(diagonal)[0])
    product = operator.preconditioned(found.hessian(point()), diagonal)
    vector = point(4)
    image = product(jax.tree.map(lambda leaf: leaf[None], vector))
    expected = hessian @ (ravel_pytree(vector)[0] / root) / root
    np.testing.assert_allclose(ravel_pytree(image)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("entry", [0.0, -1.0, np.nan, np.inf])
def test_a_preconditioner_that_is_not_positive_is_refused(entry):
    diagonal = jax.tree.map(jnp.ones_like, point())
    diagonal["first"] = diagonal["first"].at[0, 0].set(entry)
    with pytest.raises(ValueError, match="diagonal: every entry must be finite and"):
        operator.preconditioned(lambda block: block, diagonal)


@given(st.integers(1, 500), st.integers(1, 600))
@settings(max_examples=100, deadline=None)
def test_chunks_hold_every_example_once_and_differ_by_one_at_most(total, size):
    chunks = operator.split(np.arange(total), size)
    assert np.concatenate(chunks).tolist() == list(range(total))
    lengths = [len(chunk) for chunk in chunks]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(chunks) == -(-total // size)


def test_arrays_that_a_loss_carries_do_not_make_it_compile_again():
    traced = []

    def carried(scale, x, batch):
        traced.append(1)
        return scale * loss(x, batch)

    function = jax.tree_util.Partial(carried, jnp.float64(2.0))
    first = operator.objective(function, operator.split(data(), 23)).value(point())
    other = jax.tree_util.Partial(carried, jnp.float64(6.0))
    second = operator.objective(other, operator.split(data(), 23)).value(point())
    np.testing.assert_allclose(second, 3 * first, rtol=1e-12)
    assert len(traced) == 1


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: operator.split(np.zeros((0, 2)), 3), "data: "),
        (lambda: operator.split((np.zeros(3), np.zeros(4)), 3), "data: "),
        (lambda: operator.split(np.zeros(3), 0), "size=0: must be > 0"),
        (lambda: operator.objective(loss, []), "chunks: must hold at least one"),
    ],
)
def test_bad_input_is_named(broken, message):
    with pytest.raises(ValueError, match=message):
        broken()
