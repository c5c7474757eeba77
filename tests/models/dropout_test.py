import jax
import numpy as np
import pytest

from bsexp.models.dropout import dropout


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(0), 400)


@pytest.fixture(scope="module")
def inputs():
    return jax.random.uniform(jax.random.key(1), (400, 3, 50), minval=1.0, maxval=2.0)


def test_a_mask_belongs_to_its_example_however_the_batch_is_ordered_or_split(
    inputs, keys
):
    together = dropout(inputs, keys, 0.3, 0)
    order = jax.random.permutation(jax.random.key(2), 400)
    np.testing.assert_array_equal(
        dropout(inputs[order], keys[order], 0.3, 0), together[order]
    )
    parts = [
        dropout(inputs[part], keys[part], 0.3, 0)
        for part in (slice(0, 7), slice(7, 8), slice(8, 400))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), together)


@pytest.mark.parametrize("rate", [0.3, 0.5])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(inputs, keys, rate):
    outputs = dropout(inputs, keys, rate, 0)
    kept = outputs != 0
    np.testing.assert_allclose(outputs[kept], inputs[kept] / (1 - rate), rtol=1e-6)
    # 60 000 draws: five standard deviations of their share.
    assert abs(kept.mean() - (1 - rate)) < 5 * (rate * (1 - rate) / kept.size) ** 0.5


def test_examples_positions_and_layers_draw_for_themselves(inputs, keys):
    first, second = (dropout(inputs, keys, 0.5, layer) != 0 for layer in (0, 1))
    flat = first.reshape(400, -1)
    # Of 150 fair draws each, two examples agree on half, plus or minus five standard deviations.
    for a, b in ((flat[:-1], flat[1:]), (flat[:, :-1], flat[:, 1:]), (first, second)):
        assert abs((a == b).mean() - 0.5) < 5 * 0.5 / a.size**0.5


def test_without_keys_nothing_is_dropped(inputs):
    np.testing.assert_array_equal(dropout(inputs, None, 0.5, 0), inputs)
