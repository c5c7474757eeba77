"""Losses that look at perturbed inputs beside the given ones: adversarial training and stability training."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Pytree = Any
# (parameters, inputs [b, ...]) -> logits [b, classes], with the dropout masks and ghost batches of the update.
Predict = Callable[[Pytree, jax.Array], jax.Array]
# Folded into an example's key, from which dropout folds in its layers' numbers 0, 1 ...: the noise depends on none of them.
NOISE = 2**31 - 1


def adversarial(
    predict: Predict,
    parameters: Pytree,
    inputs: jax.Array,
    labels: jax.Array,
    size: float,
    share: float,
) -> jax.Array:
    """Return (1 - s) L(x) + s L(x + e sign(grad_x L(x))), the loss on clean and adversarial inputs.

    L is the mean cross-entropy. The adversarial inputs count as given: no gradient goes through them. They are
    normalised among themselves, and only the clean ones move the running averages.

    Args:
        predict: the network.
        parameters: of it.
        inputs: x, float32 [b, ...].
        labels: int32 [b].
        size: e, in units of the inputs: grey levels lie in [0, 1], and are not clipped to it.
        share: s, in [0, 1].

    Source: Goodfellow et al. 2015, arXiv:1412.6572.
    """

    def loss(parameters: Pytree, inputs: jax.Array) -> jax.Array:
        return _cross_entropy(predict(parameters, inputs), labels)

    slope = jax.grad(loss, argnums=1)(jax.lax.stop_gradient(parameters), inputs)
    moved = inputs + size * jnp.sign(jax.lax.stop_gradient(slope))
    return (1 - share) * loss(parameters, inputs) + share * loss(parameters, moved)


def stable(
    predict: Predict,
    parameters: Pytree,
    inputs: jax.Array,
    labels: jax.Array,
    keys: jax.Array,
    noise: float,
    weight: float,
) -> jax.Array:
    """Return L(x) - a sum_j p_j(x) log p_j(x + n), which asks for the same answer under noise, mean over the examples.

    L is the mean cross-entropy and p the network's probabilities; the gradient goes through both. The noisy inputs are
    normalised among themselves, and only the clean ones move the running averages.

    Args:
        predict: the network.
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

    logits = predict(parameters, inputs)
    noisy = predict(parameters, inputs + noise * jax.vmap(draw)(keys))
    expected = jax.nn.softmax(logits) * jax.nn.log_softmax(noisy)
    return _cross_entropy(logits, labels) - weight * expected.sum(axis=-1).mean()


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
