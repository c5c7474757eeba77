"""The order of the examples and the batches cut from it: pure functions of (seed, epoch, step).

Nothing is kept between steps, so that a run that resumes sees the batches it would have seen.
"""

import jax
import jax.numpy as jnp


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Return floor(N / B), the updates of one epoch.

    The last N mod B examples of an epoch's order are left out; another epoch leaves out others.

    Raises:
        ValueError: B is not in 1..N.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch size {batch_size} is not between 1 and the {num_examples} examples"
        )
    return num_examples // batch_size


def epoch_order(
    seed_key: jax.Array, epoch: jax.typing.ArrayLike, num_examples: int
) -> jax.Array:
    """Return the order of one epoch: permutation(fold_in(seed_key, epoch), N).

    Args:
        seed_key: a scalar key, the same for the whole run.
        epoch: counted from 0; may be traced.
        num_examples: N, static under jit.

    Returns:
        int32 [N], a permutation of 0..N-1. Sorts N numbers: draw it once per epoch, not per step.
    """
    return jax.random.permutation(
        jax.random.fold_in(seed_key, epoch), jnp.arange(num_examples, dtype=jnp.int32)
    )


def batch_indices(
    order: jax.Array, step_in_epoch: jax.typing.ArrayLike, batch_size: int
) -> jax.Array:
    """Return order[B s : B (s + 1)], int32 [B], for step s of the epoch.

    Args:
        order: int32 [N], from ``epoch_order``.
        step_in_epoch: s, from 0 to ``steps_per_epoch`` - 1; may be traced. A larger s is wrong and
            raises nothing: XLA moves the slice back inside the array.
        batch_size: B, static under jit.
    """
    return jax.lax.dynamic_slice_in_dim(order, step_in_epoch * batch_size, batch_size)


def gather(
    images: jax.Array, labels: jax.Array, indices: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the examples at ``indices``, inputs as by ``scale``, float32 [B, ...], and labels, int32 [B].

    Args:
        images: uint8 [N, H, W, C], or float32 [N, ...]. Under jit pass it as an argument: a closed-over array becomes a
            constant of the program.
        labels: int [N].
        indices: int32 [B], each in 0..N-1.
    """
    return scale(images[indices]), labels[indices].astype(jnp.int32)


def scale(images: jax.Array) -> jax.Array:
    """Return images / 255, float32 in [0, 1], from uint8 of any shape; features, floats of any width, as they are, float32."""
    inputs = images.astype(jnp.float32)
    return inputs if jnp.issubdtype(images.dtype, jnp.floating) else inputs / 255
