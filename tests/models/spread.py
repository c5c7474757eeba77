"""Train a cohort of two C1 on four devices, by shard_map and by pmap, and compare with one at a time on one device.

In float64, so that nothing but a wrong number is larger than the tolerance.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from bsexp import models
from bsexp.models import normalisation

DEVICES, EXAMPLES, IMAGE = 4, 16, (12, 12, 2)
MODEL = models.build("C1", IMAGE, 5, 0.9)
# Ghost batches, and which devices share one.
DIVISIONS = ((1, [[0, 1, 2, 3]]), (2, [[0, 1], [2, 3]]), (8, None))


def gradient(parameters, statistics, inputs, keys, weights, *, ghost, mean):
    """Return logits, moved statistics and the gradient of the mean over all examples of a function of the logits."""

    def loss(parameters):
        logits, moved = MODEL.train(parameters, statistics, inputs, keys, ghost)
        return (weights * logits**2).mean(), (logits, moved)

    slope, (logits, moved) = jax.grad(loss, has_aux=True)(parameters)
    return logits, *jax.tree.map(mean, (moved, slope))


def identity(array):
    return array


def of_cohort(ghosts, groups):
    """Return `gradient` as one of four devices computes it, for two runs at once."""
    mean = functools.partial(jax.lax.pmean, axis_name="data")
    ghost = normalisation.whole(EXAMPLES // ghosts)
    if groups:
        shared = functools.partial(mean, axis_index_groups=groups)
        ghost = normalisation.Ghost(EXAMPLES // DEVICES, shared)
    local = functools.partial(gradient, ghost=ghost, mean=mean)
    return jax.vmap(local, in_axes=(0, 0, None, None, None))


def by_shard_map(local):
    every, split = PartitionSpec(), PartitionSpec("data")
    return jax.jit(
        jax.shard_map(
            local,
            mesh=jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,)),
            in_specs=(every, every, split, split, split),
            out_specs=(PartitionSpec(None, "data"), every, every),
            check_vma=False,
        )
    )


def by_pmap(local):
    mapped = jax.pmap(local, "data", in_axes=(None, None, 0, 0, 0), out_axes=(1, 0, 0))

    def call(parameters, statistics, *arrays):
        pieces = (each.reshape((DEVICES, -1, *each.shape[1:])) for each in arrays)
        logits, *rest = mapped(parameters, statistics, *pieces)
        first = jax.tree.map(operator.itemgetter(0), rest)
        return logits.reshape((2, EXAMPLES, -1)), *first

    return call


def main():
    assert jax.device_count() == DEVICES
    keys = jax.random.split(jax.random.key(2), EXAMPLES)
    inputs = jax.random.uniform(jax.random.key(1), (EXAMPLES, *IMAGE))
    weights = jax.random.normal(jax.random.key(4), (EXAMPLES, 5))
    starts = [MODEL.init(jax.random.key(seed)) for seed in (0, 1)]
    runs = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), starts)
    cohort = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    for ghosts, groups in DIVISIONS:
        ghost = normalisation.whole(EXAMPLES // ghosts)
        alone = jax.jit(functools.partial(gradient, ghost=ghost, mean=identity))
        expected = [alone(*run, inputs, keys, weights) for run in runs]
        for engine in (by_shard_map, by_pmap):
            call = engine(of_cohort(ghosts, groups))
            found = call(*cohort, inputs, keys, weights)
            for seed in (0, 1):
                compare(jax.tree.map(operator.itemgetter(seed), found), expected[seed])


def compare(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * np.abs(b).max())


if __name__ == "__main__":
    main()
