import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training import jobs

from bsexp import models
from bsexp.curvature import operator
from bsexp.training import evaluation


@pytest.mark.parametrize("size", [64, 300, 301, 1_000])
def test_loss_and_accuracy_are_exact_whatever_the_chunk_size(mnist, size):
    """301 examples in chunks of 64 or 300 leave a short one; its examples weigh as much as all others."""
    model = jobs.network()
    parameters, statistics = model.init(jax.random.key(0))
    images, labels = (
        jnp.asarray(mnist.test.images[:301]),
        jnp.asarray(mnist.test.labels[:301]),
    )
    forward = evaluation.make_forward(model, "running")
    found = evaluation.dispatch(
        forward, parameters, statistics, operator.split((images, labels), size)
    ).read()
    logits = model.apply(parameters, statistics, images / 255, "running")
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    np.testing.assert_allclose(found.loss, loss, rtol=1e-6)
    assert found.accuracy == int((logits.argmax(-1) == labels).sum()) / 301


def test_logits_that_are_no_numbers_answer_nothing(mnist):
    """The largest of them would be the first class, which a tenth of the images have."""
    model = jobs.network()
    parameters, statistics = model.init(jax.random.key(0))
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), parameters)
    data = jnp.asarray(mnist.test.images[:200]), jnp.asarray(mnist.test.labels[:200])
    forward = evaluation.make_forward(model, "running")
    found = evaluation.dispatch(forward, broken, statistics, [data]).read()
    assert (np.isnan(found.loss), found.accuracy) == (True, 0.0)


def test_in_mode_batch_each_chunk_has_statistics_of_its_own(mnist):
    model = jobs.network()
    parameters, statistics = model.init(jax.random.key(0))
    data = jnp.asarray(mnist.test.images[:200]), jnp.asarray(mnist.test.labels[:200])
    forward = evaluation.make_forward(model, "batch")

    def loss(size):
        return (
            evaluation.dispatch(
                forward, parameters, statistics, operator.split(data, size)
            )
            .read()
            .loss
        )

    halves = [
        float(
            optax.softmax_cross_entropy_with_integer_labels(
                model.apply(parameters, statistics, data[0][half] / 255, "batch"),
                data[1][half],
            ).mean()
        )
        for half in (slice(0, 100), slice(100, 200))
    ]
    np.testing.assert_allclose(loss(100), np.mean(halves), rtol=1e-5)
    assert loss(100) != loss(200)
    assert models.MODES == ("running", "batch")
