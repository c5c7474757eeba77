"""Images of CIFAR's shape, made up, on disk for as long as a benchmark runs."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bsexp import config
from bsexp.data.preparation import synthetic


@contextlib.contextmanager
def prepared(examples: int) -> Iterator[config.Data]:
    """Prepare so many training examples of 32 x 32 x 3 in 100 classes."""
    with tempfile.TemporaryDirectory() as folder:
        stand_in = synthetic.resized(synthetic.CIFAR100_LIKE, examples)
        place = synthetic.prepare(stand_in, Path(folder))
        yield config.Data(name=place.parent.name, dir=folder)
