"""A command that starts itself anew with its memory in huge pages, as real processes."""

import os
import subprocess
import sys

import pytest

from bsexp import huge_pages

PROGRAM = """
import os, sys
from pathlib import Path
from bsexp import huge_pages
huge_pages.SYSTEM = Path(sys.argv[1])
print(os.getpid(), flush=True)
huge_pages.ask()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.warnoptions, sys.argv[2:])
"""


def started(system, tunables):
    environment = {**os.environ}
    environment.pop(huge_pages.VARIABLE, None)
    if tunables is not None:
        environment[huge_pages.VARIABLE] = tunables
    words = ["-W", "error", "-c", PROGRAM, str(system), "--config=a b"]
    found = subprocess.run(
        [sys.executable, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split(" ", 1) for line in found.stdout.splitlines()]


@pytest.fixture
def system(tmp_path):
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    return file


@pytest.mark.skipif(
    huge_pages._glibc() < huge_pages.LEAST_GLIBC, reason="needs glibc 2.35"
)
@pytest.mark.parametrize(
    ("given", "then"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=0", "glibc.malloc.check=0:glibc.malloc.hugetlb=1"),
    ],
)
def test_the_same_process_starts_the_same_command_once_more(system, given, then):
    (first,), (second,), (again, rest) = started(system, given)
    assert first == second == again
    assert rest == f"{then} ['error'] ['--config=a b']"


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("[always] madvise never", None),
        ("always madvise [never]", None),
        ("always [madvise] never", "glibc.malloc.hugetlb=0"),
        (None, None),
    ],
)
def test_nothing_happens_where_it_would_change_nothing_or_was_decided(
    system, text, given
):
    if text is None:
        system.unlink()
    else:
        system.write_text(text)
    (first,), (then, rest) = started(system, given)
    assert first == then
    assert rest == f"{given} ['error'] ['--config=a b']"
