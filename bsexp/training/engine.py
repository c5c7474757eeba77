"""Many updates in one dispatch, over a data set that stays on the device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from bsexp import models
from bsexp.data import batches
from bsexp.training import step

Chunk = Callable[..., tuple[step.State, step.Sums]]


def make_chunk(
    model: models.Model, optimizer: optax.GradientTransformation, batch_size: int
) -> Chunk:
    """Make the program that runs steps ``first`` to ``last`` - 1 of an epoch.

    Its arguments are the state (donated: the caller's is gone), images [N, ...] uint8, labels [N], the epoch's
    order [N] and the two step numbers, int32 scalars. It returns the state and its sums once more, since the
    sums inside the state are donated to the next call and could not be read after it.

    The loop has a traced length, so one compiled program serves every length, and the numbers are the same to the
    bit however an epoch is cut into calls.
    """
    update = step.make(model, optimizer)

    def chunk(
        state: step.State,
        images: jax.Array,
        labels: jax.Array,
        order: jax.Array,
        first: jax.Array,
        last: jax.Array,
    ) -> tuple[step.State, step.Sums]:
        sums = jax.tree.map(
            lambda old, new: jnp.where(first == 0, new, old), state.sums, step.no_sums()
        )

        def body(i: jax.Array, state: step.State) -> step.State:
            return update(
                state,
                *batches.gather(
                    images, labels, batches.batch_indices(order, i, batch_size)
                ),
            )

        state = jax.lax.fori_loop(first, last, body, state._replace(sums=sums))
        return state, jax.tree.map(jnp.copy, state.sums)

    return jax.jit(chunk, donate_argnums=0)
