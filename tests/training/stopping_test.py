"""When a run ends early, from its rows alone."""

import math

import pytest

from bsexp import config
from bsexp.training import stopping


def rows(losses, accuracies=None, seconds=1.0, an_epoch=1):
    accuracies = accuracies or [0.5] * len(losses)
    return [
        {
            "test_loss": loss,
            "test_accuracy": accuracy,
            "seconds": seconds * (i + 1),
            "epoch": (i + 1) / an_epoch,
            "step": i,
        }
        for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]


def test_by_default_nothing_ends_a_run():
    train = config.Train()
    assert not stopping.conditional(train)
    assert stopping.reason(rows([3, 2, 9, 9, 9]), train) == ""
    assert stopping.target(rows([3, 2]), train) is None


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        ([3, 2, 2.5], False),
        ([3, 2, 2.5, 2.1], True),
        ([3, 2, 2, 2], True),
        ([3, 2, 2.5, 1.9], False),
        ([], False),
        ([3, 2, math.inf, math.nan], True),
        ([3, math.nan, math.inf, 2.5], False),
        # As rows come back from their file.
        ([3, None, None, 2.5], False),
        ([3, None, None], True),
    ],
)
def test_patience_counts_the_epochs_without_a_new_best(losses, ends):
    train = config.Train(patience=2, monitor="test_loss")
    assert stopping.conditional(train)
    assert stopping.reason(rows(losses), train) == ("patience" if ends else "")


def test_patience_is_in_epochs_however_many_rows_one_has():
    train = config.Train(patience=2, monitor="test_loss", evaluations=4)
    losses = [3, 2, *[2.5] * 7]
    assert stopping.reason(rows(losses, an_epoch=4), train) == ""
    assert stopping.reason(rows([*losses, 2.5], an_epoch=4), train) == "patience"


def test_patience_ends_where_binary_fractions_fall_short_of_whole_epochs():
    """Ten rows an epoch: the best after 0.3 epochs, two more at 2.3, whose difference is 1.9999999999999998."""
    train = config.Train(patience=2, monitor="test_loss", evaluations=10)
    losses = [3, 3, 1, *[2] * 20]
    assert stopping.reason(rows(losses, an_epoch=10), train) == "patience"
    assert stopping.reason(rows(losses[:-1], an_epoch=10), train) == ""


def test_of_an_accuracy_more_is_better():
    train = config.Train(patience=1, monitor="test_accuracy")
    assert stopping.reason(rows([1, 1], [0.8, 0.9]), train) == ""
    assert stopping.reason(rows([1, 1], [0.9, 0.8]), train) == "patience"


def test_a_target_is_the_first_row_that_reaches_it():
    found = rows([3, 2, 1, 2], [0.1, 0.5, 0.9, 0.4])
    accuracy = config.Train(target=0.5, target_metric="test_accuracy")
    assert stopping.target(found, accuracy)["step"] == 1
    assert stopping.reason(found, accuracy) == ""
    loss = config.Train(target=1.5, target_metric="test_loss", stop_at_target=True)
    assert stopping.target(found, loss)["step"] == 2
    assert stopping.reason(found, loss) == "target"
    assert stopping.reason(found[:2], loss) == ""
    assert stopping.target(rows([None, math.nan, 1.5, 1]), loss)["step"] == 2


def test_seconds_are_those_of_all_sessions():
    train = config.Train(seconds=2.5)
    assert stopping.reason(rows([1, 1]), train) == ""
    assert stopping.reason(rows([1, 1, 1]), train) == "seconds"
