import numpy as np
import pytest

from bsexp.data import folders, sources
from bsexp.data.preparation import catalogue, writing

CONTENT = catalogue.CIFAR10.content._replace(name="numbered", num_classes=40)


def numbered(split):
    for index in range({"train": 33, "test": 8}[split]):
        yield np.full((32, 32, 3), index, np.uint8), index


def test_the_order_goes_on_over_blocks_and_files(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "BLOCK", 7)
    monkeypatch.setattr(writing, "SHARD", 10)
    folder = writing.prepare(CONTENT, numbered, tmp_path)
    assert len(list(folder.glob("numbered-train*"))) == 4
    loaded = sources.load("numbered", str(tmp_path))
    assert loaded.train.labels.tolist() == list(range(33))
    assert loaded.train.images[:, 0, 0, 0].tolist() == list(range(33))
    assert loaded.test.labels.tolist() == list(range(8))


@pytest.mark.parametrize("error", [ValueError("half-way"), KeyboardInterrupt()])
def test_examples_that_fail_half_way_leave_nothing(tmp_path, error):
    def failing(split):
        yield from numbered(split)
        raise error

    with pytest.raises(type(error)):
        writing.prepare(CONTENT, failing, tmp_path)
    assert list((tmp_path / "numbered").iterdir()) == []
    assert folders.available(tmp_path) == []
