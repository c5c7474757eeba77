import os
import subprocess
import sys

import pytest

from bsexp import compile_cache

# Compiles two programs, and says how many it found.
PROGRAM = """
import jax, jax.monitoring
from bsexp import compile_cache
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
compile_cache.enable()
print(jax.jit(lambda x: jax.numpy.sin(x) @ x)(jax.numpy.ones((3, 3))).sum())
print(events.count("/jax/compilation_cache/cache_hits"), events.count("/jax/compilation_cache/cache_misses"))
"""


def start(folder, **variables):
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env={name: value for name, value in environment.items() if value is not None},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Return a process's number, and how many programs it found in the cache and how many it compiled."""
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert errors == "", "nothing may be said: no warning, no note on machine features"
    value, counts = output.splitlines()
    found, compiled = map(int, counts.split())
    return value, found, compiled


def entries(folder):
    return sorted(folder.rglob("*-cache"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder whose cache a first process has filled, and what it computed."""
    folder = tmp_path_factory.mktemp("filled")
    value, found, compiled = finish(start(folder))
    assert (found, compiled > 1) == (0, True)
    assert len(entries(folder / "cache" / "bsexp")) == compiled
    return folder, value, compiled


def test_a_second_process_compiles_nothing(filled):
    folder, value, compiled = filled
    assert finish(start(folder)) == (value, compiled, 0)


def test_two_processes_may_fill_it_at_once(filled, tmp_path):
    for process in [start(tmp_path), start(tmp_path)]:
        assert finish(process)[0] == filled[1]
    assert finish(start(tmp_path))[1:] == (filled[2], 0)


def test_the_folder_that_jax_is_told_wins(filled, tmp_path):
    own = tmp_path / "own"
    finish(start(tmp_path, JAX_COMPILATION_CACHE_DIR=str(own)))
    assert len(entries(own)) == filled[2]
    assert not (tmp_path / "cache").exists()


def test_an_empty_variable_switches_it_off(tmp_path):
    assert finish(start(tmp_path, JAX_COMPILATION_CACHE_DIR=""))[1:] == (0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["/dev/null", "/proc"])
def test_a_folder_that_cannot_be_written_only_means_no_cache(filled, tmp_path, place):
    assert finish(start(tmp_path, XDG_CACHE_HOME=place)) == (filled[1], 0, 0)


def test_without_a_known_folder_it_lies_in_the_home(tmp_path):
    finish(start(tmp_path, XDG_CACHE_HOME=None, HOME=str(tmp_path)))
    assert entries(tmp_path / ".cache" / "bsexp")


def test_a_program_that_was_cut_off_is_compiled_without_a_word(tmp_path):
    """As a process leaves it that is killed while it writes."""
    value, _, compiled = finish(start(tmp_path))
    first = entries(tmp_path)[0]
    first.write_bytes(first.read_bytes()[:-40])
    assert finish(start(tmp_path))[:2] == (value, compiled - 1)


def test_what_was_not_read_for_the_longest_time_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "MOST_BYTES", 250)
    for name, read in (("new", 3), ("older", 2), ("oldest", 1)):
        file = tmp_path / f"{name}-cache"
        file.write_bytes(bytes(100))
        os.utime(file, (read, 0))
    compile_cache._prune(tmp_path)
    assert [each.name for each in entries(tmp_path)] == ["new-cache", "older-cache"]
