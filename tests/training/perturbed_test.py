"""Losses on perturbed inputs, on a linear network whose gradients are known, and in training."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import cohorts
from training.cohorts import Cohort

from bsexp import config
from bsexp.training import mesh, perturbed, recipe

pytestmark = pytest.mark.usefixtures("optimised")

W = jnp.array([[1.0, -0.5], [0.3, 2.0], [0.0, 0.0]])
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
LABELS = jnp.array([0, 1, 0, 1, 1, 0])
KEYS = jax.random.split(jax.random.key(0), 6)


def forward(w, inputs):
    return inputs @ w, "averages"


def cross_entropy(w, inputs):
    picked = jnp.take_along_axis(
        jax.nn.log_softmax(inputs @ w), LABELS[:, None], axis=1
    )
    return -picked.mean()


def towards_the_other_class():
    """Of two classes the loss rises along the other column less the own one, whatever the probabilities."""
    other, own = W.T[1 - LABELS], W.T[LABELS]
    return jnp.sign(other - own)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_adversarial_inputs_go_along_the_sign_of_the_known_gradient(share):
    moved = INPUTS + 0.2 * towards_the_other_class()

    def expected(w):
        return (1 - share) * cross_entropy(w, INPUTS) + share * cross_entropy(w, moved)

    def found(w):
        return perturbed.adversarial(forward, w, INPUTS, LABELS, 0.2, share)[0]

    np.testing.assert_allclose(found(W), expected(W), rtol=1e-6)
    # The gradient takes the moved inputs as given: none goes through the sign or through what led to it.
    np.testing.assert_allclose(jax.grad(found)(W), jax.grad(expected)(W), rtol=1e-5)
    assert cross_entropy(W, moved) > cross_entropy(W, INPUTS) + 0.1


def test_without_noise_the_stability_loss_adds_the_entropy_of_the_answer():
    p = jax.nn.softmax(INPUTS @ W)
    entropy = -(p * jnp.log(p)).sum(axis=1).mean()
    found, _ = perturbed.stable(forward, W, INPUTS, LABELS, KEYS, 0.0, 3.0)
    np.testing.assert_allclose(found, cross_entropy(W, INPUTS) + 3 * entropy, rtol=1e-6)


def test_noise_adds_the_divergence_from_the_answer_as_it_is_and_depends_on_the_keys_alone():
    def divergence(noise, order=(0, 1, 2, 3, 4, 5)):
        i = jnp.array(order)
        chosen = INPUTS[i], LABELS[i], KEYS[i]
        return perturbed.stable(forward, W, *chosen, noise, 1.0)[0]

    still, shaken = divergence(0.0), divergence(0.5)
    assert shaken > still + 0.01  # a cross-entropy is least where the two agree
    np.testing.assert_allclose(divergence(0.5, (3, 0, 5, 1, 2, 4)), shaken, rtol=1e-6)
    other, _ = perturbed.stable(forward, W, INPUTS, LABELS, KEYS[::-1], 0.5, 1.0)
    assert abs(other - shaken) > 1e-4


REMEDIES = ({"conservative": 1e-3}, {"adversarial": 0.1}, {"stability": 1.0})


def losses(mnist, *layout, **robust):
    return Cohort(mnist, *layout, robust=config.Robust(**robust)).run(20)


@pytest.mark.slow
def test_switched_off_training_is_plain_to_the_bit_and_switched_on_it_is_another(mnist):
    plain = Cohort(mnist).run(20)
    off = losses(
        mnist, conservative_iterations=9, adversarial_share=0.9, stability_noise=3.0
    )
    np.testing.assert_array_equal(off, plain)
    for on in REMEDIES:
        assert abs(losses(mnist, **on) - plain).max() > 1e-3, on


@pytest.mark.slow
@pytest.mark.parametrize("robust", REMEDIES)
def test_on_four_devices_it_is_the_same_training(mnist, robust):
    """Batch norm is over the whole batch: an input's gradient comes from all devices."""
    alone = losses(mnist, **robust)
    np.testing.assert_allclose(
        losses(mnist, mesh.Layout(1, 4, 1), **robust), alone, rtol=1e-4
    )


def built(**robust):
    run = config.Run("test", 0, 64, config.Base(robust=config.Robust(**robust)))
    return recipe.build(run, cohorts.network(), cohorts.EXAMPLES)


def test_training_takes_each_number_from_its_setting():
    found = built(conservative=1e-3, conservative_iterations=9).proximal
    assert found == (1e-3, 9)
    batch = types.SimpleNamespace(inputs=INPUTS, labels=LABELS, keys=KEYS)
    asked = (
        built(adversarial=0.2, adversarial_share=0.7),
        built(stability=3.0, stability_noise=0.5),
    )
    known = (
        perturbed.adversarial(forward, W, INPUTS, LABELS, 0.2, 0.7),
        perturbed.stable(forward, W, INPUTS, LABELS, KEYS, 0.5, 3.0),
    )
    for one, (loss, (logits, averages)) in zip(asked, known, strict=True):
        found, passed = one.counted(forward, W, batch)
        np.testing.assert_array_equal(found, loss)
        np.testing.assert_array_equal(passed[0], logits)
        np.testing.assert_array_equal(logits, INPUTS @ W)
        assert passed[1] == averages == "averages"


def test_adversarial_and_stability_training_are_one_or_the_other():
    base = config.Base(robust=config.Robust(adversarial=0.1, stability=1.0))
    assert recipe.errors(base, 256, 60_000, normalised=True) == {
        "robust.stability": "cannot be combined with config.robust.adversarial"
    }
