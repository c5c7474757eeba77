import contextlib
import io
import socket

import numpy as np
import pytest
import tensorflow_datasets as tfds

from bsexp.data import mnist, sources


def forbid_network(patch):
    def refuse(*_):
        raise AssertionError("a data set reached for the network")

    patch.setattr(socket.socket, "connect", refuse)
    patch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    forbid_network(monkeypatch)


@pytest.fixture(scope="session")
def fresh_mnist(tmp_path_factory):
    """The data_dir in which the embedded MNIST was prepared, and what that first load returned."""
    data_dir = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        forbid_network(patch)
        return data_dir, sources.load("mnist", str(data_dir))


@pytest.fixture
def few_mnist(monkeypatch):
    """The embedded MNIST cut to 40 examples per split, where only the preparation is tested."""
    complete = mnist.read_embedded
    monkeypatch.setattr(
        mnist,
        "read_embedded",
        lambda split: tuple(array[:40] for array in complete(split)),
    )


SMALL_FEATURES = {
    "image": tfds.features.Tensor(shape=(4, 5, 3), dtype=np.uint8),
    "label": tfds.features.ClassLabel(num_classes=3),
}


def small_example(index):
    return {"image": np.full((4, 5, 3), index, np.uint8), "label": index % 3}


@pytest.fixture
def write_small():
    """A function that prepares a small data set with TFDS: 30 training and 12 test examples."""

    def write(
        root,
        *,
        dataset="dots",
        number="1.0.0",
        config=None,
        features=None,
        example=small_example,
        splits=None,
    ):
        configs = (
            [tfds.core.BuilderConfig(name=config, version=number)] if config else []
        )

        class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            name = dataset
            VERSION = tfds.core.Version(number)
            BUILDER_CONFIGS = configs

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features or SMALL_FEATURES),
                )

            def _split_generators(self, dl_manager):
                del dl_manager
                sizes = splits or {"train": 30, "test": 12}
                return {
                    split: self._generate_examples(size)
                    for split, size in sizes.items()
                }

            def _generate_examples(self, size):
                for index in range(size):
                    yield index, example(index)

        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            builder = Small(data_dir=root, config=config)
            builder.download_and_prepare(file_format="array_record")
        return root / builder.data_path

    return write
