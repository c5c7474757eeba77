"""Memory in huge pages, where the system gives them to those who ask."""

import os
import sys
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
SETTING = "glibc.malloc.hugetlb"
SYSTEM = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# The first that knows the setting.
LEAST_GLIBC = (2, 35)


def ask() -> None:
    """Start this command anew, in the same process, with its large arrays in huge pages; call it before anything else.

    Programs for a CPU get and give back their memory at every call: in pages of 4 KiB a gradient of C1 at 256 examples took
    73 ms, in pages of 2 MiB 47 ms. glibc asks for them only where the environment says so when a process begins. Nothing
    happens where the system gives them to everybody or to nobody, where there is no such glibc, and where the
    environment has the setting already, whatever its value.
    """
    given = os.environ.get(VARIABLE, "")
    if SETTING in given or _system() != "madvise" or _glibc() < LEAST_GLIBC:
        return
    os.environ[VARIABLE] = ":".join(filter(None, (given, f"{SETTING}=1")))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  the very same command


def used() -> bool:
    """Say whether the large arrays of this process lie in huge pages."""
    asked = f"{SETTING}=1" in os.environ.get(VARIABLE, "")
    return _system() == "always" or (_system() == "madvise" and asked)


def _system() -> str:
    """Return to whom the system gives huge pages: always, madvise, those who ask, or never; empty where it has none."""
    try:
        text = SYSTEM.read_text(encoding="ascii")
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0]


def _glibc() -> tuple[int, ...]:
    """Return the version of glibc; nothing where there is none."""
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION") or ""
        return tuple(map(int, name.removeprefix("glibc ").split(".")))
    except (AttributeError, OSError, ValueError):
        return ()
