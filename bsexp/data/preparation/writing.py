"""Write examples as a TFDS folder of array_record files, at once or not at all, without TensorFlow."""

import itertools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from bsexp.data import folders

SPLITS = ("train", "test")
BLOCK = 4_096  # examples encoded at once
SHARD = 100_000  # examples of a file: 300 MB of CIFAR, 150 MB of TIMIT

Examples = Iterable[tuple[np.ndarray, int]]  # inputs and label

logger = logging.getLogger(__name__)


class Content(NamedTuple):
    """What a data set is.

    Attributes:
        name: as TFDS names it.
        version: not one that TFDS has: its preparations order the examples otherwise.
        shape: of one input.
        dtype: of the inputs: uint8 for images, float32 for features.
        num_classes: labels lie in 0 .. num_classes - 1.
        megabytes: on disk while it is prepared, for messages.
        description: a line or two.
        homepage: a URL.
        license: what the owner permits.
        citation: BibTeX.
        synthetic: whether it only has the shape of the data it is named after.
        origin: what tells the files that it is made of from others, such as their SHA-256; empty where the name does.
    """

    name: str
    version: str
    shape: tuple[int, ...]
    dtype: type[np.generic]
    num_classes: int
    megabytes: int
    description: str
    homepage: str
    license: str
    citation: str
    synthetic: bool = False
    origin: str = ""


def prepare(content: Content, examples: Callable[[str], Examples], root: Path) -> Path:
    """Write a data set below ``root`` unless it is there, and return its folder.

    Processes may do it at the same time, and a killed one leaves only an ``incomplete.*`` folder that nobody
    reads: all is written beside the folder, which gets its name when it is complete.

    Args:
        content: what it is.
        examples: split ("train", "test") to its examples, in the order that training sees as 0, 1, 2, ...
        root: the folder of the data sets.

    Raises:
        OSError: ``root`` cannot be written, or the disk is full; the message names the folder.
        ValueError: the folder stands there without dataset_info.json, or was made of other files; or as ``examples``.
    """
    folder = locate(content, root)
    if folders.is_prepared(folder):
        information = (folder / folders.INFO_FILE).read_text(encoding="utf-8")
        if content.origin not in information:
            raise ValueError(
                f"{folder} was made of another file; remove it, or choose another name"
            )
        return folder
    # Asked again: another process may have renamed its folder into place meanwhile.
    if folder.exists() and not folders.is_prepared(folder):
        raise ValueError(
            f"{folder} is incomplete: it has no {folders.INFO_FILE}; remove it to prepare it anew"
        )
    logger.info("preparing %s in %s, once", content.name, folder)
    try:
        write(content, examples, root)
    # Not only OSError: the writer of array_record reports a full disk as RuntimeError.
    except (OSError, RuntimeError) as error:
        # Another process may have renamed its folder into place first: then this rename fails.
        if not folders.is_prepared(folder):
            raise OSError(
                f"cannot prepare {content.name} in {folder} ({error}); "
                f"choose a data_dir with {content.megabytes} MB to write"
            ) from error
    return folder


def locate(content: Content, root: Path) -> Path:
    """Return the folder of a data set, there or not."""
    return root / content.name / content.version


def write(content: Content, examples: Callable[[str], Examples], root: Path) -> None:
    """Write it, as ``prepare``, which looks after what can go wrong; no more than a block is in memory."""
    # Not a builder of TFDS: from 1 GB on these sort on disk, and that needs TensorFlow.
    with tfds.core.utils.incomplete_dir(locate(content, root)) as folder:
        writer = tfds.core.SequentialWriter(
            _info(content, folder), SHARD, file_format="array_record"
        )
        writer.initialize_splits(list(SPLITS))
        for split in SPLITS:
            drawn = iter(examples(split))
            while block := list(itertools.islice(drawn, BLOCK)):
                records = [
                    {"image": image, "label": int(label)} for image, label in block
                ]
                writer.add_examples({split: records})
        writer.close_all()


def _info(content: Content, folder: str) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(
            name=content.name,
            version=tfds.core.Version(content.version),
            data_dir=folder,
            module_name=__name__,
        ),
        description=f"{content.description} {content.origin}".strip(),
        features=_features(content),
        supervised_keys=("image", "label"),
        homepage=content.homepage,
        citation=content.citation,
        license=content.license,
        metadata=tfds.core.MetadataDict(synthetic=True) if content.synthetic else None,
        disable_shuffling=True,
    )


def _features(content: Content) -> tfds.features.FeaturesDict:
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Tensor(
                shape=content.shape, dtype=content.dtype, encoding="bytes"
            ),
            "label": tfds.features.ClassLabel(num_classes=content.num_classes),
        }
    )
