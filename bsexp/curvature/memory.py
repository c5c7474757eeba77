"""How much memory a Hessian-vector product takes, read from the compiled programs, and the chunk size that fits."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial

from bsexp.curvature import mean, operator

Pytree = Any


def peak_bytes(
    loss: operator.Loss, x: Pytree, chunk: Pytree, vectors: int, *, kept: int = 1
) -> int:
    """Predict the peak memory of a Hessian operator applied to a block, data and parameters included.

    Nothing is run: the programs are compiled for the shapes and asked for their memory.

    Args:
        loss: (x, batch) -> scalar.
        x: the point, or its shapes and dtypes.
        chunk: the largest chunk, or its shapes and dtypes; the other chunks of the data set come on top.
        vectors: k, vectors of a block.
        kept: chunks whose linearisation is kept, see `operator.objective`; 1 where none is.

    Returns:
        Bytes on one device.
    """
    linearisation, making, applying = _chunk_bytes(loss, x, chunk)
    vector = operator.bytes_of(x)
    block = vectors * vector
    # The block itself, and beside the linearisations: what making one takes; or the single vectors, their images so
    # far, the newest image and what computing it takes; or at the end vectors, images and the block of images.
    working = max(making, 2 * block + vector + applying, 3 * block)
    return vector + operator.bytes_of(chunk) + block + kept * linearisation + working


def chunk_size(
    loss: operator.Loss,
    x: Pytree,
    data: Pytree,
    limit: int,
    *,
    vectors: int = 1,
    kept_bytes: int = operator.KEPT_BYTES,
) -> int:
    """Find the most examples of a chunk with which a block's product stays within a memory limit.

    The memory of a program grows linearly with its examples: two compilations give the line. The linearisations of all
    chunks count where the operator keeps them: with ``kept_bytes=0``, here and there, less memory is enough.

    Args:
        loss: (x, batch) -> scalar.
        x: the point.
        data: the whole data set, a pytree of arrays [N, ...]; it is on the device all the time.
        limit: bytes.
        vectors: k, vectors of a block.
        kept_bytes: as given to `operator.objective`.

    Raises:
        ValueError: no chunk size fits.
    """
    total = jax.tree.leaves(data)[0].shape[0]
    few, many = (_shapes(data, min(total, size)) for size in (8, 64))
    one = _line(few, many, functools.partial(linearisation_bytes, loss, x))
    rest = _line(few, many, lambda chunk: peak_bytes(loss, x, chunk, vectors, kept=0))
    held = operator.bytes_of(data)

    def needed(size: int) -> float:
        chunks = -(-total // size)
        kept = chunks if chunks * one(size) <= kept_bytes else 1
        return held + kept * one(size) + rest(size)

    for size in range(total, 0, -1):
        if needed(size) <= limit:
            return size
    least = min(map(needed, range(1, total + 1)))
    raise ValueError(f"limit={limit}: no chunk size needs less than {least:.0f} bytes")


def linearisation_bytes(loss: operator.Loss, x: Pytree, chunk: Pytree) -> int:
    """Return what a Hessian operator keeps of a chunk, its linearised gradient.

    Nothing is compiled or run; what making and applying it take beside it is for `peak_bytes` to say.

    Args:
        loss: (x, batch) -> scalar.
        x: the point, or its shapes and dtypes.
        chunk: the chunk, or its shapes and dtypes.

    Returns:
        Bytes on one device.
    """
    return operator.bytes_of(_linearisation(_gradient(loss), x, chunk))


def _gradient(loss: operator.Loss) -> Partial:
    return Partial(operator.gradient, operator.as_partial(loss))


def _linearisation(field: Partial, x: Pytree, chunk: Pytree) -> Pytree:
    """Return the shapes and dtypes of a chunk's linearised gradient."""
    linearise = functools.partial(mean.called, operator.linearise)
    return jax.eval_shape(linearise, chunk, field, x)


def _chunk_bytes(loss: operator.Loss, x: Pytree, chunk: Pytree) -> tuple[int, int, int]:
    """Return the bytes of one chunk's linearisation, and what making it and applying it take beside it."""
    field = _gradient(loss)
    making = mean.called.lower(operator.linearise, chunk, field, x)
    linear = _linearisation(field, x, chunk)
    applying = mean.called.lower(operator.apply, linear, x)
    return (
        operator.bytes_of(linear),
        making.compile().memory_analysis().temp_size_in_bytes,
        applying.compile().memory_analysis().temp_size_in_bytes,
    )


def _line(
    few: Pytree, many: Pytree, count: Callable[[Pytree], int]
) -> Callable[[int], float]:
    """Return the line of a count against the number of examples, through two chunks."""
    first, second = (jax.tree.leaves(chunk)[0].shape[0] for chunk in (few, many))
    low, high = count(few), count(many)
    slope = (high - low) / (second - first) if second > first else 0.0
    return lambda size: low + slope * (size - first)


def _shapes(data: Pytree, size: int) -> Pytree:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), data
    )
