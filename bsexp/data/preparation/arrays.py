"""A data set of one's own, from arrays in a file of NumPy."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bsexp.data.preparation import writing
from bsexp.data.preparation.remote import sha256

KINDS = "uint8 [N, H, W] or [N, H, W, C], or float32 features [N, D]"
ADVICE = (
    "an .npz file with train_images, train_labels, test_images and test_labels; "
    f"images: {KINDS}; labels: whole numbers [N] from 0 on, of two classes or more, each with a training example"
)

Split = tuple[np.ndarray, np.ndarray]  # images and labels


def prepare(name: str, file: Path, root: Path) -> Path:
    """Write the arrays of a file as a data set below ``root`` unless they are there, and return its folder.

    Args:
        name: of the data set.
        file: see ADVICE; np.savez writes it. It is read into memory.
        root: the folder of the data sets.

    Raises:
        ValueError: the file does not hold such arrays, or a data set of that name was made of another file.
        OSError: the file cannot be read, or as ``writing.prepare``.
    """
    splits = _read(file)
    content = _content(name, splits, sha256(file))
    return writing.prepare(
        content, lambda split: zip(*splits[split], strict=True), root
    )


def _read(file: Path) -> dict[str, Split]:
    names = {split: (f"{split}_images", f"{split}_labels") for split in writing.SPLITS}
    try:
        # Opened here and not by numpy, which leaves a broken file open.
        with file.open("rb") as stream, np.load(stream) as arrays:
            others = {*arrays.files} - {
                each for pair in names.values() for each in pair
            }
            splits = {
                split: tuple(arrays[each] for each in pair)
                for split, pair in names.items()
            }
    except OSError:
        raise
    # What numpy raises on a broken file depends on the byte that is broken.
    except Exception as error:
        raise ValueError(f"{file} does not hold them ({error}): {ADVICE}") from error
    if others:
        raise ValueError(f"{file} holds {', '.join(sorted(others))} as well: {ADVICE}")
    for split, (images, labels) in splits.items():
        like, known = splits["train"]
        if wrong := _wrong(images, labels, like) or _unknown(labels, known):
            raise ValueError(f"{file}, split {split}: {wrong}: {ADVICE}")
    return {
        split: (images[..., None] if images.ndim == 3 else images, labels)
        for split, (images, labels) in splits.items()
    }


def _wrong(images: np.ndarray, labels: np.ndarray, like: np.ndarray) -> str:
    """Say what is wrong with a split whose images must be as those of the training split; "" for nothing."""
    given = f"images are {images.dtype} {list(images.shape)}"
    if (str(images.dtype), images.ndim) not in {("uint8", 3), ("uint8", 4), ("float32", 2)}:  # fmt: skip
        return given
    if (images.dtype, images.shape[1:]) != (like.dtype, like.shape[1:]):
        return f"{given}, those of the training split {like.dtype} {list(like.shape)}"
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        return f"{given}, labels {labels.dtype} {list(labels.shape)}"
    if not images.size:
        return f"it is empty: {given}"
    if labels.min() < 0:
        return f"the smallest label is {labels.min()}"
    return "" if np.isfinite(images).all() else "images are not finite"


def _unknown(labels: np.ndarray, known: np.ndarray) -> str:
    """Say what is wrong with the labels of a split, given those of the training split; "" for nothing."""
    classes = np.unique(known)
    # A class that nobody trains makes every loss and label noise one of more classes.
    if (classes != np.arange(len(classes))).any() or len(classes) < 2:
        listed = ", ".join(map(str, classes[:10])) + (
            ", ..." if len(classes) > 10 else ""
        )
        return (
            f"the training labels are {listed}; must be 0, 1 and so on, without a gap"
        )
    if labels.max() >= len(classes):
        return f"label {labels.max()} has no training example"
    return ""


def _content(name: str, splits: Mapping[str, Split], digest: str) -> writing.Content:
    images, labels = splits["train"]
    return writing.Content(
        name=name,
        version="1.0.0",
        shape=images.shape[1:],
        dtype=images.dtype.type,
        num_classes=int(labels.max()) + 1,
        megabytes=sum(images.nbytes for images, _ in splits.values()) // 10**6 + 1,
        description="Arrays of one's own.",
        homepage="",
        license="",
        citation="",
        origin=f"SHA-256 of their file: {digest}",
    )
