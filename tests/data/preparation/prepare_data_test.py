import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bsexp import config
from bsexp.data import examples, folders, sources
from bsexp.data.preparation import catalogue, originals

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "prepare_data.py"


@pytest.fixture
def prepare(small, monkeypatch, tmp_path, capsys):
    """Run the command line on the small CIFAR-100; returns the exit code and what it printed."""
    specification = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    monkeypatch.setitem(catalogue.ORIGINALS, "cifar100", small[0])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))

    def run(*words):
        try:
            code = script.main([*words])
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr()

    return run


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def test_a_data_set_is_prepared_once(prepare, data):
    folder = data / "cifar100" / "1.0.0"
    code, said = prepare("cifar100")
    assert (code, said.out) == (
        0,
        (
            f"cifar100 is ready in {folder}: --config.data.name=cifar100\n"
            "30 training and 10 test examples of 32 x 32 x 3 (height x width x channels), 100 classes\n"
        ),
    )
    assert sources.describe("cifar100", "").test_examples == 10
    code, said = prepare("cifar100")
    assert (code, said.out.split(" in ")[0]) == (0, "cifar100 was there already")


@pytest.mark.parametrize("change", ["cut", "tampered", "absent"])
def test_what_is_not_the_original_leaves_nothing_and_says_what_to_do(
    prepare, data, server, small, change
):
    original, archive = small
    served = {
        "cut": archive[:-50],
        "tampered": archive[:-9] + b"?" + archive[-8:],
        "absent": None,
    }
    server.files["/cifar-100-binary.tar.gz"] = (
        served[change],
        len(served[change] or b""),
    )
    code, said = prepare("cifar100")
    assert (code, said.out) == (1, "")
    url = original.archive[0].url
    assert said.err.startswith("nothing was prepared: ")
    assert f"--manual_dir=FOLDER:\n  {url}" in said.err
    assert folders.available(data) == []
    assert [file for file in data.rglob("*") if file.is_file()] == []
    # The advice leads out of it.
    manual = data.parent / "manual"
    manual.mkdir()
    (manual / url.rpartition("/")[2]).write_bytes(archive)
    assert prepare("cifar100", f"--manual_dir={manual}")[0] == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["cifar11"], "invalid choice: 'cifar11' (choose from "),
        ([], "the following arguments are required: NAME"),
        (["cifar10", "--from=memory"], "--from: invalid choice: 'memory'"),
        (
            ["cifar10", "--examples=9"],
            "--examples applies to timit_like, cifar100_like",
        ),
        (["cifar10", "--manual_dir=/nowhere"], "--manual_dir=/nowhere: no such folder"),
        (["timit_like", "--examples=0"], "--examples=0: must be at least 1"),
        (["timit_like", "--from=package"], "neither --from nor --manual_dir applies"),
        (
            ["cifar10", f"--arrays={SCRIPT}"],
            "cifar10: --arrays wants a name of your own",
        ),
        (["Mine", f"--arrays={SCRIPT}"], "of small letters, digits and _"),
        (
            ["mine", f"--arrays={SCRIPT}", "--examples=9"],
            "beside --arrays neither --from",
        ),
        (["mine", "--arrays=/nowhere.npz"], "--arrays=/nowhere.npz: no such file"),
        (
            ["timit"],
            "timit is licensed and nowhere to be fetched: put what Kaldi exported",
        ),
        (
            ["timit", "--from=package", "--manual_dir=."],
            "timit is licensed and nowhere to be fetched: put what Kaldi exported",
        ),
    ],
)
def test_bad_input_is_refused_with_exit_code_2(prepare, data, words, reason):
    code, said = prepare(*words)
    assert code == 2
    assert reason in said.err
    assert not data.exists()


def test_a_folder_in_a_home_that_nobody_knows_is_told(prepare):
    code, said = prepare("timit_like", "--data_dir=~nobody-here/data")
    assert code == 1
    assert said.err.startswith("nothing was prepared: ~nobody-here/data cannot be")


def test_a_wrong_name_lists_what_exists(prepare):
    said = prepare("cifar11")[1].err
    for name in (
        "mnist",
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "timit",
        "timit_like",
    ):
        assert f"'{name}'" in said or name in said.rpartition("choose from ")[2]


def test_help_names_every_data_set(prepare):
    code, said = prepare("--help")
    assert code == 0
    assert (
        "mnist, fashion_mnist, cifar10, cifar100, timit, timit_like, cifar100_like"
        in " ".join(said.out.split())
    )


def test_mnist_needs_no_source(prepare, data):
    assert prepare("mnist")[0] == 0
    assert folders.available(data) == ["mnist:1.0.0"]


def test_arrays_of_ones_own_are_prepared_once_and_not_taken_for_those_of_another_file(
    prepare, data, tmp_path
):
    file = tmp_path / "mine.npz"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 5, 4), np.uint8)
    labels = np.arange(30) % 3

    def write(labels):
        np.savez(file, train_images=images[:20], train_labels=labels[:20], test_images=images[20:], test_labels=labels[20:])  # fmt: skip

    write(labels)
    code, said = prepare("mine", f"--arrays={file}")
    assert (code, said.out.split(" in ")[0]) == (0, "mine is ready")
    assert said.out.splitlines()[1] == (
        "20 training and 10 test examples of 5 x 4 x 1 (height x width x channels), 3 classes"
    )
    found = examples.load(config.Data(name="mine", dir=str(data)))
    assert (found.num_classes, found.train.image_shape) == (3, (5, 4, 1))
    np.testing.assert_array_equal(found.train.images[..., 0], images[:20])
    np.testing.assert_array_equal(found.train.labels, labels[:20])
    np.testing.assert_array_equal(found.test.labels, labels[20:])
    said = prepare("mine", f"--arrays={file}")[1].out
    assert said.startswith("mine was there already")
    write(labels[::-1])
    code, said = prepare("mine", f"--arrays={file}")
    assert code == 1
    assert "was made of another file; remove it, or choose another name" in said.err
    file.write_bytes(file.read_bytes()[:-40])
    code, said = prepare("other", f"--arrays={file}")
    assert code == 1
    assert "does not hold them" in said.err
    assert folders.available(data) == ["mine:1.0.0"]


