"""Random changes of training images, made on the device as part of the update."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from bsexp import config

Augment = Callable[[jax.Array, jax.Array], jax.Array]
_Change = Callable[[jax.Array, jax.Array], jax.Array]  # of one image


def make(settings: config.Augmentation) -> Augment | None:
    """Make the random change of a batch: rotation, flip, shift, crop, in this order, each where it is set.

    An image's change depends on its own key alone: not on its place in the array, nor on the other images.
    What one kind draws does not depend on which other kinds are set.

    Returns:
        A function of images, float32 [b, H, W, C], and typed keys [b] to images of the same shape; it can be
        mapped over further axes. None where nothing is set.
    """
    changes = _changes(settings)
    if not changes:
        return None

    def one(image: jax.Array, key: jax.Array) -> jax.Array:
        for kind, change in changes.items():
            image = change(image, jax.random.fold_in(key, kind))
        return image

    return jax.vmap(one)


def _changes(settings: config.Augmentation) -> dict[int, _Change]:
    """Return the changes that are set, each under the number that makes its random numbers its own."""

    def rotated(image: jax.Array, key: jax.Array) -> jax.Array:
        limit = settings.rotation
        return rotate(image, jax.random.uniform(key, (), minval=-limit, maxval=limit))

    def flipped(image: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)

    def shifted(image: jax.Array, key: jax.Array) -> jax.Array:
        return _shift_up_to(image, key, shift_limits(settings.shift, image.shape))

    def cropped(image: jax.Array, key: jax.Array) -> jax.Array:
        # A crop out of a frame is a shift by up to the frame's width.
        return _shift_up_to(image, key, [settings.crop] * 2)

    changes = {
        0: (settings.rotation, rotated),
        1: (settings.flip, flipped),
        2: (settings.shift, shifted),
        3: (settings.crop, cropped),
    }
    return {kind: change for kind, (size, change) in changes.items() if size}


def shift_limits(share: float, shape: Sequence[int]) -> list[int]:
    """Return the most whole pixels along height and width that a shift by a share of the size moves an image [H, W, C]."""
    # Rounded first: 0.29 x 100 is 28.999999999999996.
    return [int(round(share * size, 6)) for size in shape[:2]]


def _shift_up_to(image: jax.Array, key: jax.Array, limits: Sequence[int]) -> jax.Array:
    """Shift by whole pixels, each of -limit..limit alike, along height and width."""
    limit = jnp.array(limits)
    return shift(image, jax.random.randint(key, (2,), -limit, limit + 1), limits)


def shift(image: jax.Array, by: jax.Array, limits: Sequence[int]) -> jax.Array:
    """Move an image down and to the right by whole pixels; zeros come in behind it.

    Args:
        image: [H, W, C].
        by: int [2], pixels down and right; may be traced. Beyond ``limits`` it is wrong and raises nothing.
        limits: the most pixels either way, along each axis.
    """
    padded = jnp.pad(image, [(limit, limit) for limit in limits] + [(0, 0)])
    start = jnp.array(limits) - by
    return jax.lax.dynamic_slice(padded, (*start, 0), image.shape)


def rotate(image: jax.Array, degrees: jax.typing.ArrayLike) -> jax.Array:
    """Turn an image counterclockwise about its centre, bilinear between pixels, zero outside.

    Args:
        image: [H, W, C].
        degrees: the angle; may be traced.
    """
    height, width, _ = image.shape
    down = jnp.arange(height)[:, None] - (height - 1) / 2
    right = jnp.arange(width)[None, :] - (width - 1) / 2
    angle = jnp.deg2rad(degrees)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    # Where each pixel comes from; rows count downwards.
    row = (height - 1) / 2 + cosine * down + sine * right
    column = (width - 1) / 2 - sine * down + cosine * right
    return _interpolate(image, row, column)


def _interpolate(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """Return the image at fractional places: bilinear, falling to zero within a pixel of its border."""
    height, width, _ = image.shape
    framed = jnp.pad(image, [(1, 2), (1, 2), (0, 0)])
    # All that is further outside falls on the frame.
    row, column = jnp.clip(row, -1, height) + 1, jnp.clip(column, -1, width) + 1
    top, left = jnp.floor(row).astype(jnp.int32), jnp.floor(column).astype(jnp.int32)
    lower, further = (row - top)[..., None], (column - left)[..., None]
    above = (1 - further) * framed[top, left] + further * framed[top, left + 1]
    below = (1 - further) * framed[top + 1, left] + further * framed[top + 1, left + 1]
    return (1 - lower) * above + lower * below
