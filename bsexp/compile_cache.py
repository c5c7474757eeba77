"""Compiled programs are kept in the user's cache folder, so that only the first start compiles them."""

import contextlib
import hashlib
import os
import platform
import warnings
from pathlib import Path

import jax

# JAX reads the folder from it by itself.
VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# The 200 programs of experiments/sharp_minima.py:smoke take 2 MiB on CPU.
MOST_BYTES = 2**28


def enable() -> None:
    """Keep compiled programs in $XDG_CACHE_HOME/bsexp/ or ~/.cache/bsexp/; call it before anything is compiled.

    JAX compiles anew for another version of itself, other flags and another kind of device. Several processes may share
    the folder, and those of one study should: only the first one of them writes it, and the others read what it wrote.
    Where $JAX_COMPILATION_CACHE_DIR is set it is JAX's folder instead, or none if it is empty; nothing is kept where the
    folder cannot be written.
    """
    # What cannot be read or written is compiled: that costs time, and nobody needs to be told of each program.
    warnings.filterwarnings("ignore", r"Error \w+ persistent compilation cache")
    given = os.environ.get(VARIABLE)
    if given is None:
        jax.config.update("jax_compilation_cache_dir", _folder())
    elif not given:
        # JAX itself would cache the tuning of GPU programs in the working folder.
        jax.config.update("jax_compilation_cache_dir", None)
    # By default programs that compile in under a second are not kept; here these are most, and most of the time.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _folder() -> str | None:
    """Return the folder, ready to be written; None where it cannot be."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "bsexp" / f"programs-{_processor()}"
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder)
    except (OSError, RuntimeError):  # RuntimeError: nobody knows the user's home
        return None
    return str(folder) if os.access(folder, os.W_OK) else None


def _processor() -> str:
    """Name the processor's kind: unlike machines may share a home, and their programs must not be exchanged."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    words = ("model name", "flags", "Features")
    kind = sorted({line for line in lines if line.startswith(words)})
    described = "\n".join([platform.machine(), *kind])
    return hashlib.sha256(described.encode()).hexdigest()[:8]


def _prune(folder: Path) -> None:
    """Remove the programs that were not read for the longest time, down to MOST_BYTES."""
    found = []
    for file in folder.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):  # another process prunes, too
            found.append((file, file.stat()))
    total = 0
    for file, stat in sorted(found, key=lambda each: -each[1].st_atime):
        total += stat.st_size
        if total > MOST_BYTES:
            file.unlink(missing_ok=True)
