"""The door to data sets: a name and a folder in, arrays out. Knows nothing of JAX.

``mnist`` is embedded in the package. Every other name is a data set that TFDS prepared in
data_dir, in a file format with random access (array_record).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from bsexp.data import cache, folders, mnist
from bsexp.data.folders import DatasetNotFoundError, resolve_dir

__all__ = [
    "Dataset",
    "DatasetNotFoundError",
    "Description",
    "Split",
    "describe",
    "load",
    "resolve_dir",
]

SPLITS = ("train", "test")
READ_AT_ONCE = (
    4096  # examples; bounds the memory that decoded records take beside the array
)


@dataclass(frozen=True)
class Split:
    """Examples in a fixed order: images, uint8 [N, H, W, C], and labels, int32 [N]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A data set in memory; labels lie in [0, num_classes). As loaded, it has no validation split."""

    name: str
    num_classes: int
    train: Split
    test: Split
    validation: Split | None = None


@dataclass(frozen=True)
class Description:
    """What is known of a data set without reading an example; name includes the TFDS config."""

    name: str
    version: str
    train_examples: int
    test_examples: int
    image_shape: tuple[int, int, int]
    num_classes: int
    validation_examples: int = 0


def describe(name: str, data_dir: str) -> Description:
    """Describe a data set without reading or preparing it.

    Args:
        name: "mnist", or the TFDS syntax "name[/config][:version]" (newest version by default).
        data_dir: the folder of the data sets; "" as in ``resolve_dir``.

    Raises:
        DatasetNotFoundError: it is not in ``data_dir``.
        ValueError: it is there and cannot serve: damaged metadata, no train or test split, a file
            format without random access, or no fixed-size uint8 ``image`` and ClassLabel ``label``.
    """
    if _is_embedded(name):
        return Description(
            name=mnist.NAME,
            version=mnist.VERSION,
            train_examples=mnist.TRAIN_EXAMPLES,
            test_examples=mnist.TEST_EXAMPLES,
            image_shape=mnist.IMAGE_SHAPE,
            num_classes=mnist.NUM_CLASSES,
        )
    root = resolve_dir(data_dir)
    folder = folders.find(name, root)
    return _describe(_open(folder), root, folder)


def load(name: str, data_dir: str) -> Dataset:
    """Load both splits of a data set into memory, in the order in which they were prepared.

    The embedded ``mnist`` is prepared on first use. Each split is then kept as one file in
    ``<data_dir>/bsexp_cache``, where that can be written.

    Args:
        name: as in ``describe``.
        data_dir: as in ``describe``.

    Raises:
        ValueError: as ``describe``; or the records cannot be read; or an example has no label.
        OSError: the embedded ``mnist`` cannot be written to ``data_dir``.
    """
    root = resolve_dir(data_dir)
    folder = mnist.prepare(root) if _is_embedded(name) else folders.find(name, root)
    builder = _open(folder)
    description = _describe(builder, root, folder)
    train, test = (
        _load_split(builder, split, description, cache.locate(root, folder, split))
        for split in SPLITS
    )
    return Dataset(description.name, description.num_classes, train, test)


def _is_embedded(name: str) -> bool:
    return name in (mnist.NAME, f"{mnist.NAME}:{mnist.VERSION}")


def _open(folder: Path) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder_from_directory(folder)
    # TFDS raises what its parsers raise: protobuf's errors share no base with ValueError.
    except Exception as error:
        raise ValueError(
            f"TFDS cannot read the metadata in {folder} ({error}); "
            "remove that folder and prepare it again"
        ) from error


def _describe(
    builder: tfds.core.DatasetBuilder, root: Path, folder: Path
) -> Description:
    info = builder.info
    if missing := [split for split in SPLITS if split not in info.splits]:
        raise ValueError(
            f"{folder} has no split {' and no split '.join(missing)}; it has {', '.join(info.splits)}"
        )
    _check_random_access(info, folder)
    image, label = _image_and_label(info.features, folder)
    *name, version = folder.relative_to(root).parts
    return Description(
        name="/".join(name),
        version=version,
        train_examples=info.splits["train"].num_examples,
        test_examples=info.splits["test"].num_examples,
        image_shape=tuple(image.shape),
        num_classes=label.num_classes,
    )


def _check_random_access(info: tfds.core.DatasetInfo, folder: Path) -> None:
    formats = {info.file_format, *info.alternative_file_formats}
    if not formats & tfds.core.FileFormat.with_random_access():
        there = (
            ", ".join(sorted(known.value for known in formats if known)) or "unknown"
        )
        raise ValueError(
            f"{folder} holds files in the format {there}, which cannot be read at random; "
            "prepare it with --file_format=array_record"
        )


def _image_and_label(
    features: Any, folder: Path
) -> tuple[Any, tfds.features.ClassLabel]:
    """Return the two features; others, such as the ``id`` of cifar10, are left aside."""
    found = (
        dict(features.items())
        if isinstance(features, tfds.features.FeaturesDict)
        else {}
    )
    image, label = found.get("image"), found.get("label")
    if not _is_fixed_size_image(image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ValueError(
            f"{folder} does not have one 'image' (uint8, fixed height x width x channels) and one 'label' "
            f"(ClassLabel); it has {features!r}"
        )
    return image, label


def _is_fixed_size_image(feature: Any) -> bool:
    return (
        isinstance(feature, tfds.features.Image | tfds.features.Tensor)
        and feature.np_dtype == np.uint8
        and len(feature.shape) == 3
        and None not in feature.shape
    )


def _load_split(
    builder: tfds.core.DatasetBuilder, split: str, description: Description, file: Path
) -> Split:
    if (cached := cache.read(file)) is not None:
        return Split(*cached)
    images, labels = _read_records(builder, split, description)
    if labels.min() < 0 or labels.max() >= description.num_classes:
        raise ValueError(
            f"split {split} of {builder.data_dir} has labels from {labels.min()} to {labels.max()}, "
            f"outside 0 to {description.num_classes - 1} (TFDS writes -1 where the label is hidden)"
        )
    cache.write(file, images, labels)
    return Split(images, labels)


def _read_records(
    builder: tfds.core.DatasetBuilder, split: str, description: Description
) -> tuple[np.ndarray, np.ndarray]:
    try:
        source = builder.as_data_source(split)
        images = np.empty((len(source), *description.image_shape), np.uint8)
        labels = np.empty(len(source), np.int32)
        for start in range(0, len(source), READ_AT_ONCE):
            examples = source.__getitems__(
                list(range(start, min(start + READ_AT_ONCE, len(source))))
            )
            here = slice(start, start + len(examples))
            images[here] = [example["image"] for example in examples]
            labels[here] = [example["label"] for example in examples]
    # A damaged shard shows in the reader, the protobuf parser or the image decoder: no common base.
    except Exception as error:
        raise ValueError(
            f"cannot read split {split} in {builder.data_dir} ({type(error).__name__}: {error}); "
            "remove that folder and prepare it again"
        ) from error
    return images, labels
