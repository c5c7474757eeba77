"""One file per split that holds its arrays as they are, so that the next start reads no records."""

import hashlib
import logging
import uuid
import zipfile
import zlib
from pathlib import Path

import numpy as np

from bsexp.data import folders

FOLDER = "bsexp_cache"
# What zipfile and numpy raise on a damaged archive, depending on which bytes are hit.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)

logger = logging.getLogger(__name__)


def locate(root: Path, folder: Path, split: str) -> Path:
    """Return the cache file of a split; its name holds a hash of the data set's metadata and of when it was written.

    Args:
        root: the folder of the data sets.
        folder: the prepared data set, somewhere below ``root``.
        split: the split's name.
    """
    digest = hashlib.sha256()
    for file in (folder / name for name in folders.METADATA):
        digest.update(file.read_bytes())
        # A data set that was prepared anew may have the same metadata.
        digest.update(file.stat().st_mtime_ns.to_bytes(8))
    identity = [*folder.relative_to(root).parts, split, digest.hexdigest()[:8]]
    return root / FOLDER / f"{'-'.join(identity)}.npz"


def read(file: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the images and labels of a cache file, or None where there is none that is intact."""
    if not file.exists():
        return None
    try:
        # Opened here and not by numpy, which leaves it open when Ctrl-C comes at the wrong moment.
        with file.open("rb") as stream:
            with zipfile.ZipFile(stream) as archive:
                # Before numpy looks at it: the CRC also covers the header that numpy would parse.
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
            stream.seek(0)
            with np.load(stream) as arrays:
                return arrays["images"], arrays["labels"]
    except DAMAGE as error:
        logger.info("%s is damaged (%s): it is built again", file, error)
        return None


def write(file: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write a cache file at once or not at all; where the folder cannot be written, go on without.

    Those of earlier preparations of the same split, whose names differ in the hash, are removed.
    """
    # The name is unique, since processes may start together, also on other machines.
    temporary = file.with_name(f"{file.stem}.{uuid.uuid4().hex}.partial")
    try:
        file.parent.mkdir(exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                np.savez(stream, images=images, labels=labels)
            temporary.replace(file)
            for earlier in file.parent.glob(f"{file.stem[:-8]}{'?' * 8}.npz"):
                if earlier != file:
                    earlier.unlink(missing_ok=True)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        logger.info(
            "no cache in %s (%s): every start reads the records again",
            file.parent,
            error,
        )
