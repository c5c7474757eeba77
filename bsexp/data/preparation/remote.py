"""Original files from the web or from a folder: whole and verified, or not there."""

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

import requests

TIMEOUT = 60  # seconds without a byte
CHUNK = 1 << 20

logger = logging.getLogger(__name__)


class UnavailableError(ValueError):
    """An original file cannot be had from where it was asked for."""


class Remote(NamedTuple):
    """A file as its owner serves it.

    Attributes:
        url: its address; the last part is its name.
        sha256: of the whole file, in hexadecimal.
    """

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def fetch(remote: Remote, folder: Path) -> Path:
    """Download a file into ``folder``, unless it is there, and return its path.

    It gets its name when all of it is there and verified; until then it is called ``<name>.partial``, and the
    next download writes over what a killed one left.

    Raises:
        UnavailableError: the server does not answer, or serves less than, or other than the original.
        OSError: ``folder`` cannot be written, or the disk is full.
    """
    file = folder / remote.name
    if file.exists() and _sha256(file) == remote.sha256:
        return file
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    logger.info("downloading %s", remote.url)
    try:
        _download(remote.url, partial)
        _verify(partial, remote, f"what {remote.url} served")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return file


def find(remote: Remote, folder: Path) -> Path:
    """Return a file that somebody put into ``folder``.

    Raises:
        UnavailableError: it is not there, or not the original.
    """
    file = folder / remote.name
    if not file.is_file():
        raise UnavailableError(f"there is no {remote.name} in {folder}")
    _verify(file, remote, str(file))
    return file


def _download(url: str, file: Path) -> None:
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            chunks = answer.iter_content(CHUNK)
            with file.open("wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
    except requests.RequestException as error:
        raise UnavailableError(f"cannot download {url} ({error})") from error


def _verify(file: Path, remote: Remote, what: str) -> None:
    if (found := _sha256(file)) != remote.sha256:
        raise UnavailableError(
            f"{what} is cut short or changed, and not the original {remote.name}: "
            f"its SHA-256 is {found}, that of the original {remote.sha256}"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
