"""Inputs that are no images: features, float32 [D], that pass as they are."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from bsexp import config
from bsexp.data import batches, examples, records, sources
from bsexp.data.preparation import synthetic, writing

SMALL = synthetic.resized(synthetic.TIMIT_LIKE, 50)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    synthetic.prepare(SMALL, folder)
    synthetic.prepare(synthetic.resized(synthetic.CIFAR100_LIKE, 10), folder)
    return str(folder)


def test_features_are_loaded_as_they_were_drawn_and_again_from_the_cache(data_dir):
    drawn = synthetic.examples(SMALL, "train")
    features, labels = zip(*itertools.islice(drawn, 50), strict=True)
    for _ in ("records", "cache"):
        loaded = sources.load("timit_like_50", data_dir).train
        assert loaded.images.dtype == np.float32
        np.testing.assert_array_equal(loaded.images, features)
        np.testing.assert_array_equal(loaded.labels, labels)


def test_a_description_tells_features_from_images_and_stand_ins_from_data(data_dir):
    found = sources.describe("timit_like_50", data_dir)
    assert (found.image_shape, found.dtype, found.synthetic) == (
        (360,),
        np.float32,
        True,
    )
    found = sources.describe("cifar100_like_10", data_dir)
    assert (found.image_shape, found.dtype, found.synthetic) == (
        (32, 32, 3),
        np.uint8,
        True,
    )
    found = sources.describe("mnist", data_dir)
    assert (found.dtype, found.synthetic) == (np.uint8, False)


def test_examples_on_disk_are_those_in_memory(data_dir):
    settings = config.Data(name="timit_like_50", dir=data_dir, train_size=40)
    kept = examples.load(settings).train
    disk = examples.Training(settings)
    order = np.random.default_rng(0).permutation(40)
    assert disk.dtype == np.float32
    np.testing.assert_array_equal(disk.read(order).images, kept.images[order])


@pytest.mark.parametrize("streaming", [False, True])
def test_features_that_are_not_finite_are_told_and_not_trained_on(tmp_path, streaming):
    drawn = list(synthetic.examples(SMALL, "train"))
    drawn[30][0][5] = np.nan
    content = SMALL.content._replace(name="broken")
    writing.prepare(content, lambda _: iter(drawn), tmp_path)
    settings = config.Data(name="broken", dir=str(tmp_path), streaming=streaming)
    read = examples.Training(settings).read if streaming else None
    with pytest.raises(records.DamagedError, match="has inputs that are not finite"):
        read(np.arange(50)) if read else examples.load(settings)


def test_features_are_not_scaled():
    features = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    seen, _ = batches.gather(features, np.arange(6), jnp.array([4, 1]))
    np.testing.assert_array_equal(seen, features[[4, 1]])
