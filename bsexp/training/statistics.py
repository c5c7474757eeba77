"""Precise batch norm: its averages over the whole training set, at weights that no longer move."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from bsexp import models
from bsexp.data import batches
from bsexp.data.sources import Examples
from bsexp.training import engine, evaluation, step
from bsexp.training.reduction import DATA

Pytree = Any
# Examples that a device normalises at once, where its ghost batches are not larger.
CHUNK = 1_000


class _Part(NamedTuple):
    """Ghost batches of one size, equally many for each device.

    Attributes:
        places: of the examples in the order, int32 [ghost batches, size].
        weights: examples of each ghost batch, or 0 where it is a copy that fills up the devices.
    """

    places: np.ndarray
    weights: np.ndarray


def recompute(
    mesh_engine: engine.Engine,
    recipe: step.Recipe,
    examples: Examples,
    ghost: int,
    state: Any,
    seeds: Any,
) -> list[Pytree]:
    """Return every member's batch-norm statistics over the training set, at the weights of its state.

    The examples, in a random order that is the same for all runs, are divided into about N / g ghost batches whose sizes
    differ by one at most: each example counts once, and no batch is a short one. Every layer normalises by its ghost
    batch's own mean and variance, as while training, and those of all examples are put together from them. Images are
    augmented, by keys of (seed, updates done, place in the order), since so are those that the network was trained on;
    nothing is dropped out. It is the float32 network, which is the one that is measured. The devices, the momentum and
    the averages gathered so far have no part in it.

    Not for a ghost batch that fits on no single device: unlike in training, none is spread over several.

    Args:
        mesh_engine: on which the states lie.
        recipe: network and augmentation.
        examples: the training set.
        ghost: g.
        state: of the members, spread over the mesh.
        seeds: of the members, spread likewise.

    Source: Wu and Johnson 2021, arXiv:2105.07576, section 3, "PreciseBN".
    """
    program = _make_program(mesh_engine, recipe.model, recipe.augment)
    order = np.random.default_rng(0).permutation(len(examples))
    pooled, weights = [], []
    for part in _parts(len(examples), ghost, mesh_engine.mesh.shape[DATA]):
        flat = examples.read(order[part.places.ravel()]).images
        images = flat.reshape(*part.places.shape, *flat.shape[1:])
        placed = map(mesh_engine.everywhere, (images, part.places))
        (found,) = program(state, seeds, *placed)
        members = mesh_engine.read(found)
        pooled.append([models.pool_statistics(own, part.weights) for own in members])
        weights.append(part.weights.sum())
    return [_whole(parts, np.array(weights)) for parts in zip(*pooled, strict=True)]


def _whole(parts: tuple[Pytree, ...], weights: np.ndarray) -> Pytree:
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
    found = models.pool_statistics(stacked, weights)
    return jax.tree.map(np.float32, found)


def _parts(number: int, ghost: int, devices: int) -> Iterator[_Part]:
    """Divide the places 0 ... N - 1 into ghost batches, and these into parts of at most CHUNK examples a device."""
    ghosts = np.array_split(
        np.arange(number, dtype=np.int32), max(1, round(number / ghost))
    )
    for size, alike in itertools.groupby(ghosts, len):
        equal = np.stack(list(alike))
        count = devices * max(1, CHUNK // size)
        for first in range(0, len(equal), count):
            real = equal[first : first + count]
            copies = np.repeat(equal[:1], count - len(real), axis=0)
            weights = np.repeat((size, 0), (len(real), len(copies)))
            yield _Part(np.concatenate((real, copies)), weights)


@functools.cache
def _make_program(
    mesh_engine: engine.Engine,
    model: models.Model,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None,
) -> engine.Program:
    """Make the program (states, seeds, images, places) -> each ghost batch's statistics; the columns share them."""
    devices = mesh_engine.mesh.shape[DATA]

    def observe(
        state: step.State, seed: jax.Array, images: jax.Array, places: jax.Array
    ) -> tuple[Pytree]:
        def of_ghost(images: jax.Array, places: jax.Array) -> Pytree:
            inputs = batches.scale(images)
            if augment is not None:
                # As in an epoch that was not trained: there are no more epochs than updates.
                keys = step.example_keys(seed, step.AUGMENTATION, state.step, places)
                inputs = augment(inputs, keys)
            return model.observe(state.parameters, state.statistics, inputs)

        own = (evaluation.own(array, devices) for array in (images, places))
        found = jax.vmap(of_ghost)(*own)
        if devices > 1:
            found = jax.lax.all_gather(found, DATA, tiled=True)
        return (found,)

    return mesh_engine.program(
        engine.by_member(observe, shared=2), spread=2, donate=False
    )
