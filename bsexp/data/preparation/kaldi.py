"""Speech frames and their states as Kaldi exports them: TIMIT, whose licence lets nobody pass it on."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bsexp.data.preparation import writing
from bsexp.data.preparation.remote import UnavailableError, sha256

# Table 1 and Appendix A of Keskar et al. 2017 (arXiv:1609.04836).
COUNTS = {"train": 721_329, "test": 310_621}
TIMIT = writing.Content(
    name="timit",
    version="1.0.0",
    shape=(360,),
    dtype=np.float32,
    num_classes=1_973,
    megabytes=1_600,
    description="TIMIT: frames of speech, 360 features each, and the 1 973 states that a Kaldi model aligns them to.\n"
    "The examples stand in the order of the exported files.",
    homepage="https://catalog.ldc.upenn.edu/LDC93S1",
    license="LDC User Agreement for Non-Members",
    citation="""\
@misc{garofolo1993timit,
  title={{TIMIT} Acoustic-Phonetic Continuous Speech Corpus},
  author={Garofolo, John S. and others},
  howpublished={Linguistic Data Consortium, LDC93S1},
  year={1993}
}""",
)
ADVICE = (
    "put what Kaldi exported into one folder and say --manual_dir=FOLDER: train.npz and test.npz, each with "
    "`features` [N, 360] and `labels` [N]; or train_features.ark, train_labels.ark, test_features.ark and "
    "test_labels.ark (copy-feats and ali-to-pdf, after splice-feats)"
)

logger = logging.getLogger(__name__)


def prepare(root: Path, folder: Path) -> Path:
    """Write the frames in ``folder`` as TIMIT below ``root`` unless it is there, and return its folder.

    Args:
        root: the folder of the data sets.
        folder: holds, for each split, ``<split>.npz`` with arrays ``features`` and ``labels``, or the archives
            ``<split>_features.ark`` and ``<split>_labels.ark``, text or binary, compressed or not.

    Raises:
        UnavailableError: files are missing or broken, or do not hold 360 features and states below 1 973.
        OSError, ValueError: as ``writing.prepare``.
    """
    files = [file for split in writing.SPLITS for file in _files(folder, split)]
    digests = ", ".join(f"{file.name} {sha256(file)}" for file in files)
    content = TIMIT._replace(origin=f"SHA-256: {digests}")
    return writing.prepare(content, lambda split: _examples(folder, split), root)


def _files(folder: Path, split: str) -> list[Path]:
    """Return the files of a split, the one of both arrays or the two archives."""
    for names in (
        [f"{split}.npz"],
        [f"{split}_features.ark", f"{split}_labels.ark"],
    ):
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return files
    raise UnavailableError(f"split {split} is not in {folder}")


def _examples(folder: Path, split: str) -> Iterator[tuple[np.ndarray, int]]:
    number = 0
    for where, given, labels in _parts(_files(folder, split)):
        with np.errstate(over="ignore"):  # what has no float32 is infinite then
            features = given.astype(np.float32)
        _verify(where, features, labels)
        number += len(labels)
        yield from zip(features, labels, strict=True)
    if not number:
        raise UnavailableError(f"no utterance of split {split} in {folder} has labels")
    if number != COUNTS[split]:
        logger.warning(
            "split %s has %d frames, in Keskar et al. 2017 it has %d: another recipe of Kaldi",
            split,
            number,
            COUNTS[split],
        )


def _parts(files: list[Path]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield where it stands, the features and the labels, of each utterance or of all at once."""
    try:
        yield from _of_arrays(*files) if len(files) == 1 else _of_archives(*files)
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "archives of Kaldi are read by kaldiio: pip install kaldiio"
        ) from error
    # What numpy and kaldiio raise on a broken file depends on the byte that is broken.
    except Exception as error:
        names = " or ".join(str(file) for file in files)
        raise UnavailableError(
            f"{names} is cut short, damaged or of another format ({error})"
        ) from error


def _of_arrays(file: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    # Opened here and not by numpy, which leaves a broken file open.
    with file.open("rb") as stream, np.load(stream) as arrays:
        yield str(file), arrays["features"], arrays["labels"]


def _of_archives(
    features: Path, labels: Path
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    import kaldiio  # noqa: PLC0415 - an extra, for archives of Kaldi alone

    with labels.open("rb") as stream:
        states = dict(kaldiio.load_ark(stream))
    with features.open("rb") as stream:
        for utterance, frames in kaldiio.load_ark(stream):
            # Kaldi itself trains without an utterance that it could not align.
            if utterance in states:
                yield f"{utterance} in {features}", frames, states[utterance]


def _verify(where: str, features: np.ndarray, labels: np.ndarray) -> None:
    """Refuse what is no frames with states."""
    if features.shape != (len(labels), *TIMIT.shape) or labels.ndim != 1:
        raise UnavailableError(
            f"{where}: features {features.shape} and labels {labels.shape}; must be [n, 360] and [n]"
        )
    if not np.isfinite(features).all():
        raise UnavailableError(f"{where}: features are not finite")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UnavailableError(f"{where}: labels are {labels.dtype}, must be integers")
    if len(labels) and not 0 <= labels.min() <= labels.max() < TIMIT.num_classes:
        raise UnavailableError(
            f"{where}: labels from {labels.min()} to {labels.max()}; must be 0 to {TIMIT.num_classes - 1}"
        )
