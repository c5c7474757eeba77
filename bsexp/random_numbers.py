"""One kind of random numbers and one width of floats, whatever the environment asks JAX for: a run's name does not hold them."""

import jax


def pin() -> None:
    """Let JAX draw by Threefry, each number by its place alone, and compute in float32; call it before anything is drawn.

    With $JAX_DEFAULT_PRNG_IMPL=rbg or $JAX_THREEFRY_PARTITIONABLE=0 a run of the same name would start elsewhere, with
    $JAX_ENABLE_X64=1 it would round otherwise.
    """
    jax.config.update("jax_default_prng_impl", "threefry2x32")
    jax.config.update("jax_threefry_partitionable", True)
    jax.config.update("jax_enable_x64", False)
