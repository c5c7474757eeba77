"""The planner: rows for runs first, then columns for large batches."""

import pytest

from bsexp import config
from bsexp.bounds import FieldError
from bsexp.training import mesh

FREE = config.Execution()


def always(_):
    return True


@pytest.mark.parametrize(
    ("devices", "runs", "batch", "expected"),
    [
        (1, 3, 256, (1, 1, 1)),
        (8, 8, 256, (8, 1, 8)),  # small batches fill the devices by seeds
        (8, 5, 256, (5, 1, 5)),
        (8, 1, 6_000, (1, 8, 1)),  # large ones by data
        (8, 2, 6_000, (2, 4, 2)),
        (8, 1, 1_024, (1, 2, 1)),  # at least 512 examples a device
        (8, 3, 6_000, (3, 2, 3)),
    ],
)
def test_small_batches_fill_devices_by_runs_and_large_ones_by_data(
    devices, runs, batch, expected
):
    def divides(number):
        return batch % number == 0

    assert mesh.plan(devices, runs, batch, FREE, divides) == expected


def test_a_batch_that_cannot_be_split_is_not():
    assert mesh.plan(8, 1, 6_000, FREE, lambda number: number in (1, 3)) == (1, 3, 1)


def test_what_is_prescribed_holds():
    prescribed = config.Execution(population=2, data=3)
    assert mesh.plan(8, 5, 64, prescribed, always) == (2, 3, 2)
    assert mesh.plan(8, 1, 64, prescribed, always) == (1, 3, 1)
    assert mesh.plan(8, 8, 64, config.Execution(data=4), always) == (2, 4, 2)


@pytest.mark.parametrize(
    ("devices", "runs", "batch", "execution", "expected"),
    [
        (1, 3, 16, FREE, (1, 1, 3)),
        (1, 9, 16, FREE, (1, 1, 4)),  # no more than are told
        (2, 5, 16, FREE, (2, 1, 6)),  # evenly, a place is left over
        (8, 5, 16, FREE, (5, 1, 5)),  # devices of their own first
        (1, 3, 16, config.Execution(population=1), (1, 1, 1)),
        (8, 5, 6_000, config.Execution(data=8), (1, 8, 1)),  # a batch is split
    ],
)
def test_runs_are_stacked_where_devices_are_idle(
    devices, runs, batch, execution, expected
):
    assert mesh.plan(devices, runs, batch, execution, always, stacked=4) == expected


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"population": 9}, "population"),
        ({"data": 16}, "data"),
        ({"population": 4, "data": 4}, "population"),
    ],
)
def test_a_mesh_larger_than_the_devices_is_refused(fields, named):
    with pytest.raises(FieldError, match="larger than the 8 there are") as caught:
        mesh.check(8, 1, config.Execution(**fields))
    assert caught.value.field == f"execution.{named}"
