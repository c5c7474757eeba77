"""The derivative of a function that is linear in its inputs and in its kernel, part by part."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


def moved(
    outputs: jax.Array,
    tangents: tuple[Any, Any],
    by_inputs: Callable[[jax.Array], jax.Array],
    by_kernel: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Return by how much the outputs move with inputs and kernel, by a form for each; what stands still is not computed.

    Args:
        outputs: of which only shape and dtype count.
        tangents: of inputs and kernel, as `jax.custom_jvp` gives them with symbolic zeros.
        by_inputs: move of the inputs -> move of the outputs.
        by_kernel: move of the kernel -> move of the outputs.
    """
    moves = [
        form(tangent)
        for form, tangent in zip((by_inputs, by_kernel), tangents, strict=True)
        if not isinstance(tangent, SymbolicZero)
    ]
    return sum(moves, start=jnp.zeros_like(outputs))
