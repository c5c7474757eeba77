import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import pytest

from bsexp.data import sources

ROOT = Path(__file__).parent.parent
# Meshes of up to eight devices; a program that a test starts has those of the machine.
jax.config.update("jax_num_cpu_devices", 8)
# What was compiled, until the tests end: many compile the same, a quarter of engine_test's time. Each worker has a
# folder of its own, since JAX does not write a file at one stroke. It is asked for once, at the first program.
PROGRAMS = Path(tempfile.mkdtemp(prefix="bsexp-tests-"))
jax.config.update("jax_compilation_cache_dir", str(PROGRAMS))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
# LLVM's expensive passes take half of the time, and tests compile more than they compute; JAX tests itself like this. What
# is claimed to the bit is tested as it is compiled for users: by `optimised`, and wherever a test starts the program.
jax.config.update("jax_disable_most_optimizations", True)


def pytest_unconfigure():
    shutil.rmtree(PROGRAMS)


@pytest.fixture(scope="module")
def optimised():
    """Compile as for users, in one file."""
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()


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
                "timeout": 1_200,
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
