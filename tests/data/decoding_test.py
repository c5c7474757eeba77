import numpy as np
import pytest
import tensorflow_datasets as tfds

from bsexp.data import decoding


def features_of(image):
    label = tfds.features.ClassLabel(num_classes=300)
    return tfds.features.FeaturesDict(
        {"id": tfds.features.Text(), "image": image, "label": label}
    )


@pytest.mark.parametrize(
    ("dtype", "shape"), [(np.uint8, (4, 5, 3)), (np.float32, (7,))]
)
@pytest.mark.parametrize("encoding", ["none", "bytes", "zlib"])
def test_every_encoding_gives_what_was_written(dtype, shape, encoding):
    features = features_of(
        tfds.features.Tensor(shape=shape, dtype=dtype, encoding=encoding)
    )
    decode = decoding.decoder(features)
    random = np.random.default_rng(0)
    for label in (0, 7, 299):  # one and two bytes of a record
        image = random.integers(0, 255, shape).astype(dtype)
        record = features.serialize_example({"id": "x", "image": image, "label": label})
        found, found_label = decode(record)
        assert found_label == label
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, image)


def test_an_image_of_another_size_than_the_metadata_say_is_refused():
    # As it is stored, only its length tells that it is not the data set's.
    written = features_of(
        tfds.features.Tensor(shape=(2, 3, 1), dtype=np.uint8, encoding="bytes")
    )
    image = np.zeros((2, 3, 1), np.uint8)
    record = written.serialize_example({"id": "x", "image": image, "label": 1})
    said = features_of(
        tfds.features.Tensor(shape=(2, 4, 1), dtype=np.uint8, encoding="bytes")
    )
    with pytest.raises(ValueError, match="reshape"):
        decoding.decoder(said)(record)
