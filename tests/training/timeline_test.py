"""How long a run is."""

import pytest

from bsexp import config
from bsexp.bounds import FieldError
from bsexp.training import timeline


def epochs(size=100, batch=None, **limits):
    return timeline.timeline(
        batch or config.Batch(), size, config.Train(**limits), 1_050
    )


def test_an_epoch_has_the_whole_batches_of_the_training_set():
    found = epochs(epochs=3)
    assert [(each.first, each.seen, each.steps) for each in found] == [
        (0, 0, 10),
        (10, 1_000, 10),
        (20, 2_000, 10),
    ]
    assert found[-1].end == 30


@pytest.mark.parametrize(
    ("limit", "end"),
    [({"steps": 25}, 25), ({"examples": 2_401}, 25), ({"examples": 2_400}, 24)],
)
def test_the_first_limit_ends_it(limit, end):
    found = epochs(epochs=10, **limit)
    assert found[-1].end == end
    assert len(found) == 3
    assert epochs(epochs=1, **limit)[-1].end == 10


@pytest.mark.parametrize(
    ("number", "limit", "expected"),
    [
        (1, {}, [10]),
        (2, {}, [5, 10]),
        (3, {}, [4, 7, 10]),
        (4, {}, [3, 5, 8, 10]),
        (10, {}, [*range(1, 11)]),
        # No more than updates.
        (1_000, {}, [*range(1, 11)]),
        # Where a limit cuts the epoch off, evaluations stay where they are in a whole one, and its end is one.
        (2, {"steps": 18}, [5, 8]),
        (2, {"steps": 14}, [4]),
        (5, {"examples": 1_400}, [2, 4]),
    ],
)
def test_evaluations_are_spread_evenly_over_an_epoch_of_ten_updates(
    number, limit, expected
):
    epoch = epochs(epochs=2, **limit)[1]
    for first in (0, 1):  # a run that was stopped goes on within an epoch
        due, found = first, []
        while due < epoch.steps:
            due = epoch.next_evaluation(due, number)
            found.append(due)
        assert found == [each for each in expected if each > first]


def test_a_batch_size_that_grows_makes_fewer_and_larger_updates():
    batch = config.Batch(growth=3, growth_epochs=(1, 2))
    found = epochs(epochs=4, batch=batch)
    assert [(each.batch, each.steps) for each in found] == [
        (100, 10),
        (300, 3),
        (900, 1),
        (900, 1),
    ]
    assert found[-1].seen == 1_000 + 900 + 900


def test_a_batch_that_grows_beyond_the_training_set_is_refused():
    batch = config.Batch(growth=20, growth_epochs=(2,))
    with pytest.raises(FieldError, match="after 2 epochs a batch has 2000") as caught:
        epochs(epochs=4, batch=batch)
    assert caught.value.field == "batch.growth_epochs"
    assert epochs(epochs=2, batch=batch)


def test_an_epoch_that_a_limit_cuts_off_is_not_a_whole_one():
    for limits, number in (({}, 3), ({"steps": 25}, 2), ({"examples": 2_000}, 2)):
        base = config.Base(train=config.Train(epochs=3, **limits))
        assert timeline.whole_epochs(base, 100, 1_050) == number
