import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bsexp.curvature import memory, operator

X = {"a": jnp.zeros((50, 400)), "b": jnp.zeros((400, 10))}
DATA = np.zeros((600, 50), np.float32)


def loss(x, batch):
    return (jnp.tanh(batch @ x["a"]) @ x["b"]).sum(axis=1).mean()


def test_a_chunk_takes_its_activations_and_a_block_its_copies():
    """A block, its single vectors and their images, and at the end the block of images."""
    parameters = 4 * sum(leaf.size for leaf in jax.tree.leaves(X))
    small, large, block = (
        memory.peak_bytes(loss, X, DATA[:size], vectors)
        for size, vectors in ((100, 10), (200, 10), (100, 14))
    )
    assert block - small == 4 * 4 * parameters
    # At least what a product needs of each example: its input, and the hidden units of two passes.
    assert large - small >= 100 * 4 * (50 + 2 * 400)
    assert small >= (1 + 4 * 10) * parameters


def test_shapes_are_enough():
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), X)
    chunk = jax.ShapeDtypeStruct((100, 50), jnp.float32)
    assert memory.peak_bytes(loss, shapes, chunk, 2) == memory.peak_bytes(
        loss, X, DATA[:100], 2
    )


def test_a_linearisation_is_as_large_as_it_was_said_to_be():
    said = memory.linearisation_bytes(loss, X, DATA[:100])
    field = Partial(operator.gradient, Partial(loss))
    made = jax.jit(operator.linearise)(DATA[:100], field, X)
    assert said == operator.bytes_of(made)


def test_the_chunk_size_is_the_largest_that_fits():
    rest = DATA.nbytes
    whole = memory.peak_bytes(loss, X, DATA, 2)
    assert memory.chunk_size(loss, X, DATA, 2 * whole, vectors=2) == len(DATA)
    limit = rest + memory.peak_bytes(loss, X, DATA[:150], 2)
    size = memory.chunk_size(loss, X, DATA, limit, vectors=2, kept_bytes=0)
    # The line through two small sizes misses what the compiler rounds up.
    assert 135 <= size <= 165


def test_the_linearisations_that_an_operator_keeps_are_reckoned_with():
    """Of two chunks it keeps two; each holds the weights as well, so that more and smaller chunks take more."""
    half = DATA[:300]
    kept, made = (
        DATA.nbytes + memory.peak_bytes(loss, X, half, 2, kept=number)
        for number in (2, 1)
    )
    assert 270 <= memory.chunk_size(loss, X, DATA, kept, vectors=2) <= 330
    with pytest.raises(ValueError, match=f"limit={made}: no chunk size needs less"):
        memory.chunk_size(loss, X, DATA, made, vectors=2)
    size = memory.chunk_size(loss, X, DATA, made, vectors=2, kept_bytes=0)
    assert 270 <= size <= 330


def test_a_limit_below_one_example_is_refused():
    with pytest.raises(ValueError, match="limit=1000: no chunk size needs less than"):
        memory.chunk_size(loss, X, DATA, 1_000)
