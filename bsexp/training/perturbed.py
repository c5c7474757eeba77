"""Losses that look at perturbed inputs beside the given ones: adversarial training and stability training.

Bits do not depend on the devices where sums have a fixed order. Hence no division that the compiler makes a product on one
device and not on two, softmax's, and no scattered gradient that it adds within another product, that of picking a label's logit.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Pytree = Any
# Logits [b, classes] of a pass, and batch norm's moved running averages.
Passed = tuple[jax.Array, Pytree]
# (parameters, inputs [b, ...]) -> its pass, with the dropout masks and ghost batches of the update.
Forward = Callable[[Pytree, jax.Array], Passed]
# Folded into an example's key, from which dropout folds in its layers' numbers 0, 1 ...: the noise depends on none of them.
NOISE = 2**31 - 1


def adversarial(
    forward: Forward,
    parameters: Pytree,
    inputs: jax.Array,
    labels: jax.Array,
    size: float,
    share: float,
) -> tuple[jax.Array, Passed]:
    """Return (1 - s) L(x) + s L(x + e sign(grad_x L(x))), the loss on clean and adversarial inputs, and the clean pass.

    L is the mean cross-entropy. The adversarial inputs count as given: no gradient goes through them. They are
    normalised among themselves, and only the clean ones move the running averages.

    Args:
        forward: the network.
        parameters: of it.
        inputs: x, float32 [b, ...].
        labels: int32 [b].
        size: e, in units of the inputs: grey levels lie in [0, 1], and are not clipped to it.
        share: s, in [0, 1].

    Source: Goodfellow et al. 2015, arXiv:1412.6572.
    """

    def loss(inputs: jax.Array) -> tuple[jax.Array, Passed]:
        passed = forward(parameters, inputs)
        return _cross_entropy(passed[0], labels), passed

    clean, pull_back, passed = jax.vjp(loss, inputs, has_aux=True)
    (slope,) = pull_back(jnp.ones_like(clean))
    moved = inputs + size * jnp.sign(jax.lax.stop_gradient(slope))
    return (1 - share) * clean + share * loss(moved)[0], passed


def stable(
    forward: Forward,
    parameters: Pytree,
    inputs: jax.Array,
    labels: jax.Array,
    keys: jax.Array,
    noise: float,
    weight: float,
) -> tuple[jax.Array, Passed]:
    """Return L(x) - a sum_j p_j(x) log p_j(x + n), mean over the examples, and the clean pass: the same answer under noise.

    L is the mean cross-entropy and p the network's probabilities; the gradient goes through both. The noisy inputs are
    normalised among themselves, and only the clean ones move the running averages.

    Args:
        forward: the network.
        parameters: of it.
        inputs: x, float32 [b, ...].
        labels: int32 [b].
        keys: typed random keys [b], from which alone n is drawn.
        noise: standard deviation of the normal n, in units of the inputs.
        weight: a.

    Source: Zheng et al. 2016, arXiv:1604.04326.
    """

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, NOISE), inputs.shape[1:])

    passed = forward(parameters, inputs)
    noisy, _ = forward(parameters, inputs + noise * jax.vmap(draw)(keys))
    expected = jnp.exp(jax.nn.log_softmax(passed[0])) * jax.nn.log_softmax(noisy)
    clean = _cross_entropy(passed[0], labels)
    return clean - weight * expected.sum(axis=-1).mean(), passed


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, chosen).mean()
