import itertools

import numpy as np
import pytest

from bsexp import bounds
from bsexp.data import subsets


def test_all_of_the_split_is_the_split_in_its_order():
    train, validation = subsets.split(1_000, 0, "100%", 5)
    np.testing.assert_array_equal(train, np.arange(1_000))
    assert len(validation) == 0


def test_training_and_validation_share_nothing_and_miss_nothing():
    train, validation = subsets.split(1_000, 150, "100%", 5)
    assert len(validation) == 150
    np.testing.assert_array_equal(
        np.sort(np.concatenate([train, validation])), np.arange(1_000)
    )
    for found in (train, validation):
        assert (np.diff(found) > 0).all()


def test_a_larger_training_set_holds_a_smaller_one_and_validation_stays():
    found = [
        subsets.split(1_000, "10%", size, 5) for size in (1, 20, "50%", 700, "100%")
    ]
    assert [len(each.train) for each in found] == [1, 20, 450, 700, 900]
    for smaller, larger in itertools.pairwise(found):
        assert set(smaller.train) < set(larger.train)
        np.testing.assert_array_equal(smaller.validation, larger.validation)


def test_a_subset_is_drawn_at_random_and_by_its_seed():
    first, again, other = (subsets.split(10_000, 0, 5_000, s).train for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert 2_300 < len(set(first) & set(other)) < 2_700
    # Uniform over the split: the mean index within five standard errors.
    assert abs(first.mean() - 5_000) < 5 * 10_000 / np.sqrt(12 * 2 * 5_000)


def test_the_draw_is_known():
    found = subsets.split(20, 4, 5, 0)
    golden = ([0, 1, 2, 13, 19], [8, 10, 15, 18])
    assert (found.train.tolist(), found.validation.tolist()) == golden, (
        "the subsets of every split seed have changed: runs on a part of the data are no longer those that bear "
        "the same name"
    )


@pytest.mark.parametrize(
    ("validation", "train", "field", "reason"),
    [
        (100, "100%", "data.validation_size", "is 100 examples; must be 1 to 99"),
        ("100%", 1, "data.validation_size", "is 100 examples; must be 1 to 99"),
        ("0.1%", 1, "data.validation_size", "is 0 examples; must be 1 to 99"),
        (0, 101, "data.train_size", "is 101 examples; must be 1 to 100 of the"),
        (30, 71, "data.train_size", "must be 1 to 70, what 30 for validation leave"),
        (0, "0.1%", "data.train_size", "is 0 examples"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_field(
    validation, train, field, reason
):
    with pytest.raises(bounds.FieldError, match=reason) as caught:
        subsets.sizes(100, validation, train)
    assert caught.value.field == field
