import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp import config
from bsexp.data import augmentation

ALL = config.Augmentation(rotation=25.0, flip=True, shift=0.2, crop=3)
EACH = {
    "rotation": config.Augmentation(rotation=25.0),
    "flip": config.Augmentation(flip=True),
    "shift": config.Augmentation(shift=0.2),
    "crop": config.Augmentation(crop=3),
    "all": ALL,
}


def keys(number, seed=0):
    update = jax.random.key(seed)
    return jax.vmap(jax.random.fold_in, (None, 0))(update, jnp.arange(number))


def pictures(number, height=9, width=12, channels=2):
    size = (number, height, width, channels)
    return np.random.default_rng(0).random(size).astype(np.float32)


def test_nothing_set_is_nothing_done():
    assert augmentation.make(config.Augmentation()) is None


@pytest.mark.parametrize("kind", EACH)
def test_split_and_permuted_batches_give_split_and_permuted_images_to_the_bit(kind):
    augment = jax.jit(augmentation.make(EACH[kind]))
    images, each = pictures(24), keys(24)
    whole = np.asarray(augment(images, each))
    assert whole.shape == images.shape
    assert (whole != images).any()
    parts = [augment(images[i : i + 5], each[i : i + 5]) for i in range(0, 24, 5)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    order = np.random.default_rng(1).permutation(24)
    np.testing.assert_array_equal(augment(images[order], each[order]), whole[order])


@pytest.mark.parametrize("kind", EACH)
def test_runs_of_a_cohort_get_what_they_would_get_alone(kind):
    augment = augmentation.make(EACH[kind])
    images = pictures(3 * 8).reshape(3, 8, 9, 12, 2)
    each = jnp.stack([keys(8, seed) for seed in range(3)])
    together = jax.jit(jax.vmap(augment))(images, each)
    for run in range(3):
        np.testing.assert_array_equal(
            together[run], jax.jit(augment)(images[run], each[run])
        )


def test_half_of_many_are_mirrored_exactly_and_the_others_left_alone():
    image = pictures(1)[0]
    found = augmentation.make(EACH["flip"])(np.stack([image] * 4_000), keys(4_000))
    mirrored = (np.asarray(found) == image[:, ::-1]).all(axis=(1, 2, 3))
    same = (np.asarray(found) == image).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    # Five standard deviations of a fair coin.
    assert abs(mirrored.sum() - 2_000) < 5 * np.sqrt(1_000)


def test_a_shift_moves_pixels_down_and_right_and_brings_in_zeros():
    image = pictures(1)[0]
    moved = np.asarray(augmentation.shift(image, jnp.array([2, -3]), (4, 4)))
    np.testing.assert_array_equal(moved[2:, :-3], image[:-2, 3:])
    assert not moved[:2].any()
    assert not moved[:, -3:].any()


def offsets_of(settings, number, height, width):
    """Where a single bright pixel in the middle of the image went, relative to the middle."""
    middle = height // 2, width // 2
    image = np.zeros((height, width, 1), np.float32)
    image[middle] = 1
    found = augmentation.make(settings)(np.stack([image] * number), keys(number))
    place = np.asarray(found)[..., 0].reshape(number, -1).argmax(axis=1)
    return np.stack(np.divmod(place, width), axis=1) - middle


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        # 0.29 x 100 is 28.999999999999996 in floating point.
        (config.Augmentation(shift=0.29), (29, 5)),
        (config.Augmentation(crop=4), (4, 4)),
    ],
)
def test_every_offset_up_to_the_limit_is_equally_likely(settings, limits):
    number = 20_000
    found = offsets_of(settings, number, 100, 19)
    for axis, limit in enumerate(limits):
        counts = np.bincount(found[:, axis] + limit, minlength=2 * limit + 1)
        expected = number / (2 * limit + 1)
        assert len(counts) == 2 * limit + 1
        # Five standard deviations of one count.
        assert abs(counts - expected).max() < 5 * np.sqrt(expected)
    down, right = found.T / np.asarray(limits)[:, None]
    assert abs((down * right).mean()) < 5 * (down * right).std() / np.sqrt(number)


