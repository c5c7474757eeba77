import io
import json
import logging
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from bsexp import bounds
from bsexp.data import cache, records, sources


def assert_small(dataset):
    # conftest's small_example: the pixels say which example it is, the label follows.
    for split, size in ((dataset.train, 30), (dataset.test, 12)):
        assert split.images.shape == (size, 4, 5, 3)
        assert split.labels.dtype == np.int32
        index = split.images[:, 0, 0, 0]
        assert sorted(index) == list(range(size))
        np.testing.assert_array_equal(
            split.images,
            np.broadcast_to(index[:, None, None, None], split.images.shape),
        )
        np.testing.assert_array_equal(split.labels, index % 3)


def test_mnist_is_described_before_it_is_prepared(fresh_mnist, tmp_path):
    described = sources.describe("mnist", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert described == sources.Description(
        "mnist", "1.0.0", 60_000, 10_000, (28, 28, 1), 10
    )
    data_dir, dataset = fresh_mnist
    # The wildcard goes to the prepared folder, past the constants.
    assert sources.describe("mnist:1.*.*", str(data_dir)) == described
    assert dataset.train.images.shape == (
        described.train_examples,
        *described.image_shape,
    )
    assert dataset.test.images.shape == (
        described.test_examples,
        *described.image_shape,
    )


def test_plain_mnist_is_the_embedded_one_whatever_stands_there(write_small, tmp_path):
    write_small(tmp_path, dataset="mnist", number="3.0.1")
    assert sources.describe("mnist", str(tmp_path)).version == "1.0.0"
    assert sources.describe("mnist:3.0.1", str(tmp_path)).train_examples == 30
    assert_small(sources.load("mnist:3.0.1", str(tmp_path)))


def test_other_data_in_the_place_of_the_embedded_ones_are_refused(
    write_small, tmp_path
):
    write_small(tmp_path, dataset="mnist", number="1.0.0")
    said = "holds 30 and 12 examples that are not MNIST's"
    for reads in (
        lambda: sources.load("mnist", str(tmp_path)),
        lambda: sources.open_split("mnist", str(tmp_path), "train"),
    ):
        with pytest.raises(ValueError, match=said):
            reads()


def test_another_builder_loads_the_same_fresh_and_cached(write_small, tmp_path):
    write_small(tmp_path)
    described = sources.describe("dots", str(tmp_path))
    assert described == sources.Description("dots", "1.0.0", 30, 12, (4, 5, 3), 3)
    fresh, cached = (
        sources.load("dots", str(tmp_path)),
        sources.load("dots", str(tmp_path)),
    )
    assert (fresh.name, fresh.num_classes) == ("dots", 3)
    assert_small(fresh)
    np.testing.assert_array_equal(fresh.train.images, cached.train.images)
    np.testing.assert_array_equal(fresh.test.labels, cached.test.labels)


def test_configs_and_versions(write_small, tmp_path):
    write_small(tmp_path, dataset="stripes", config="wide", number="1.0.0")
    write_small(
        tmp_path,
        dataset="stripes",
        config="wide",
        number="1.10.0",
        splits={"train": 8, "test": 3},
    )
    assert_small(sources.load("stripes/wide:1.0.0", str(tmp_path)))
    newest = sources.describe("stripes/wide", str(tmp_path))
    assert (newest.name, newest.version, newest.train_examples) == (
        "stripes/wide",
        "1.10.0",
        8,
    )
    assert len(sources.load("stripes/wide", str(tmp_path)).test.labels) == 3


def test_the_environment_names_the_folder(write_small, tmp_path, monkeypatch):
    write_small(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert_small(sources.load("dots", ""))


def test_a_home_that_nobody_knows_is_told():
    with pytest.raises(bounds.FieldError, match=r"^~nobody-here/data ") as caught:
        sources.load("dots", "~nobody-here/data")
    assert caught.value.field == "data.dir"


def test_more_examples_than_are_read_at_once(write_small, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "READ_AT_ONCE", 7)
    write_small(tmp_path)
    assert_small(sources.load("dots", str(tmp_path)))


def test_other_features_are_left_aside(write_small, tmp_path):
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Tensor(shape=(2, 2, 1), dtype=np.uint8),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }
    write_small(
        tmp_path,
        features=features,
        example=lambda index: {
            "id": f"x{index}",
            "image": np.full((2, 2, 1), index, np.uint8),
            "label": "dog",
        },
    )
    dataset = sources.load("dots", str(tmp_path))
    assert set(dataset.train.labels) == {1}
    assert dataset.num_classes == 2


def test_png_images_prepared_elsewhere_are_decoded(write_small, tmp_path):
    # features.Image needs TensorFlow to write, not to read: its record is the PNG's bytes.
    def example(index):
        stream = io.BytesIO()
        PIL.Image.fromarray(np.full((4, 5, 3), index, np.uint8)).save(stream, "PNG")
        return {"image": stream.getvalue(), "label": index % 3}

    label = tfds.features.ClassLabel(num_classes=3)
    folder = write_small(
        tmp_path,
        features={"image": tfds.features.Text(), "label": label},
        example=example,
    )
    image = tfds.features.Image(shape=(4, 5, 3), encoding_format="png")
    tfds.features.FeaturesDict({"image": image, "label": label}).save_config(folder)
    assert_small(sources.load("dots", str(tmp_path)))


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_split_is_named(write_small, tmp_path, missing):
    there = {"train": "test", "test": "train"}[missing]
    write_small(tmp_path, splits={there: 5, "validation": 5})
    with pytest.raises(
        ValueError,
        match=rf"dots/1.0.0 has no split {missing}; it has {there}, validation",
    ):
        sources.describe("dots", str(tmp_path))


def test_a_format_without_random_access_is_refused(write_small, tmp_path):
    info = write_small(tmp_path) / "dataset_info.json"
    info.write_text(
        json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"})
    )
    with pytest.raises(
        ValueError,
        match=r"tfrecord, which cannot be read at random.*file_format=array_record",
    ):
        sources.describe("dots", str(tmp_path))


@pytest.mark.parametrize(
    ("features", "example"),
    [
        (
            {"image": tfds.features.Tensor(shape=(2, 2, 1), dtype=np.uint8)},
            {"image": np.zeros((2, 2, 1), np.uint8)},
        ),
        (
            {
                "image": tfds.features.Tensor(shape=(2, 2, 1), dtype=np.float32),
                "label": tfds.features.ClassLabel(num_classes=2),
            },
            {"image": np.zeros((2, 2, 1), np.float32), "label": 0},
        ),
        (
            {
                "image": tfds.features.Tensor(shape=(None, 2, 1), dtype=np.uint8),
                "label": tfds.features.ClassLabel(num_classes=2),
            },
            {"image": np.zeros((2, 2, 1), np.uint8), "label": 0},
        ),
        (
            {
                "image": tfds.features.Tensor(shape=(2, 2), dtype=np.uint8),
                "label": tfds.features.ClassLabel(num_classes=2),
            },
            {"image": np.zeros((2, 2), np.uint8), "label": 0},
        ),
        (
            {
                "image": tfds.features.Tensor(shape=(2, 2, 1), dtype=np.uint8),
                "label": tfds.features.Tensor(shape=(), dtype=np.int64),
            },
            {"image": np.zeros((2, 2, 1), np.uint8), "label": 0},
        ),
    ],
    ids=["no label", "float", "varying size", "no channels", "no classes"],
)
def test_other_than_image_and_label_is_refused(
    write_small, tmp_path, features, example
):
    write_small(
        tmp_path,
        features=features,
        example=lambda _: example,
        splits={"train": 2, "test": 2},
    )
    with pytest.raises(
        ValueError,
        match=re.compile(
            r"does not have one 'image'.*it has FeaturesDict.*'image'", re.DOTALL
        ),
    ):
        sources.describe("dots", str(tmp_path))


def test_hidden_labels_are_refused(write_small, tmp_path):
    image = np.zeros((4, 5, 3), np.uint8)
    write_small(
        tmp_path,
        example=lambda index: {"image": image, "label": -1 if index == 20 else 2},
    )
    with pytest.raises(ValueError, match=r"split train of .* has labels from -1 to 2"):
        sources.load("dots", str(tmp_path))


@pytest.mark.parametrize("content", ["{", "", '{"name": 3}'])
def test_damaged_metadata_is_named(write_small, tmp_path, content):
    folder = write_small(tmp_path)
    (folder / "dataset_info.json").write_text(content)
    with pytest.raises(ValueError, match=f"cannot read the metadata in {folder}"):
        sources.describe("dots", str(tmp_path))


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_shard_is_named(write_small, tmp_path, damage):
    folder = write_small(tmp_path)
    shard = next(folder.glob("*train*"))
    whole = bytearray(shard.read_bytes())
    whole[len(whole) // 2] ^= 16
    shard.write_bytes(
        {"missing": b"", "cut": whole[: len(whole) // 2], "flipped": whole}[damage]
    )
    if damage == "missing":
        shard.unlink()
    with pytest.raises(ValueError, match=f"cannot read split train in {folder}"):
        sources.load("dots", str(tmp_path))


def test_a_damaged_cache_is_built_again(write_small, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="bsexp")
    write_small(tmp_path)
    sources.load("dots", str(tmp_path))
    file = next((tmp_path / cache.FOLDER).glob("dots-1.0.0-train-*.npz"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert_small(sources.load("dots", str(tmp_path)))
    assert f"{file} is damaged" in caplog.text
    assert len(file.read_bytes()) == len(whole)


def test_the_cache_serves_the_second_start(write_small, tmp_path):
    # Without the shards only the cache can have answered.
    folder = write_small(tmp_path)
    sources.load("dots", str(tmp_path))
    for shard in folder.glob("*array_record*"):
        shard.unlink()
    assert_small(sources.load("dots", str(tmp_path)))


def test_a_data_dir_that_takes_no_cache_still_works(write_small, tmp_path, caplog):
    # A file in the place of the folder stands for a read-only disk: root may write anywhere.
    caplog.set_level(logging.INFO, logger="bsexp")
    write_small(tmp_path)
    (tmp_path / cache.FOLDER).write_text("")
    assert_small(sources.load("dots", str(tmp_path)))
    assert "no cache in" in caplog.text


def test_a_data_set_that_is_not_there(tmp_path):
    for function in (sources.describe, sources.load):
        with pytest.raises(sources.DatasetNotFoundError, match="no data set 'dots'"):
            function("dots", str(tmp_path))


def test_the_door_imports_neither_jax_nor_tensorflow():
    code = "import sys, bsexp.data.sources; print({'jax', 'tensorflow'} & set(sys.modules))"
    command = [sys.executable, "-W", "error", "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("set()\n", "")
