"""How the noise scale divides a training set."""

import pytest

from bsexp import config
from bsexp.probes import noise_scale


@pytest.mark.parametrize(
    ("train", "groups", "size"),
    [(60_000, 200, 16), (3_000, 93, 16), (40, 2, 10), (5, 2, 1), (1, 0, 1)],
)
def test_the_groups_take_half_of_a_small_training_set(train, groups, size):
    """The Hessian takes as many examples again, behind theirs."""
    (task,) = noise_scale.tasks(config.Measure(), {"train": train})
    number = groups * size
    assert task.settings == {
        "groups": groups,
        "group_size": size,
        "hessian_after": number,
    }
    assert 2 * number <= train
