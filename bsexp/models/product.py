"""The product of a dense layer, with a derivative that is fast for small batches on a CPU."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from bsexp.models import bilinear

# By rows, two runs of F1 side by side take 0.93 of the time of an update at B = 16, 0.91 at 32, 0.96 at 64, 1.00 at 128.
MOST_EXAMPLES = 64


def product(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return inputs @ kernel, on a CPU for few examples by `by_rows`.

    Args:
        inputs: [b, d].
        kernel: [d, features].

    Returns:
        [b, features].
    """
    few = 1 < len(inputs) <= MOST_EXAMPLES
    form = by_rows if few and jax.default_backend() == "cpu" else jnp.matmul
    return form(inputs, kernel)


@jax.custom_jvp
def by_rows(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return inputs @ kernel, whose derivative by the inputs reads the kernel row by row, as it lies in memory.

    The derivative v @ kernel^T has the compiler turn the kernel round first, which for few rows of v takes half as long as
    the product; as (kernel @ v^T)^T it turns v.
    """
    return inputs @ kernel


@functools.partial(by_rows.defjvp, symbolic_zeros=True)
def _by_rows_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]
) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = primals
    outputs = by_rows(inputs, kernel)

    def of_inputs(move: jax.Array) -> jax.Array:
        # The compiler would put the factors back into their order; it does not look through a barrier.
        return (kernel.T @ jax.lax.optimization_barrier(move.T)).T

    return outputs, bilinear.moved(
        outputs, tangents, of_inputs, lambda move: inputs @ move
    )
