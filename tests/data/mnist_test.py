import errno
import gzip
import logging
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from bsexp.data import folders, mnist, sources
from bsexp.data.preparation import writing

# The known counts of digits 0 to 9, not counted by the code under test.
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_class_counts(fresh_mnist):
    _, dataset = fresh_mnist
    assert np.bincount(dataset.train.labels).tolist() == TRAIN_COUNTS
    assert np.bincount(dataset.test.labels).tolist() == TEST_COUNTS


def test_pixel_mean_and_standard_deviation(fresh_mnist):
    # 0.1307 and 0.3081 are the constants with which everyone normalises MNIST.
    _, dataset = fresh_mnist
    assert dataset.train.images.mean(dtype=np.float64) / 255 == pytest.approx(
        0.1307, abs=5e-5
    )
    assert dataset.train.images.std(dtype=np.float64) / 255 == pytest.approx(
        0.3081, abs=5e-5
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_fresh_and_cached_arrays_equal_the_idx_files_in_order(fresh_mnist, split):
    data_dir, fresh = fresh_mnist
    images, labels = mnist.read_embedded(split)
    for dataset in (fresh, sources.load("mnist", str(data_dir))):
        loaded = getattr(dataset, split)
        np.testing.assert_array_equal(loaded.images, images)
        np.testing.assert_array_equal(loaded.labels, labels)
        assert (loaded.images.dtype, loaded.labels.dtype) == (np.uint8, np.int32)


def test_tfds_knows_the_prepared_folder_with_its_licence_and_citation(fresh_mnist):
    data_dir, _ = fresh_mnist
    info = tfds.builder_from_directory(data_dir / "mnist" / mnist.VERSION).info
    assert info.full_name == f"mnist/{mnist.VERSION}"
    assert "CC BY-SA 3.0" in info.redistribution_info.license
    assert "10.1109/5.726791" in info.citation


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(mnist.EMBEDDED, tmp_path / "embedded")


def test_a_truncated_file_is_named(copied):
    file = copied / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.gz is cut short"):
        mnist.read_embedded("test", copied)


def test_a_tampered_file_is_named(copied):
    # One label changed and the file compressed again: gzip's own checksum is right.
    file = copied / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[-1] ^= 1
    file.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(
        ValueError, match=r"t10k-labels-idx1-ubyte.gz is not the original"
    ):
        mnist.read_embedded("test", copied)


def test_preparing_verifies_the_files(copied, monkeypatch, tmp_path):
    monkeypatch.setattr(mnist.read_embedded, "__defaults__", (copied,))
    monkeypatch.setitem(mnist.SHA256, "train-labels-idx1-ubyte", "0" * 64)
    with pytest.raises(
        ValueError, match=r"train-labels-idx1-ubyte.gz is not the original"
    ):
        mnist.prepare(tmp_path / "data")
    assert folders.available(tmp_path / "data") == []


@pytest.mark.usefixtures("few_mnist")
def test_preparing_is_silent_and_done_once(tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO, logger="bsexp")
    folder = mnist.prepare(tmp_path)
    written = (folder / folders.INFO_FILE).stat().st_mtime_ns
    assert mnist.prepare(tmp_path) == folder == tmp_path / "mnist" / mnist.VERSION
    assert (folder / folders.INFO_FILE).stat().st_mtime_ns == written
    assert capfd.readouterr() == ("", "")
    assert [
        record.message for record in caplog.records if record.name.startswith("bsexp")
    ] == [f"preparing mnist in {folder}, once"]


@pytest.mark.usefixtures("few_mnist")
def test_the_loser_of_a_race_takes_the_winners_folder(tmp_path, monkeypatch):
    winner = mnist.prepare(tmp_path / "winner").parent
    read = mnist.read_embedded

    def win_meanwhile(split):
        shutil.copytree(winner, tmp_path / "shared" / "mnist", dirs_exist_ok=True)
        return read(split)

    monkeypatch.setattr(mnist, "read_embedded", win_meanwhile)
    folder = mnist.prepare(tmp_path / "shared")
    assert folders.is_prepared(folder)
    assert [child.name for child in folder.parent.iterdir()] == [mnist.VERSION]


@pytest.mark.usefixtures("few_mnist")
def test_what_a_killed_process_left_is_not_taken_for_a_data_set(tmp_path):
    left = tmp_path / "killed" / "mnist" / f"incomplete.ABC123_{mnist.VERSION}"
    shutil.copytree(mnist.prepare(tmp_path / "other"), left)
    assert folders.available(tmp_path / "killed") == []
    mnist.prepare(tmp_path / "killed")
    assert folders.available(tmp_path / "killed") == [f"mnist:{mnist.VERSION}"]


def test_a_half_copied_folder_is_named(tmp_path):
    folder = tmp_path / "mnist" / mnist.VERSION
    folder.mkdir(parents=True)
    (folder / "mnist-train.array_record-00000-of-00001").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=rf"{folder} is incomplete: it has no dataset_info.json"
    ):
        mnist.prepare(tmp_path)


def test_a_data_dir_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError, match=f"cannot prepare mnist in {blocked}"):
        mnist.prepare(blocked)


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("write() failed: No space left on device"),
    ],
)
def test_a_full_disk_is_named(tmp_path, monkeypatch, failure):
    def fail(*_):
        raise failure

    monkeypatch.setattr(writing, "write", fail)
    with pytest.raises(
        OSError, match=rf"cannot prepare mnist in {tmp_path}.*No space left"
    ):
        mnist.prepare(tmp_path)
