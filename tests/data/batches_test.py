import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp.data import batches

KEY = jax.random.key(3)


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "steps"),
    [(60_000, 256, 234), (10, 5, 2), (9, 5, 1), (5, 5, 1)],
)
def test_steps_per_epoch_rounds_down(num_examples, batch_size, steps):
    assert batches.steps_per_epoch(num_examples, batch_size) == steps


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_a_batch_size_without_a_step_is_refused(batch_size):
    with pytest.raises(
        ValueError,
        match=f"batch size {batch_size} is not between 1 and the 10 examples",
    ):
        batches.steps_per_epoch(10, batch_size)


def test_an_order_is_a_permutation():
    order = batches.epoch_order(KEY, 2, 1000)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert (np.asarray(order) != np.arange(1000)).sum() > 900


def test_orders_differ_between_epochs_and_seeds_and_never_otherwise():
    order = jax.jit(batches.epoch_order, static_argnums=2)
    first = order(KEY, 0, 1000)
    np.testing.assert_array_equal(
        first, batches.epoch_order(jax.random.key(3), 0, 1000)
    )
    for other in (order(KEY, 1, 1000), order(jax.random.key(4), 0, 1000)):
        # Two random orders agree in one place on average.
        assert (first == other).sum() < 10


def test_batches_of_an_epoch_are_disjoint_and_leave_out_the_remainder():
    order = batches.epoch_order(KEY, 0, 23)
    cut = jax.jit(batches.batch_indices, static_argnums=2)
    seen = np.concatenate(
        [cut(order, step, 5) for step in range(batches.steps_per_epoch(23, 5))]
    )
    np.testing.assert_array_equal(seen, order[:20])
    assert len(set(seen.tolist())) == 20


def test_another_epoch_leaves_out_other_examples():
    left_out = [
        set(np.asarray(batches.epoch_order(KEY, epoch, 100)[90:]).tolist())
        for epoch in range(2)
    ]
    assert left_out[0] != left_out[1]


def test_gather_scales_bytes_to_the_unit_interval():
    images = jnp.arange(256, dtype=jnp.uint8).reshape(64, 2, 2, 1)
    labels = jnp.arange(64, dtype=jnp.uint8)
    chosen, classes = batches.gather(images, labels, jnp.array([63, 0, 63]))
    assert (chosen.dtype, classes.dtype) == (jnp.float32, jnp.int32)
    assert chosen.shape == (3, 2, 2, 1)
    np.testing.assert_allclose(chosen[0].ravel(), np.arange(252, 256) / 255, rtol=1e-7)
    np.testing.assert_array_equal(chosen[0], chosen[2])
    assert classes.tolist() == [63, 0, 63]
    assert float(chosen.max()) == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_features_of_any_width_stay_as_they_are(dtype):
    """NumPy makes float64 where nothing else is said."""
    inputs = batches.scale(np.array([[-1.5, 0.25, 300.0]], dtype))
    assert inputs.dtype == jnp.float32
    np.testing.assert_array_equal(inputs, [[-1.5, 0.25, 300.0]])
