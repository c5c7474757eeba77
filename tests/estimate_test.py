"""The cost of a study whose data are not there, against counting by hand."""

import pytest

from bsexp import config, dry_run, estimate
from bsexp.data import sources

# F1 without the gradient to the images, and the forward pass of one example.
KERNELS = 784 * 512 + 4 * 512**2 + 512 * 10
BATCH, EPOCHS, SEEDS = 6_000, 2, 2


def opened(*probes, size=BATCH):
    return estimate.plan(
        {
            "data": {"name": "mnist"},
            "seeds": SEEDS,
            "train": {"epochs": EPOCHS},
            "batch": {"size": size},
            "measure": {"probes": probes, "modes": ("running",)},
        }
    )


def test_training_and_measuring_cost_what_their_matrix_products_do():
    found = estimate.estimate(opened("evaluation"))
    training = EPOCHS * 60_000 * (6 * KERNELS - 2 * 784 * 512)
    evaluation = 70_000 * 2 * KERNELS
    expected = SEEDS * (training + evaluation)
    assert 1.0 < found["flops"] / expected < 1.05
    assert found["runs"] == len(found["names"]) == SEEDS


@pytest.mark.parametrize(
    ("of_updates", "of_measuring"), [(1e9, 1e9), (1e9, 1e11), (1e11, 1e9)]
)
def test_small_updates_and_measuring_have_rates_of_their_own(
    monkeypatch, of_updates, of_measuring
):
    """Of the sum of their times there is one rate."""
    rates = {16: of_updates, dry_run.TIMED_EXAMPLES: of_measuring}
    monkeypatch.setattr(dry_run, "rate", lambda *arguments: rates[(*arguments, 256)[2]])
    found = estimate.estimate(opened("evaluation", size=16))
    measuring = SEEDS * 70_000 * 2 * KERNELS
    seconds = (found["flops"] - measuring) / of_updates + measuring / of_measuring
    assert found["machine"]["rate"] == pytest.approx(found["flops"] / seconds, rel=0.02)


def test_the_rate_of_large_updates_is_the_largest_timed_one():
    found = sources.describe("mnist", "")
    largest = dry_run.rate(found, config.Model(), dry_run.TIMED_EXAMPLES)
    assert dry_run.rate(found, config.Model(), 6_000) == largest
    # Of one example the weights are read for two products only.
    assert dry_run.rate(found, config.Model(), 1) < largest


def test_sizes_are_the_papers_though_the_data_are_not_there():
    plan = estimate.plan(
        {"data": {"name": "timit"}, "model": {"name": "F2"}, "batch": {"size": "10%"}}
    )
    assert {run.batch_size for run in plan.runs} == {72_133}
