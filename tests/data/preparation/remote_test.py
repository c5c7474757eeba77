import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bsexp.data.preparation import remote

CONTENT = bytes(range(256)) * 5_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def names(folder):
    return [file.name for file in folder.iterdir()] if folder.exists() else []


def test_a_download_is_the_original_and_is_done_once(server, tmp_path):
    wanted = remote.Remote(server.serve("a.gz", CONTENT), SHA256)
    file = remote.fetch(wanted, tmp_path / "downloads")
    assert file.read_bytes() == CONTENT
    assert remote.fetch(wanted, tmp_path / "downloads") == file
    assert names(file.parent) == ["a.gz"]
    assert server.asked == ["/a.gz"]


def test_a_download_that_was_damaged_since_is_done_again(server, tmp_path):
    wanted = remote.Remote(server.serve("a.gz", CONTENT), SHA256)
    remote.fetch(wanted, tmp_path).write_bytes(CONTENT[:-1])
    assert remote.fetch(wanted, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("first_is_given_up", [False, True])
def test_of_two_downloads_at_once_the_second_waits(server, tmp_path, first_is_given_up):
    """The first has half of the file while the second begins."""
    server.stalls = True
    half = server.serve("a.gz", CONTENT[:100_000], len(CONTENT))
    wanted = remote.Remote(half, SHA256)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(remote.fetch, wanted, tmp_path)
        while not (tmp_path / "a.gz.partial").exists():
            time.sleep(0.01)
        second = pool.submit(remote.fetch, wanted, tmp_path)
        time.sleep(0.2)
        assert server.asked == ["/a.gz"]
        server.serve("a.gz", CONTENT)
        server.rest = b"" if first_is_given_up else CONTENT[100_000:]
        server.released.set()
        assert second.result().read_bytes() == CONTENT
        if first_is_given_up:
            with pytest.raises(remote.UnavailableError):
                first.result()
    assert server.asked == ["/a.gz"] * (1 + first_is_given_up)
    assert names(tmp_path) == ["a.gz"]


@pytest.mark.parametrize(
    ("served", "promised", "reason"),
    [
        (CONTENT[:-9], len(CONTENT), "cannot download .*IncompleteRead"),
        (CONTENT[:-9], None, "cut short or changed, and not the original a.gz"),
        (CONTENT[:-1] + b"x", None, f"that of the original {SHA256}"),
    ],
    ids=["connection lost", "truncated", "tampered"],
)
def test_other_than_the_original_leaves_nothing(
    server, tmp_path, served, promised, reason
):
    wanted = remote.Remote(server.serve("a.gz", served, promised), SHA256)
    with pytest.raises(remote.UnavailableError, match=reason):
        remote.fetch(wanted, tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_has_it_not_and_one_that_is_not_there_are_named(server, tmp_path):
    absent = f"http://127.0.0.1:{server.server_port}/b.gz"
    with pytest.raises(
        remote.UnavailableError, match=f"cannot download {absent} .*404"
    ):
        remote.fetch(remote.Remote(absent, SHA256), tmp_path)
    # Port 9 (discard) of this machine: nobody listens.
    with pytest.raises(remote.UnavailableError, match=r"cannot download .*refused"):
        remote.fetch(remote.Remote("http://127.0.0.1:9/a.gz", SHA256), tmp_path)


def test_a_file_in_a_folder_must_be_there_and_the_original(tmp_path):
    wanted = remote.Remote("http://127.0.0.1:9/a.gz", SHA256)
    with pytest.raises(remote.UnavailableError, match=f"no a.gz in {tmp_path}"):
        remote.find(wanted, tmp_path)
    file = tmp_path / "a.gz"
    file.write_bytes(CONTENT)
    assert remote.find(wanted, tmp_path) == file
    file.write_bytes(CONTENT[1:])
    with pytest.raises(
        remote.UnavailableError, match=f"{file} is cut short or changed"
    ):
        remote.find(wanted, tmp_path)
    assert file.read_bytes() == CONTENT[1:], "somebody else's file has been touched"
