"""MNIST, embedded in the package, as a data set that needs neither TensorFlow nor a network."""

import hashlib
from pathlib import Path

import numpy as np

from bsexp.data import idx
from bsexp.data.preparation import writing

NAME = "mnist"
VERSION = "1.0.0"
TRAIN_EXAMPLES = 60_000
TEST_EXAMPLES = 10_000
IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10

EMBEDDED = Path(__file__).parent / "embedded" / "mnist"
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# Of the decompressed files: compressing them again changes nothing that is measured.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

DESCRIPTION = """\
The MNIST database of handwritten digits: 60 000 training and 10 000 test images, 28 x 28 pixels.
The examples stand in the order of the original IDX files.
"""
LICENSE = "Creative Commons Attribution-Share Alike 3.0 (CC BY-SA 3.0)"
CITATION = """\
@article{lecun1998gradient,
  title={Gradient-based learning applied to document recognition},
  author={LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal={Proceedings of the IEEE},
  volume={86},
  number={11},
  pages={2278--2324},
  year={1998},
  doi={10.1109/5.726791}
}
"""


CONTENT = writing.Content(
    name=NAME,
    version=VERSION,
    shape=IMAGE_SHAPE,
    dtype=np.uint8,
    num_classes=NUM_CLASSES,
    megabytes=100,
    description=DESCRIPTION,
    homepage="http://yann.lecun.com/exdb/mnist/",
    license=LICENSE,
    citation=CITATION,
)


def read_embedded(split: str, folder: Path = EMBEDDED) -> tuple[np.ndarray, np.ndarray]:
    """Read a split from its IDX files.

    Args:
        split: "train" or "test".
        folder: where the four .gz files lie.

    Returns:
        Images, uint8 [N, 28, 28, 1], and labels, uint8 [N].

    Raises:
        ValueError: a file is cut short, damaged, or not the original (SHA-256).
    """
    images, labels = (_read_verified(folder / f"{stem}.gz") for stem in FILES[split])
    return images[..., np.newaxis], labels


def _read_verified(file: Path) -> np.ndarray:
    content = idx.decompress(file)
    if hashlib.sha256(content).hexdigest() != SHA256[file.stem]:
        raise ValueError(
            f"{file} is not the original {file.stem}: its SHA-256 differs; install bsexp again"
        )
    return idx.parse(content, file)


def prepare(root: Path) -> Path:
    """Write the embedded MNIST below ``root`` unless it is there, and return its folder.

    Takes 5 to 10 s and 24 MB; as ``writing.prepare``.
    """
    return writing.prepare(
        CONTENT, lambda split: zip(*read_embedded(split), strict=True), root
    )