def test_a_crop_of_a_constant_image_is_the_image_with_at_most_the_frame_cut_in():
    found = augmentation.make(config.Augmentation(crop=2))(
        np.ones((200, 6, 7, 1), np.float32), keys(200)
    )
    lit = np.asarray(found)[..., 0]
    for image in lit:
        rows, columns = image.any(axis=1), image.any(axis=0)
        np.testing.assert_array_equal(image, np.outer(rows, columns))
        for run, size in ((rows, 6), (columns, 7)):
            assert size - 2 <= run.sum() <= size
            assert run[0] or run[-1]
    assert lit.sum(axis=(1, 2)).min() == 4 * 5
    assert lit.sum(axis=(1, 2)).max() == 6 * 7


def test_a_crop_can_be_wider_than_the_image():
    found = augmentation.make(config.Augmentation(crop=9))(
        np.ones((50, 4, 4, 1), np.float32), keys(50)
    )
    assert set(np.unique(found)) == {0.0, 1.0}


def test_a_rotation_by_nothing_is_the_identity():
    image = pictures(1)[0]
    np.testing.assert_array_equal(augmentation.rotate(image, 0.0), image)


@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
def test_quarter_turns_go_counterclockwise(quarters):
    image = pictures(1, 8, 8)[0]
    turned = augmentation.rotate(image, 90.0 * quarters)
    np.testing.assert_allclose(turned, np.rot90(image, quarters), atol=3e-6)


@pytest.mark.parametrize("degrees", [-170.0, -33.0, 7.5, 45.0])
def test_a_rotation_is_what_scipy_interpolates(degrees):
    ndimage = pytest.importorskip("scipy.ndimage")
    image = pictures(1, 11, 11, 1)[0]
    expected = ndimage.rotate(
        image[..., 0], degrees, reshape=False, order=1, mode="grid-constant"
    )
    turned = augmentation.rotate(image, degrees)
    np.testing.assert_allclose(turned[..., 0], expected, atol=1e-5)


def test_rotations_of_an_oblong_image_keep_its_shape_and_its_centre():
    image = np.zeros((5, 9, 1), np.float32)
    image[2] = 1
    turned = np.asarray(augmentation.rotate(image, 90.0))[..., 0]
    np.testing.assert_allclose(turned[:, 4], 1, atol=1e-5)
    np.testing.assert_allclose(np.delete(turned, 4, axis=1), 0, atol=1e-5)


def test_angles_are_uniform_up_to_the_limit():
    # A point to the right of the centre goes up by its distance times the sine of the angle.
    image = np.zeros((41, 41, 1), np.float32)
    image[20, 38] = 1
    found = augmentation.make(config.Augmentation(rotation=30.0))(
        np.stack([image] * 3_000), keys(3_000)
    )
    weights = np.asarray(found)[..., 0]
    rows, columns = np.arange(41) - 20, np.arange(41) - 20
    up = -(weights.sum(axis=2) @ rows) / weights.sum(axis=(1, 2))
    right = (weights.sum(axis=1) @ columns) / weights.sum(axis=(1, 2))
    angle = np.sort(np.degrees(np.arctan2(up, right)))
    assert -30.2 < angle[0] < -29.5
    assert 29.5 < angle[-1] < 30.2
    # Kolmogorov-Smirnov: at 3 000 draws 0.03 has a probability below 1%; 0.01 for the pixels' grid.
    uniform = np.linspace(-30, 30, 3_000)
    assert abs(angle - uniform).max() / 60 < 0.04


def test_what_one_kind_draws_does_not_depend_on_the_others():
    images, each = pictures(64), keys(64)
    flipped = augmentation.make(EACH["flip"])(images, each)
    both = augmentation.make(config.Augmentation(flip=True, crop=1))(images, each)
    cropped = augmentation.make(config.Augmentation(crop=1))(flipped, each)
    np.testing.assert_array_equal(both, cropped)
    shifted = offsets_of(config.Augmentation(shift=0.5), 500, 9, 9)
    cut = offsets_of(config.Augmentation(crop=4), 500, 9, 9)
    assert (shifted != cut).any()
