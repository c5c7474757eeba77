import json

import numpy as np
import pytest
from PIL import Image

from bsexp.data.preparation import cifar


def test_a_record_is_its_label_and_three_planes_of_rows():
    planes = np.zeros((3, 32, 32), np.uint8)
    planes[0, 1, 2], planes[2, 31, 0] = 7, 9
    images, labels = cifar.parse([bytes([4]) + planes.tobytes()], 1)
    assert images.shape == (1, 32, 32, 3)
    assert labels.tolist() == [4]
    assert (images[0, 1, 2].tolist(), images[0, 31, 0].tolist()) == (
        [7, 0, 0],
        [0, 0, 9],
    )
    assert images.sum() == 16


def test_the_label_of_cifar100_is_the_fine_one_behind_the_coarse():
    _, labels = cifar.parse([bytes([3, 77]) + bytes(3072)], 2)
    assert labels.tolist() == [77]


def test_files_are_read_in_order():
    contents = [bytes([label]) + bytes(3072) for label in (5, 1, 8)]
    assert cifar.parse(contents, 1)[1].tolist() == [5, 1, 8]


@pytest.mark.parametrize("cut", [1, 3072])
def test_half_a_record_is_refused(cut):
    with pytest.raises(ValueError, match="does not hold whole records of 3073 bytes"):
        cifar.parse([bytes(3073 - cut)], 1)


def test_the_sheets_of_the_package_give_the_binary_files_byte_for_byte(tmp_path):
    random = np.random.default_rng(0)
    expected = {}
    labels = {"train": [], "test": []}
    package = tmp_path / "package"
    package.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        records = random.integers(256, size=(4, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        expected[f"{name}.bin"] = records.tobytes()
        labels["test" if name == "test_batch" else "train"] += records[:, 0].tolist()
        # A row of the sheet: 1024 pixels of (red, green, blue), row after row.
        pixels = records[:, 1:].reshape(4, 3, 1024).transpose(0, 2, 1)
        Image.fromarray(np.ascontiguousarray(pixels)).save(package / f"{name}.png")
    for split, values in labels.items():
        (package / f"{split}_lables.json").write_text(json.dumps(values))
    assert cifar.unpack_sheets(tmp_path) == expected
