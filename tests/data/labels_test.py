import numpy as np
import pytest

from bsexp.data import labels


def test_as_many_labels_as_asked_for_are_replaced_by_every_other_class_alike():
    number, fraction = 100_000, 0.3
    offset = labels.offsets(number, 5, fraction, 7)
    assert offset.dtype == np.int32
    counts = np.bincount(offset, minlength=5)
    expected = number * np.array([1 - fraction, *[fraction / 4] * 4])
    assert len(counts) == 5
    # Five standard deviations of each count.
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize(("fraction", "replaced"), [(0.0, 0), (1.0, 1_000)])
def test_nothing_and_everything_are_exact(fraction, replaced):
    true = np.random.default_rng(0).integers(0, 3, 1_000).astype(np.int32)
    noisy = labels.corrupt(true, labels.offsets(1_000, 3, fraction, 0), 3)
    assert noisy.dtype == np.int32
    assert (noisy != true).sum() == replaced
    assert set(noisy) == {0, 1, 2}


def test_more_noise_replaces_the_same_labels_by_the_same_classes_and_more():
    smaller, larger = (labels.offsets(1_000, 10, p, 3) for p in (0.2, 0.5))
    replaced = smaller > 0
    np.testing.assert_array_equal(larger[replaced], smaller[replaced])
    assert (larger > 0).sum() > replaced.sum()


def test_an_examples_noise_depends_on_its_index_and_the_seed_alone():
    many = labels.offsets(1_000, 10, 0.5, 3)
    np.testing.assert_array_equal(labels.offsets(400, 10, 0.5, 3), many[:400])
    other = labels.offsets(1_000, 10, 0.5, 4)
    # Two independent draws agree with probability 1/4 + 9 / 18^2.
    assert (many == other).mean() < 0.4


def test_the_draw_is_known():
    golden = [0, 0, 3, 0, 0, 1, 7, 0, 0, 4, 7, 2]
    assert labels.offsets(12, 10, 0.5, 0).tolist() == golden, (
        "the label noise of every noise seed has changed: runs with noisy labels are no longer those that bear "
        "the same name"
    )


def test_one_class_has_no_other():
    with pytest.raises(ValueError, match="1 class leaves no other"):
        labels.offsets(10, 1, 0.1, 0)
    assert not labels.offsets(10, 1, 0.0, 0).any()