GOOD = {
    "train_images": np.zeros((4, 3), np.float32),
    "train_labels": np.array([0, 1, 0, 1]),
    "test_images": np.zeros((2, 3), np.float32),
    "test_labels": np.zeros(2, np.int64),
}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"train_images": np.zeros((4, 3))}, "split train: images are float64 [4, 3]"),
        ({"test_images": np.zeros((2, 4), np.float32)}, "split test: images are float32 [2, 4], those of the training split float32 [4, 3]"),
        ({"test_labels": np.zeros(3, np.int64)}, "labels int64 [3]"),
        ({"test_labels": np.zeros(2)}, "labels float64 [2]"),
        ({"train_labels": np.array([0, 1, -1, 0])}, "the smallest label is -1"),
        ({"train_images": np.full((4, 3), np.nan, np.float32)}, "images are not finite"),
        ({"train_labels": np.array([1, 2, 3, 1])}, "split train: the training labels are 1, 2, 3; must be 0, 1 and so on, without a gap"),
        ({"train_labels": np.array([0, 5, 3_000_000_000, 0])}, "the training labels are 0, 5, 3000000000; must be"),
        ({"train_labels": np.zeros(4, np.int64)}, "the training labels are 0; must be"),
        ({"test_labels": np.array([0, 2])}, "split test: label 2 has no training example"),
        ({"train_images": np.zeros((4, 0), np.float32), "test_images": np.zeros((2, 0), np.float32)}, "split train: it is empty: images are float32 [4, 0]"),
        ({"validation_images": np.zeros((2, 3), np.float32)}, "holds validation_images as well"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_data_set_are_refused(
    prepare, data, tmp_path, changed, reason
):
    np.savez(tmp_path / "mine.npz", **GOOD | changed)
    code, said = prepare("mine", f"--arrays={tmp_path / 'mine.npz'}")
    assert code == 1
    assert reason in said.err
    assert "an .npz file with train_images" in said.err
    assert not data.exists()


def test_frames_of_kaldi_and_stand_ins_are_prepared_by_name(prepare, data, tmp_path):
    for split, number in (("train", 6), ("test", 3)):
        np.savez(
            tmp_path / f"{split}.npz",
            features=np.ones((number, 360), np.float32),
            labels=np.arange(number),
        )
    assert prepare("timit", f"--manual_dir={tmp_path}")[0] == 0
    assert prepare("timit_like", "--examples=7")[0] == 0
    assert folders.available(data) == ["timit:1.0.0", "timit_like_7:1.0.0"]
    (tmp_path / "train.npz").unlink()
    code, said = prepare(
        "timit", f"--manual_dir={tmp_path}", f"--data_dir={tmp_path / 'other'}"
    )
    assert code == 1
    assert "Next: put what Kaldi exported into one folder" in said.err


def victim(*words):
    command = [sys.executable, Path(__file__).with_name("victim.py"), *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_download_killed_half_way_is_no_data_set_and_the_next_one_is_whole(
    small, tmp_path, server
):
    original, archive = small
    server.stalls = True
    url = server.serve("cifar-100-binary.tar.gz", archive[:60_000], len(archive))
    with victim("download", tmp_path, url) as process:
        partial = (
            tmp_path / "downloads" / "cifar100" / "cifar-100-binary.tar.gz.partial"
        )
        while not partial.exists() and process.poll() is None:
            time.sleep(0.05)
        process.kill()
    assert partial.exists()
    assert folders.available(tmp_path) == []
    server.stalls = False
    server.serve("cifar-100-binary.tar.gz", archive)
    originals.prepare(original, tmp_path, "archive", None)
    assert folders.available(tmp_path) == ["cifar100:1.0.0"]
    assert [file.name for file in partial.parent.iterdir()] == [
        "cifar-100-binary.tar.gz"
    ]


def test_a_writer_killed_half_way_leaves_no_data_set_and_does_not_hinder_the_next(
    small, tmp_path
):
    with victim("write", tmp_path, "") as process:
        assert process.stderr.readline() == "half-way\n"
        process.kill()
    assert list((tmp_path / "cifar100").glob("incomplete.*"))
    assert folders.available(tmp_path) == []
    originals.prepare(small[0], tmp_path, "archive", None)
    assert len(sources.load("cifar100", str(tmp_path)).train) == 30


def test_a_full_disk_leaves_no_data_set_and_names_the_folder(tmp_path):
    # A limit on the size of files stands for the end of the disk.
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        f"sys.argv[0] = {str(SCRIPT)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, "timit_like", "--examples=3000"],
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1, finished.stderr
    assert f"cannot prepare timit_like_3000 in {tmp_path}" in finished.stderr
    assert "choose a data_dir with 1600 MB" in finished.stderr
    assert folders.available(tmp_path) == []
