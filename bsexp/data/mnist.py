"""MNIST, embedded in the package, as a TFDS builder that needs neither TensorFlow nor a network."""

import contextlib
import hashlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from bsexp.data import folders, idx

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

logger = logging.getLogger(__name__)


# Not registered: TFDS keeps a builder of its own, also named mnist, at versions 3.*.
class EmbeddedMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Write the embedded IDX files as a TFDS data set, examples in the files' order."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=IMAGE_SHAPE, dtype=np.uint8, encoding="bytes"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="http://yann.lecun.com/exdb/mnist/",
            citation=CITATION,
            license=LICENSE,
            # TFDS would order by a hash of the keys; integer keys and this keep the files' order.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in FILES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        images, labels = read_embedded(split)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield index, {"image": image, "label": int(label)}


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

    Takes 5 to 10 s and 24 MB. Processes may do it at the same time, and a killed one leaves only
    an ``incomplete.*`` folder that nobody reads: TFDS writes beside the folder and renames.

    Raises:
        OSError: ``root`` cannot be written, or the disk is full; the message names the folder.
        ValueError: the folder stands there without dataset_info.json.
    """
    folder = root / NAME / VERSION
    if folders.is_prepared(folder):
        return folder
    logger.info("preparing %s in %s, once", NAME, folder)
    try:
        _write(root)
    # Not only OSError: the writer of array_record reports a full disk as RuntimeError.
    except (OSError, RuntimeError) as error:
        # Another process may have renamed its folder into place first: then this rename fails.
        if not folders.is_prepared(folder):
            raise OSError(
                f"cannot prepare {NAME} in {folder} ({error}); choose a data_dir with 100 MB to write"
            ) from error
    # TFDS takes any folder of that name for a prepared one.
    if not folders.is_prepared(folder):
        raise ValueError(
            f"{folder} is incomplete: it has no {folders.INFO_FILE}; remove it to prepare it anew"
        )
    return folder


def _write(root: Path) -> None:
    tfds.disable_progress_bar()
    # TFDS prints that it downloads, whatever it does.
    with contextlib.redirect_stdout(io.StringIO()):
        EmbeddedMnist(data_dir=root).download_and_prepare(file_format="array_record")
