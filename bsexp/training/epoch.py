"""Many updates in one dispatch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bsexp.training import engine, feed, gradient, step
from bsexp.training.division import Division

Chunk = Callable[..., tuple[step.State, step.Sums]]


def make_chunk(
    mesh_engine: engine.Engine,
    recipe: step.Recipe,
    division: Division,
    source: feed.Source,
) -> Chunk:
    """Make the program that runs steps ``first`` to ``last`` - 1 of an epoch, for every member.

    Its arguments are the states (donated: the caller's are gone) and seeds, spread over the members; ``own`` and
    ``shared`` of a `feed.Portion`; and the epoch and the two step numbers, numpy int32 scalars. It returns the states
    and their sums once more, since the sums inside the states are donated to the next call and could not be read after it.

    The loop has a traced length, so one compiled program serves every length, and the numbers are the same to the
    bit however an epoch is cut into calls. Where the recipe is not rolled a call is one update, ``first``.
    """
    update = step.make(recipe, division)

    def augmented(
        inputs: jax.Array, seed: jax.Array, number: jax.Array, places: jax.Array
    ) -> jax.Array:
        if recipe.augment is None:
            return inputs
        keys = step.example_keys(seed, step.AUGMENTATION, number, places)
        image = inputs.shape[places.ndim :]
        seen = recipe.augment(inputs.reshape(-1, *image), keys.ravel())
        return seen.reshape(inputs.shape)

    def chunk(
        state: step.State,
        seed: jax.Array,
        own: Any,
        shared: Any,
        number: jax.Array,
        first: jax.Array,
        last: jax.Array,
    ) -> tuple[step.State, step.Sums]:
        sums = jax.tree.map(
            lambda old, new: jnp.where(first == 0, new, old), state.sums, step.no_sums()
        )
        positions = division.positions()

        def body(i: jax.Array, state: step.State) -> step.State:
            inputs, wanted = source.find(own, shared, i, division)
            places = i * division.batch + positions
            inputs = augmented(inputs, seed, number, places)
            keys = step.example_keys(seed, step.DROPOUT, state.step, positions)
            return update(state, gradient.Batch(inputs, wanted, keys))

        state = state._replace(sums=sums)
        if recipe.rolled:
            state = jax.lax.fori_loop(first, last, body, state)
        else:
            state = body(first, state)
        return state, jax.tree.map(jnp.copy, state.sums)

    return mesh_engine.program(
        engine.by_member(chunk, shared=4),
        spread=3 - source.divided,
        divided=int(source.divided),
        donate=True,
    )
