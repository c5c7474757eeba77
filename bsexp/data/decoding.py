"""From a record, a serialized tf.train.Example, to an image and its label. Knows nothing of JAX."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

# tf.train.Example as TFDS itself reads it where there is no TensorFlow.
from tensorflow_datasets.proto import tf_example_pb2

Decode = Callable[[bytes], tuple[np.ndarray, int]]


def decoder(features: Any) -> Decode:
    """Return what reads image and label from a record.

    Where the image is stored as its bytes they are taken as they are, in a seventh of the time that TFDS takes
    (2.2 instead of 15 microseconds for 32 x 32 x 3); everything else is left to TFDS.

    Args:
        features: of the data set, with an ``image`` and a ClassLabel ``label``.

    Returns:
        record -> image, of the shape and type of its feature, and label. It raises what its parts raise at a record
        that is damaged.
    """
    image = features["image"]
    if _is_stored_as_it_is(image):
        return _stored(image.np_dtype, image.shape)

    def decode(record: bytes) -> tuple[np.ndarray, int]:
        example = features.deserialize_example_np(record)
        return example["image"], example["label"]

    return decode


def _is_stored_as_it_is(image: Any) -> bool:
    # Not a subclass: an Image is a Tensor whose bytes are those of a file.
    return (
        type(image) is tfds.features.Tensor
        and image.to_json_content().encoding == tfds.features.Encoding.BYTES.value
    )


def _stored(dtype: np.dtype, shape: tuple[int, ...]) -> Decode:
    def decode(record: bytes) -> tuple[np.ndarray, int]:
        feature = tf_example_pb2.Example.FromString(record).features.feature
        (content,) = feature["image"].bytes_list.value
        (label,) = feature["label"].int64_list.value
        return np.frombuffer(content, dtype).reshape(shape), label

    return decode
