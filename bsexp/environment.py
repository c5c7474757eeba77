"""Where a result was computed: commit, versions, hardware. Never the environment variables."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from bsexp import huge_pages

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "numpy",
    "scipy",
)


def describe() -> dict[str, Any]:
    """Return the evidence that is stored beside every result."""
    return {
        "commit": _git("rev-parse", "HEAD") or None,
        "dirty": bool(
            _git(
                "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"
            )
        ),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "huge_pages": huge_pages.used(),
        "devices": [
            f"{device.platform}:{device.id} {device.device_kind}"
            for device in jax.devices()
        ],
    }


def _git(*words: str) -> str:
    """Ask git about the checkout that this file lies in; empty outside one."""
    command = ["git", "-C", str(Path(__file__).parent.parent), *words]
    try:
        return subprocess.run(  # noqa: S603 - our own words
            command, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [
        line.partition(":")[2].strip()
        for line in lines
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


def _memory_gib() -> float | None:
    try:
        return round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
        )
    except (ValueError, OSError):
        return None
