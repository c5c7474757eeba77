"""A training process that is to be killed: it trains two epochs, says so, and goes on for ever."""

import time
from pathlib import Path

from training import jobs

from bsexp.data import sources
from bsexp.training import loop


def victim(data_dir, folder):
    portions = []

    def heard(*_):
        portions.append(1)
        if (
            len(portions) == 10
        ):  # four portions an epoch: two epochs are over, the third has begun
            wait_for(Path(folder) / "checkpoints" / "30")
            print("two epochs are saved", flush=True)
            time.sleep(600)

    loop.train(jobs.make(sources.load("mnist", data_dir), folder, heard=heard))


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
