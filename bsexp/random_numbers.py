"""One kind of random numbers, whatever the environment asks JAX for: they decide a run's numbers, and its name does not hold them."""

import jax


def pin() -> None:
    """Let JAX draw by Threefry, each number by its place alone; call it before anything is drawn.

    With $JAX_DEFAULT_PRNG_IMPL=rbg or $JAX_THREEFRY_PARTITIONABLE=0 a run of the same name would start elsewhere.
    """
    jax.config.update("jax_default_prng_impl", "threefry2x32")
    jax.config.update("jax_threefry_partitionable", True)
