"""Original files from the web or from a folder: whole and verified, or not there."""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

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
    next download writes over what a killed one left. Of several processes one downloads, and the others wait for it.

    Raises:
        UnavailableError: the server does not answer, or serves less than, or other than the original.
        OSError: ``folder`` cannot be written, or the disk is full.
    """
    file = folder / remote.name
    if _is_whole(file, remote):
        return file
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    with _alone(partial) as stream:
        # Another process may have finished it meanwhile.
        if not _is_whole(file, remote):
            logger.info("downloading %s", remote.url)
            _download(remote.url, stream)
            _verify(partial, remote, f"what {remote.url} served")
            partial.replace(file)
    return file


def _is_whole(file: Path, remote: Remote) -> bool:
    return file.exists() and sha256(file) == remote.sha256


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[BinaryIO]:
    """Open an unfinished file, empty, when no other process writes it any more; nothing is left of it afterwards."""
    while True:
        # Not emptied before it is ours.
        with partial.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not _is(stream, partial):  # it was finished, or given up
                continue
            stream.truncate(0)
            try:
                yield stream
            finally:
                partial.unlink(missing_ok=True)
            return


def _is(stream: BinaryIO, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), file.stat())
    except FileNotFoundError:
        return False


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


def _download(url: str, file: BinaryIO) -> None:
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            chunks = answer.iter_content(CHUNK)
            file.writelines(chunks)
            file.flush()
    except requests.RequestException as error:
        raise UnavailableError(f"cannot download {url} ({error})") from error


def _verify(file: Path, remote: Remote, what: str) -> None:
    if (found := sha256(file)) != remote.sha256:
        raise UnavailableError(
            f"{what} is cut short or changed, and not the original {remote.name}: "
            f"its SHA-256 is {found}, that of the original {remote.sha256}"
        )


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; it is not read into memory."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
