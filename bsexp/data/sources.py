"""The door to data sets: a name and a folder in, arrays out. Knows nothing of JAX.

``mnist`` is embedded in the package. Every other name is a data set that TFDS prepared in
data_dir, in a file format with random access (array_record).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds

from bsexp.data import cache, folders, mnist, records
from bsexp.data.folders import DatasetNotFoundError

__all__ = [
    "Dataset",
    "DatasetNotFoundError",
    "Description",
    "Examples",
    "Split",
    "describe",
    "digest",
    "load",
    "load_split",
    "open_split",
]

SPLITS = ("train", "test")
DTYPE_AND_RANK = ((np.uint8, 3), (np.float32, 1))  # images, features


@dataclass(frozen=True)
class Split:
    """Examples in memory in a fixed order: images, uint8 [N, H, W, C], or features, float32 [N, D]; labels, int32 [N]."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C), or (D,) of features."""
        return self.images.shape[1:]

    def read(self, indices: np.ndarray) -> "Split":
        """Copy the examples at ``indices``."""
        return Split(self.images[indices], self.labels[indices])


class Examples(Protocol):
    """Examples in a fixed order: in memory, a `Split`; on disk, an `examples.Training`."""

    def __len__(self) -> int:
        """Return N."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C), or (D,) of features."""

    def read(self, indices: np.ndarray) -> Split:
        """Return the examples at ``indices``, in memory."""


@dataclass(frozen=True)
class Dataset:
    """A data set; labels lie in [0, num_classes). As loaded, all is in memory and there is no validation split."""

    name: str
    num_classes: int
    train: Examples
    test: Split
    validation: Split | None = None


@dataclass(frozen=True)
class Description:
    """What is known of a data set without reading an example; name includes the TFDS config."""

    name: str
    version: str
    train_examples: int
    test_examples: int
    image_shape: tuple[int, ...]  # (H, W, C), or (D,) of features
    num_classes: int
    validation_examples: int = 0
    dtype: np.dtype = np.dtype(np.uint8)
    synthetic: bool = False

    @property
    def image_bytes(self) -> int:
        """Bytes of an image, or of features, as it is kept."""
        return self.dtype.itemsize * math.prod(self.image_shape)


def describe(name: str, data_dir: str) -> Description:
    """Describe a data set without reading or preparing it.

    Args:
        name: "mnist", or the TFDS syntax "name[/config][:version]" (newest version by default).
        data_dir: the folder of the data sets; "" as in ``folders.resolve_dir``.

    Raises:
        DatasetNotFoundError: it is not in ``data_dir``.
        ValueError: it is there and cannot serve: damaged metadata, no train or test split, a file
            format without random access, or no ``image`` (fixed-size uint8, or float32 features) and ClassLabel ``label``.
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
    root = folders.resolve_dir(data_dir)
    folder = folders.find(name, root)
    return _describe(_open(folder), root, folder)


def digest(name: str, data_dir: str) -> str:
    """Return a digest of a data set's metadata, "" for what is embedded; raises as ``describe``."""
    if _is_embedded(name):
        return ""
    return folders.digest(folders.find(name, folders.resolve_dir(data_dir)))


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
    description, root, folder = _prepare(name, data_dir)
    train, test = (_load_split(description, root, folder, split) for split in SPLITS)
    return Dataset(description.name, description.num_classes, train, test)


def load_split(name: str, data_dir: str, split: str) -> Split:
    """Load one split, "train" or "test", as ``load`` does."""
    return _load_split(*_prepare(name, data_dir), split)


def open_split(name: str, data_dir: str, split: str) -> records.Records:
    """Open one split, "train" or "test", to read examples of it when they are needed; raises as ``load``."""
    description, _, folder = _prepare(name, data_dir)
    return _open_split(description, folder, split)


def _prepare(name: str, data_dir: str) -> tuple[Description, Path, Path]:
    """Describe a data set that stands in a folder afterwards; return the root and that folder as well."""
    root = folders.resolve_dir(data_dir)
    embedded = _is_embedded(name)
    folder = mnist.prepare(root) if embedded else folders.find(name, root)
    found = _describe(_open(folder), root, folder)
    if embedded and found != describe(name, data_dir):
        raise ValueError(
            f"{folder} holds {found.train_examples:,} and {found.test_examples:,} examples that are not MNIST's; "
            "remove it, or choose another folder of data sets"
        )
    return found, root, folder


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
        dtype=np.dtype(image.np_dtype),
        synthetic=bool((info.metadata or {}).get("synthetic")),
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
    if not _is_image_or_features(image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ValueError(
            f"{folder} does not have one 'image' (uint8, fixed height x width x channels, or float32 features of "
            "one dimension) and one 'label' "
            f"(ClassLabel); it has {features!r}"
        )
    return image, label


def _is_image_or_features(feature: Any) -> bool:
    return (
        isinstance(feature, tfds.features.Image | tfds.features.Tensor)
        and (feature.np_dtype, len(feature.shape)) in DTYPE_AND_RANK
        and None not in feature.shape
    )


def _open_split(description: Description, folder: Path, split: str) -> records.Records:
    return records.Records(
        folder,
        split,
        description.image_shape,
        description.dtype,
        description.num_classes,
    )


def _load_split(
    description: Description, root: Path, folder: Path, split: str
) -> Split:
    file = cache.locate(root, folder, split)
    if (cached := cache.read(file)) is not None:
        return Split(*cached)
    source = _open_split(description, folder, split)
    images, labels = source.read(range(len(source)))
    cache.write(file, images, labels)
    return Split(images, labels)
