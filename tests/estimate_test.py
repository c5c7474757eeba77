"""The cost of a study whose data are not there, against counting by hand."""

from bsexp import estimate

# F1 without the gradient to the images, and the forward pass of one example.
KERNELS = 784 * 512 + 4 * 512**2 + 512 * 10
BATCH, EPOCHS, SEEDS = 6_000, 2, 2


def opened(*probes):
    return estimate.plan(
        {
            "data": {"name": "mnist"},
            "seeds": SEEDS,
            "train": {"epochs": EPOCHS},
            "batch": {"size": BATCH},
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
    assert found["machine"]["rate"] > 1e8


def test_sizes_are_the_papers_though_the_data_are_not_there():
    plan = estimate.plan(
        {"data": {"name": "timit"}, "model": {"name": "F2"}, "batch": {"size": "10%"}}
    )
    assert {run.batch_size for run in plan.runs} == {72_133}
