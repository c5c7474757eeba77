"""Dropout with a key for each example, so that a mask does not depend on how the examples are batched."""

import jax
import jax.numpy as jnp


def dropout(
    inputs: jax.Array, keys: jax.Array | None, rate: float, layer: int
) -> jax.Array:
    """Set entries to zero with probability ``rate`` and divide the others by 1 - rate.

    Args:
        inputs: [b, ...].
        keys: typed random keys [b], one per example; None leaves the inputs as they are.
        rate: probability, in [0, 1).
        layer: number of this dropout layer in the network: the mask of example i comes from fold_in(keys[i], layer).

    Source: Srivastava et al. 2014, Journal of Machine Learning Research 15, 1929-1958.
    """
    if keys is None:
        return inputs

    def mask(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(
            jax.random.fold_in(key, layer), 1 - rate, inputs.shape[1:]
        )

    return jnp.where(jax.vmap(mask)(keys), inputs / (1 - rate), 0)
