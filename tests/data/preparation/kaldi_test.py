import struct
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from bsexp.data import folders
from bsexp.data.preparation import kaldi
from bsexp.data.preparation.remote import UnavailableError

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.standard_normal((50, 360)).astype(np.float32)
LABELS = RANDOM.integers(1_973, size=50).astype(np.int32)


@pytest.fixture
def exported(tmp_path):
    """A folder with both splits as arrays: 40 training and 10 test frames."""
    for split, part in (("train", slice(40)), ("test", slice(40, 50))):
        np.savez(
            tmp_path / f"{split}.npz", features=FEATURES[part], labels=LABELS[part]
        )
    return tmp_path


def written(root):
    """The examples of both splits as TFDS reads them back."""
    source = tfds.builder_from_directory(root / "timit" / "1.0.0").as_data_source()
    return [
        np.stack(
            [example[key] for split in ("train", "test") for example in source[split]]
        )
        for key in ("image", "label")
    ]


def assert_all(root):
    features, labels = written(root)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, FEATURES)
    np.testing.assert_array_equal(labels, LABELS)


def test_arrays_are_written_in_their_order(exported, tmp_path, caplog):
    kaldi.prepare(tmp_path / "data", exported)
    assert_all(tmp_path / "data")
    assert (
        "split train has 40 frames, in Keskar et al. 2017 it has 721329" in caplog.text
    )


def test_frames_of_other_files_are_told_apart(exported, tmp_path):
    """As many frames of other numbers: the records' sizes are the same."""
    folder = kaldi.prepare(tmp_path / "data", exported)
    assert kaldi.prepare(tmp_path / "data", exported) == folder
    np.savez(exported / "test.npz", features=-FEATURES[40:], labels=LABELS[40:])
    with pytest.raises(ValueError, match="was made of another file"):
        kaldi.prepare(tmp_path / "data", exported)
    others = kaldi.prepare(tmp_path / "others", exported)
    assert folders.digest(others) != folders.digest(folder)


def binary_matrix(utterance, values):
    """Kaldi's binary float matrix: an int32 is preceded by its size."""
    rows, columns = values.shape
    head = utterance.encode() + b" \0BFM " + struct.pack("<bibi", 4, rows, 4, columns)
    return head + values.astype("<f4").tobytes()


def binary_vector(utterance, values):
    """Kaldi's binary vector of int32."""
    head = utterance.encode() + b" \0B" + struct.pack("<bi", 4, len(values))
    return head + b"".join(struct.pack("<bi", 4, value) for value in values)


def archives(folder, cuts):
    """Write the frames as archives of utterances that end at ``cuts``; the last one of train has no labels."""
    for split, (first, last) in (("train", (0, 40)), ("test", (40, 50))):
        ends = [cut for cut in cuts if first < cut < last] + [last]
        spans = list(zip([first, *ends], ends, strict=False))
        features = [binary_matrix(f"u{a}", FEATURES[a:b]) for a, b in spans]
        # Kaldi writes alignments in an order of its own.
        labels = [binary_vector(f"u{a}", LABELS[a:b]) for a, b in reversed(spans)]
        features.append(binary_matrix("unaligned", FEATURES[:3]))
        (folder / f"{split}_features.ark").write_bytes(b"".join(features))
        (folder / f"{split}_labels.ark").write_bytes(b"".join(labels))


def test_archives_are_joined_by_utterance_and_what_was_not_aligned_is_left_out(
    tmp_path,
):
    pytest.importorskip("kaldiio")
    archives(tmp_path, (7, 22, 45))
    kaldi.prepare(tmp_path / "data", tmp_path)
    assert_all(tmp_path / "data")


def test_a_truncated_archive_is_refused(tmp_path):
    pytest.importorskip("kaldiio")
    archives(tmp_path, (7, 22, 45))
    file = tmp_path / "train_features.ark"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UnavailableError, match=f"{file} or .* is cut short, damaged"):
        kaldi.prepare(tmp_path / "data", tmp_path)
    assert folders.available(tmp_path / "data") == []


def test_archives_say_what_they_need(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaldiio", None)
    archives(tmp_path, ())
    with pytest.raises(UnavailableError, match="pip install kaldiio"):
        kaldi.prepare(tmp_path / "data", tmp_path)


def test_labels_of_no_utterance_are_refused(tmp_path):
    pytest.importorskip("kaldiio")
    archives(tmp_path, ())
    (tmp_path / "test_labels.ark").write_bytes(binary_vector("other", LABELS[:5]))
    with pytest.raises(
        UnavailableError, match=r"no utterance of split test .* has labels"
    ):
        kaldi.prepare(tmp_path / "data", tmp_path)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"features": FEATURES[:, :40], "labels": LABELS}, r"features \(50, 40\)"),
        (
            {"features": FEATURES[:-1], "labels": LABELS},
            r"features \(49, 360\) and labels \(50,\)",
        ),
        ({"features": FEATURES, "labels": LABELS + 1_000}, "must be 0 to 1972"),
        ({"features": FEATURES, "labels": LABELS - 1_973}, "labels from -"),
        (
            {"features": FEATURES, "labels": LABELS / 2},
            "labels are float64, must be integers",
        ),
        (
            {"features": FEATURES[:0], "labels": LABELS[:0]},
            "no utterance of split test",
        ),
        ({"features": FEATURES * np.inf, "labels": LABELS}, "features are not finite"),
        (
            {"features": FEATURES.astype(np.float64) * 1e300, "labels": LABELS},
            "features are not finite",
        ),
        ({"features": FEATURES}, "labels is not a file in the archive"),
    ],
)
def test_other_than_frames_and_states_leaves_nothing(
    exported, tmp_path, arrays, reason
):
    np.savez(exported / "test.npz", **arrays)
    with pytest.raises(UnavailableError, match=reason):
        kaldi.prepare(tmp_path / "data", exported)
    assert folders.available(tmp_path / "data") == []


def test_a_truncated_file_of_arrays_is_refused(exported, tmp_path):
    file = exported / "train.npz"
    file.write_bytes(file.read_bytes()[:-1_000])
    with pytest.raises(UnavailableError, match=f"{file} is cut short, damaged"):
        kaldi.prepare(tmp_path / "data", exported)


def test_a_missing_split_is_found_before_anything_is_written(exported, tmp_path):
    (exported / "test.npz").unlink()
    with pytest.raises(UnavailableError, match=f"split test is not in {exported}"):
        kaldi.prepare(tmp_path / "data", exported)
    assert not (tmp_path / "data").exists()
