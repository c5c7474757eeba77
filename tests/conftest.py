import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from bsexp.data import sources

ROOT = Path(__file__).parent.parent
# Meshes of up to eight devices; a program that a test starts has those of the machine.
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session")
def mnist_dir(tmp_path_factory):
    """A folder in which the embedded MNIST is prepared."""
    folder = tmp_path_factory.mktemp("data")
    sources.load("mnist", str(folder))
    return folder


@pytest.fixture(scope="session")
def mnist(mnist_dir):
    return sources.load("mnist", str(mnist_dir))


@pytest.fixture(scope="session")
def command_line(mnist_dir):
    """Run the program as a user does, with warnings as errors; returns the finished process."""

    def run(*words, program=("-m", "bsexp.main"), **options):
        return subprocess.run(
            [sys.executable, "-W", "error", *program, *words],
            **{
                "cwd": ROOT,
                "capture_output": True,
                "text": True,
                "timeout": 300,
                **options,
            },
            env={
                **os.environ,
                "TFDS_DATA_DIR": str(mnist_dir),
                "XDG_CACHE_HOME": str(mnist_dir.parent / "cache"),
                "COLUMNS": "160",
            },
            check=False,
        )

    return run
