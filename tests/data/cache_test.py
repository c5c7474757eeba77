import logging
import os

import numpy as np
import pytest

from bsexp.data import cache

IMAGES = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)
LABELS = np.array([4, 7], np.int32)


@pytest.fixture
def file(tmp_path):
    file = tmp_path / cache.FOLDER / "dots.npz"
    cache.write(file, IMAGES, LABELS)
    return file


def test_read_returns_what_was_written(file):
    images, labels = cache.read(file)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    assert list(file.parent.iterdir()) == [file]


def test_read_of_no_file_is_none(tmp_path):
    assert cache.read(tmp_path / "dots.npz") is None


def test_no_flipped_bit_gives_other_arrays(file):
    # Anywhere in the file, headers of zip and numpy included: refused, or without effect.
    whole = file.read_bytes()
    refused = 0
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed)
        if (arrays := cache.read(file)) is None:
            refused += 1
        else:
            np.testing.assert_array_equal(arrays[0], IMAGES)
            np.testing.assert_array_equal(arrays[1], LABELS)
    assert refused > IMAGES.nbytes + LABELS.nbytes


def test_a_header_that_states_fewer_images_is_refused(tmp_path):
    # One bit turns 600 into 200. numpy alone would stop reading early, before any checksum.
    file = tmp_path / "dots.npz"
    cache.write(file, np.ones((600, 28, 28, 1), np.uint8), np.ones(600, np.int32))
    whole = file.read_bytes()
    assert whole.count(b"(600, 28") == 1
    file.write_bytes(whole.replace(b"(600, 28", b"(200, 28"))
    assert cache.read(file) is None


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_truncated_file_is_refused_and_logged(file, kept, caplog):
    caplog.set_level(logging.INFO, logger="bsexp")
    whole = file.read_bytes()
    file.write_bytes(
        whole[: int(len(whole) * kept) if isinstance(kept, float) else kept]
    )
    assert cache.read(file) is None
    assert f"{file} is damaged" in caplog.text


def test_a_folder_that_cannot_be_written_is_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="bsexp")
    (tmp_path / cache.FOLDER).write_text("a file in the way")
    cache.write(tmp_path / cache.FOLDER / "dots.npz", IMAGES, LABELS)
    assert f"no cache in {tmp_path / cache.FOLDER}" in caplog.text


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(file, monkeypatch):
    def half(stream, **_):
        stream.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", half)
    cache.write(file, IMAGES + 1, LABELS)
    np.testing.assert_array_equal(cache.read(file)[0], IMAGES)
    assert list(file.parent.iterdir()) == [file]


def test_the_name_follows_the_metadata(tmp_path):
    folder = tmp_path / "stripes" / "wide" / "1.0.0"
    folder.mkdir(parents=True)
    names = set()
    for info, features in (("a", "b"), ("a", "c"), ("d", "c")):
        (folder / "dataset_info.json").write_text(info)
        (folder / "features.json").write_text(features)
        names.add(cache.locate(tmp_path, folder, "train").name)
    assert len(names) == 3
    assert all(name.startswith("stripes-wide-1.0.0-train-") for name in names)


def test_the_name_follows_a_data_set_that_was_prepared_anew(tmp_path):
    folder = tmp_path / "stripes" / "1.0.0"
    folder.mkdir(parents=True)
    for name in ("dataset_info.json", "features.json"):
        (folder / name).write_text("same")
    first = cache.locate(tmp_path, folder, "train")
    assert cache.locate(tmp_path, folder, "train") == first
    os.utime(folder / "dataset_info.json", ns=(1, 1))
    assert cache.locate(tmp_path, folder, "train") != first


def test_the_file_of_an_earlier_preparation_is_removed_and_no_other(tmp_path):
    folder = tmp_path / "stripes" / "1.0.0"
    folder.mkdir(parents=True)
    for name in ("dataset_info.json", "features.json"):
        (folder / name).write_text("same")
    first, test = (cache.locate(tmp_path, folder, split) for split in ("train", "test"))
    for file in (first, test):
        cache.write(file, IMAGES, LABELS)
    os.utime(folder / "dataset_info.json", ns=(1, 1))
    anew = cache.locate(tmp_path, folder, "train")
    cache.write(anew, IMAGES, LABELS)
    assert {*anew.parent.iterdir()} == {anew, test}
