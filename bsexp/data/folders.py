"""Where prepared data sets lie: ``<data_dir>/<name>[/<config>]/<version>``, the layout of TFDS."""

import difflib
import hashlib
import os
import re
from pathlib import Path

import tensorflow_datasets as tfds

from bsexp import bounds

INFO_FILE = "dataset_info.json"
FEATURES_FILE = "features.json"
METADATA = (INFO_FILE, FEATURES_FILE)
NAME_SYNTAX = re.compile(r"(?P<path>\w[\w.+-]*(/\w[\w.+-]*)?)(:(?P<version>[\d.*]+))?")


class DatasetNotFoundError(ValueError):
    """No prepared data set of that name, configuration and version stands in data_dir."""


def resolve_dir(data_dir: str) -> Path:
    """Return the folder of the data sets: ``data_dir``, else $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
        bounds.FieldError: it begins with a home that nobody knows.
    """
    named = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        raise bounds.FieldError(
            "data.dir",
            f"{named} cannot be found ({error}); name a folder, or set TFDS_DATA_DIR",
        ) from error


def is_prepared(folder: Path) -> bool:
    """Say whether a version's folder is complete; TFDS writes dataset_info.json last, then renames."""
    return tfds.core.Version.is_valid(folder.name) and (folder / INFO_FILE).is_file()


def find(name: str, root: Path) -> Path:
    """Return the folder of a prepared data set.

    Args:
        name: "name", "name/config", "name:version" or "name/config:version"; a version may hold
            wildcards, as in "3.*.*". The newest version that fits is taken.
        root: the folder of the data sets.

    Raises:
        DatasetNotFoundError: nothing fits; the message lists what stands in ``root``.
    """
    syntax = NAME_SYNTAX.fullmatch(name)
    if syntax is None:
        raise _not_found(name, root)
    try:
        fitting = [
            v
            for v in _versions(root / syntax["path"])
            if syntax["version"] is None or v.match(syntax["version"])
        ]
    except ValueError as error:  # "3" or "1.2": TFDS wants three parts
        raise _not_found(name, root, str(error)) from error
    if not fitting:
        raise _not_found(name, root)
    return root / syntax["path"] / str(max(fitting))


def digest(folder: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a data set's metadata: sizes of its files, and for some of what they hold."""
    content = b"".join((folder / name).read_bytes() for name in METADATA)
    return hashlib.sha256(content).hexdigest()[:16]


def available(root: Path) -> list[str]:
    """List the prepared data sets below ``root`` as "name[/config]:version", sorted by name and version."""
    infos = [*root.glob(f"*/*/{INFO_FILE}"), *root.glob(f"*/*/*/{INFO_FILE}")]
    prepared = [info.parent for info in infos if is_prepared(info.parent)]
    prepared.sort(key=lambda folder: (folder.parent, tfds.core.Version(folder.name)))
    return [
        f"{folder.parent.relative_to(root).as_posix()}:{folder.name}"
        for folder in prepared
    ]


def _versions(folder: Path) -> list[tfds.core.Version]:
    if not folder.is_dir():
        return []
    return [
        tfds.core.Version(child.name)
        for child in folder.iterdir()
        if is_prepared(child)
    ]


def _not_found(name: str, root: Path, reason: str = "") -> DatasetNotFoundError:
    there = available(root)
    # A name resembles a name with or without its version.
    known = {
        entry: None for full in there for entry in (full.partition(":")[0], full)
    } | {"mnist": None}
    close = difflib.get_close_matches(name, known, n=3)
    return DatasetNotFoundError(
        f"no data set {name!r} in {root}"
        + (f" ({reason})" if reason else "")
        + (f"; did you mean {' or '.join(close)}?" if close else "")
        + f"; there: {', '.join(there) if there else 'nothing'}; always there: mnist (embedded)"
        + "; to get another one: python scripts/prepare_data.py --help; one that is not listed there, prepare where "
        "TensorFlow is installed and copy the folder: "
        + f"tfds build {name.partition(':')[0]} --data_dir=DIR --file_format=array_record"
    )
