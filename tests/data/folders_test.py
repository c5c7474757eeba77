import re
from pathlib import Path

import pytest

from bsexp.data import folders


def prepared(root, *paths):
    for path in paths:
        (root / path).mkdir(parents=True)
        (root / path / folders.INFO_FILE).write_text("{}")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("dots", "dots/1.10.0"),
        ("dots:1.9.0", "dots/1.9.0"),
        ("dots:1.*.*", "dots/1.10.0"),
        ("stripes/wide", "stripes/wide/2.0.0"),
        ("stripes/thin-v2.5", "stripes/thin-v2.5/1.0.0"),
        ("stripes/wide:1.0.0", "stripes/wide/1.0.0"),
    ],
)
def test_find_takes_the_version_named_or_the_newest(tmp_path, name, path):
    prepared(
        tmp_path, "dots/1.9.0", "dots/1.10.0", "dots/1.2.0", "stripes/thin-v2.5/1.0.0"
    )
    prepared(tmp_path, "stripes/wide/2.0.0", "stripes/wide/1.0.0")
    assert folders.find(name, tmp_path) == tmp_path / path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dost", "no data set 'dost' in .*did you mean dots"),
        ("dots:7.0.0", "did you mean .*dots:1.0.0"),
        ("dots:7", "Invalid version '7'"),
        ("stripes", "did you mean stripes/wide"),
        ("stripes/wdie", "did you mean stripes/wide"),
        ("mnits", "did you mean mnist"),
        ("../dots", "no data set"),
        ("", "no data set ''"),
        ("cifar10", "there: dots:1.0.0, stripes/wide:1.0.0; always there: mnist"),
        (
            "cifar10:3.0.2",
            r"scripts/prepare_data.py --help.*tfds build cifar10 --data_dir=DIR --file_format=array_record",
        ),
    ],
)
def test_a_name_that_is_not_there_gets_help(tmp_path, name, reason):
    prepared(tmp_path, "dots/1.0.0", "stripes/wide/1.0.0")
    with pytest.raises(
        folders.DatasetNotFoundError, match=re.compile(reason, re.DOTALL)
    ) as caught:
        folders.find(name, tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_data_dir_that_does_not_exist_has_nothing(tmp_path):
    with pytest.raises(folders.DatasetNotFoundError, match="there: nothing"):
        folders.find("dots", tmp_path / "nowhere")


def test_incomplete_folders_are_not_listed(tmp_path):
    prepared(
        tmp_path,
        "dots/1.10.0",
        "dots/1.9.0",
        "dots/incomplete.ABC123_2.0.0",
        "stripes/wide/incomplete.X_1.0.0",
    )
    (tmp_path / "dots" / "3.0.0").mkdir()
    assert folders.available(tmp_path) == ["dots:1.9.0", "dots:1.10.0"]
    assert folders.find("dots", tmp_path).name == "1.10.0"


def test_resolve_dir_prefers_argument_then_environment_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "environment"))
    assert folders.resolve_dir(str(tmp_path)) == tmp_path
    assert folders.resolve_dir("~/data") == Path.home() / "data"
    assert folders.resolve_dir("") == tmp_path / "environment"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert folders.resolve_dir("") == Path.home() / "tensorflow_datasets"
