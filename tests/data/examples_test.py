import pickle

import numpy as np
import pytest

from bsexp import bounds, config
from bsexp.data import examples, labels, sources


@pytest.fixture
def dots(write_small, tmp_path):
    """Settings of conftest's small data set: pixels say which example it is, label = index mod 3."""
    write_small(tmp_path)

    def settings(**changes):
        return config.Data(name="dots", dir=str(tmp_path), **changes)

    return settings


def identities(split):
    return split.images[:, 0, 0, 0]


def test_the_default_is_the_data_set_as_it_is(dots):
    raw = sources.load("dots", dots().dir)
    found = examples.load(dots())
    np.testing.assert_array_equal(found.train.images, raw.train.images)
    np.testing.assert_array_equal(found.train.labels, raw.train.labels)
    np.testing.assert_array_equal(found.test.labels, raw.test.labels)
    assert (found.name, found.num_classes, found.validation) == ("dots", 3, None)
    assert examples.describe(dots()) == sources.describe("dots", dots().dir)


def test_validation_and_subset_are_whole_examples_of_the_training_split(dots):
    settings = dots(validation_size="20%", train_size=10)
    found = examples.load(settings)
    assert (len(found.train.labels), len(found.validation.labels)) == (10, 6)
    assert not set(identities(found.train)) & set(identities(found.validation))
    for split in (found.train, found.validation):
        np.testing.assert_array_equal(split.labels, identities(split) % 3)
    described = examples.describe(settings)
    assert (described.train_examples, described.validation_examples) == (10, 6)
    assert described.test_examples == 12
    assert examples.training_examples(settings) == 10


def test_only_training_labels_are_noisy(dots):
    found = examples.load(dots(validation_size=9, label_noise=1.0))
    assert (found.train.labels != identities(found.train) % 3).all()
    np.testing.assert_array_equal(
        found.validation.labels, identities(found.validation) % 3
    )
    np.testing.assert_array_equal(found.test.labels, identities(found.test) % 3)


def test_an_example_has_the_same_noise_in_every_subset(dots):
    whole, part = (
        examples.load(dots(label_noise=0.5, train_size=size)).train
        for size in ("100%", 12)
    )
    noisy = dict(zip(identities(whole), whole.labels, strict=True))
    assert [noisy[name] for name in identities(part)] == part.labels.tolist()
    replaced = (whole.labels != identities(whole) % 3).sum()
    assert replaced == (labels.offsets(30, 3, 0.5, 0) > 0).sum() > 0


def test_the_seeds_of_split_and_noise_are_their_own(dots):
    base, split, noise = (
        examples.load(dots(label_noise=0.5, train_size=15, **seeds)).train
        for seeds in ({}, {"split_seed": 1}, {"noise_seed": 1})
    )
    assert (identities(base) != identities(split)).any()
    np.testing.assert_array_equal(identities(base), identities(noise))
    assert (base.labels != noise.labels).any()


def test_examples_on_disk_are_those_in_memory(dots):
    settings = dots(validation_size=4, train_size=20, label_noise=0.8)
    memory = examples.load(settings)
    disk = examples.Training(settings)
    assert (len(disk), disk.image_shape) == (20, (4, 5, 3))
    chosen = np.array([19, 0, 7, 7])
    found = pickle.loads(pickle.dumps(disk)).read(chosen)
    np.testing.assert_array_equal(found.images, memory.train.images[chosen])
    np.testing.assert_array_equal(found.labels, memory.train.labels[chosen])
    assert found.labels.dtype == np.int32


def test_only_training_examples_stay_on_disk_where_they_are_streamed(dots):
    memory = examples.load(dots(validation_size=4, train_size=20, label_noise=0.8))
    found = examples.load(
        dots(validation_size=4, train_size=20, label_noise=0.8, streaming=True)
    )
    assert isinstance(found.train, examples.Training)
    assert (found.name, found.num_classes) == (memory.name, memory.num_classes)
    for alone, split in (
        (found.validation, memory.validation),
        (found.test, memory.test),
        (found.train.read(np.arange(20)), memory.train),
    ):
        np.testing.assert_array_equal(alone.images, split.images)
        np.testing.assert_array_equal(alone.labels, split.labels)
    assert examples.load(dots(streaming=True)).validation is None


def test_a_used_reader_can_still_be_sent_to_another_process(dots):
    disk = examples.Training(dots())
    first = disk.read([3])
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(disk)).read([3]).images, first.images
    )


def test_a_size_that_does_not_fit_is_refused_before_anything_is_read(dots):
    settings = dots(train_size=31)
    for function in (
        examples.describe,
        examples.training_examples,
        examples.load,
        examples.Training,
    ):
        with pytest.raises(bounds.FieldError, match="is 31 examples; must be 1 to 30"):
            function(settings)
