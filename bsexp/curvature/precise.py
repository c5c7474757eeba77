"""Products of matrices in the precision of their numbers.

By default an accelerator rounds the factors to 10 bits (TF32) or 7 (bfloat16), which would lose the orthogonality of a basis
and bend a function measured over a distance of 1e-4.
"""

import functools

import jax
import jax.numpy as jnp

matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
