"""A process to be killed: it prepares a data set and waits for its end half-way."""

import sys
import time
from pathlib import Path

import numpy as np

from bsexp.data.preparation import catalogue, remote, writing


def wait_after(number):
    for index in range(number):
        yield np.zeros((32, 32, 3), np.uint8), index % 100
    # TFDS prints, and so the writer keeps standard output to itself.
    print("half-way", file=sys.stderr, flush=True)
    time.sleep(300)


if __name__ == "__main__":
    what, root, url = sys.argv[1:]
    if what == "download":
        remote.fetch(
            remote.Remote(url, "0" * 64), Path(root) / "downloads" / "cifar100"
        )
    else:
        writing.prepare(
            catalogue.CIFAR100.content, lambda _: wait_after(20_000), Path(root)
        )
