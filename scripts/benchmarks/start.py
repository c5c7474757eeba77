"""From the command to the first update: with an empty cache of compiled programs, and with a filled one."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import timing

ROOT = Path(__file__).parent.parent.parent
COMMAND = (
    "--config=experiments/sharp_minima.py:smoke",
    "--config.train.steps_per_dispatch=1",
)
# The program itself, up to the moment when its first update is done.
UNTIL_THE_FIRST_UPDATE = """
import os, sys
import jax
from bsexp import main
from bsexp.training import trainer

run = trainer.Trainer.run

def first(*arguments):
    jax.block_until_ready(run(*arguments))
    os._exit(0)

trainer.Trainer.run = first
sys.exit(main.main(sys.argv[1:]) or "no update was made")
"""


def rows() -> Iterator[dict[str, Any]]:
    """Start the smoke study in processes of their own, in turn with an empty and a filled cache."""
    with tempfile.TemporaryDirectory() as filled:
        cold, warm, ratios = timing.paired(
            _cold, functools.partial(_start, Path(filled))
        )
        programs = [file.stat().st_size for file in Path(filled).rglob("*-cache")]
    yield {
        "benchmark": "from the command to the first update of F1, empty against filled cache",
        "seconds_empty": cold,
        "seconds_filled": warm,
        **timing.spread("times_as_long", ratios),
        "programs": len(programs),
        "kibibytes": sum(programs) / 2**10,
    }


def _cold() -> None:
    with tempfile.TemporaryDirectory() as empty:
        _start(Path(empty))


def _start(cache: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(  # noqa: S603 - our own words
            [
                *(sys.executable, "-c", UNTIL_THE_FIRST_UPDATE),
                *(*COMMAND, f"--workdir={folder}"),
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
