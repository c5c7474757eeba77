"""How an update's examples are divided."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from bsexp.bounds import FieldError
from bsexp.training import division, mesh
from bsexp.training.reduction import DATA


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_every_example_lies_on_one_device_and_consecutive_ones_in_one_microbatch(
    devices, ordered
):
    found = division.divide(96, 32, 4, devices, ordered=ordered)
    place = mesh.make(mesh.Layout(1, devices, 1), jax.devices())
    positions = jax.shard_map(
        found.positions,
        mesh=place,
        in_specs=(),
        out_specs=PartitionSpec(None, DATA),
        check_vma=False,
    )()
    shards = 8 if ordered else devices
    assert positions.shape == (3, shards, 32 // shards)
    np.testing.assert_array_equal(positions.ravel(), np.arange(96))


@pytest.mark.parametrize(
    ("arguments", "field", "said"),
    [
        ((100, 30, 0, 1), "batch.microbatch", "nearest that do: 25 and 50"),
        ((240, 60, 60, 8), "batch.microbatch", "60 examples cannot be split into 8"),
        ((100, 0, 7, 1), "batch.ghost", "nearest that do: 5 and 10"),
        ((96, 32, 24, 1), "batch.ghost", "the microbatch of 32 examples"),
        ((64, 128, 0, 1), "batch.microbatch", "nearest that do: 64"),
        ((100, 0, 0, 8), "batch.size", "nearest that do: 96 and 104"),
        ((3, 0, 0, 8), "batch.size", "nearest that do: 8"),
        ((96, 0, 32, 2), "batch.ghost", "nearest that do: 24 and 48"),
    ],
)
def test_parts_that_do_not_divide_are_refused_with_the_nearest_that_do(
    arguments, field, said
):
    with pytest.raises(FieldError, match=said) as caught:
        division.divide(*arguments, ordered=False)
    assert caught.value.field == field


ASKED = [
    (400, 100, 10, 8, False),
    (480, 120, 10, 16, False),
    (1_000, 0, 300, 5, False),
    (1_000, 0, 100, 3, False),
    (250, 0, 50, 4, True),
    (240, 60, 60, 8, False),
    (96, 32, 24, 1, True),
]


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_said_to_be_nearest_works_and_nothing_nearer_does(asked):
    *parts, devices, ordered = asked
    place = {"batch.size": 0, "batch.microbatch": 1, "batch.ghost": 2}

    def refused(parts):
        try:
            division.divide(*parts, devices, ordered=ordered)
        except FieldError as error:
            return error
        return None

    error = refused(parts)
    at = place[error.field]
    near = [int(each) for each in re.findall(r"\d+", str(error).partition("do: ")[2])]
    assert near

    def works(value):
        return refused([*parts[:at], value, *parts[at + 1 :]]) is None

    assert all(map(works, near))
    low = max((each for each in near if each < parts[at]), default=0)
    high = min((each for each in near if each > parts[at]), default=2 * parts[at])
    between = {*range(low + 1, high)} - {parts[at]}
    assert not any(map(works, between))


def test_where_no_other_value_divides_that_is_said():
    with pytest.raises(FieldError, match="no other does, with batch, parts and dev"):
        division.divide(60_000, 6_000, 500, 7, ordered=False)


def test_a_ghost_batch_of_several_shards_in_order_is_refused():
    """Its mean would be computed by other instructions on one device than on eight."""
    with pytest.raises(FieldError, match="nearest that do: 6 and 12") as caught:
        division.divide(96, 0, 8, 1, ordered=True)
    assert caught.value.field == "batch.ghost"


def test_three_devices_cannot_share_eight_shards():
    with pytest.raises(FieldError, match="must divide the 8 parts"):
        division.divide(96, 0, 0, 3, ordered=True)
