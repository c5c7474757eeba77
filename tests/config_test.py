import dataclasses

import pytest

from bsexp import config, counts
from bsexp.curvature import estimate


def run(**changes):
    base = dataclasses.replace(config.Base(), **changes)
    return config.Run("SB", 0, 256, base)


def test_the_identity_of_the_default_run_is_known():
    assert run().name == "mnist-F1-adam-B256-seed0-fa4bbc78", (
        "the hash of an unchanged configuration has changed: every committed and every user's result would be "
        "computed again. If a field was added that decides numbers, this is right and the golden value moves."
    )


def test_what_decides_numbers_enters_the_hash():
    names = {
        run().name,
        run(optimizer=config.Optimizer(learning_rate=2e-3)).name,
        run(optimizer=config.Optimizer(arguments={"b1": 0.8})).name,
        run(train=config.Train(epochs=21)).name,
        run(model=config.Model(batch_norm_momentum=0.99)).name,
        dataclasses.replace(run(), seed=1).name,
        dataclasses.replace(run(), batch_size=257).name,
    }
    assert len(names) == 7


def test_what_only_moves_or_speeds_a_run_does_not_enter_the_hash():
    moved = run(
        data=config.Data(dir="elsewhere"),
        train=config.Train(steps_per_dispatch=7, checkpoint_every=3),
    )
    assert moved.name == run().name
    assert dataclasses.replace(run(), group="LB").name == run().name


def test_a_target_enters_the_hash_only_where_training_ends_at_it():
    aims = [{"target": 0.9}, {"target": 0.1, "target_metric": "test_loss"}]
    read = {run(train=config.Train(**each)).name for each in aims}
    ended = {run(train=config.Train(**each, stop_at_target=True)).name for each in aims}
    assert read == {run().name}
    assert len(ended | read) == 3


def test_a_field_added_later_enters_the_hash_only_where_it_is_set():
    changed = {
        run(model=config.Model(precision="bfloat16")).name,
        run(batch=config.Batch(statistics="precise")).name,
        run(robust=config.Robust(conservative=1e-3)).name,
        run(robust=config.Robust(adversarial=0.1)).name,
        run(train=config.Train(evaluations=2)).name,
    }
    assert len(changed | {run().name}) == 6
    assert "precision" not in run().identity["model"]


def test_a_percentage_is_the_run_that_it_comes_to():
    percent = run(batch=config.Batch(size="10%"))
    number = run(batch=config.Batch(size=6_000))
    as_run = dataclasses.replace(percent, batch_size=6_000)
    assert as_run.name == dataclasses.replace(number, batch_size=6_000).name


@pytest.mark.parametrize(
    ("value", "total", "expected"),
    [(256, 60_000, 256), ("10%", 60_000, 6_000), ("0.5%", 1_001, 5)],
)
def test_counts_are_numbers_or_percentages(value, total, expected):
    assert counts.resolve(value, total) == expected


def test_a_subset_is_never_empty_and_never_more_than_all():
    assert counts.subset("1%", 10) == 1
    assert counts.subset(10_000, 10) == 10


def test_how_a_gradient_becomes_an_update_enters_the_hash():
    names = {
        run(**{field: kind(**{name: value})}).name
        for field, kind, name, value in (
            ("optimizer", config.Optimizer, "name", "adam"),
            ("optimizer", config.Optimizer, "weight_decay", 0.1),
            ("optimizer", config.Optimizer, "decay_mask", "kernels"),
            ("optimizer", config.Optimizer, "clip_norm", 1.0),
            ("optimizer", config.Optimizer, "sam_radius", 0.05),
            ("optimizer", config.Optimizer, "sam_adaptive", True),
            ("schedule", config.Schedule, "name", "cosine_decay_schedule"),
            ("schedule", config.Schedule, "arguments", {"value": 0.5}),
            ("schedule", config.Schedule, "warmup", 5.0),
            ("schedule", config.Schedule, "unit", "steps"),
            ("scaling", config.Scaling, "rule", "linear"),
            ("scaling", config.Scaling, "base_batch", 128),
        )
    }
    assert len(names) == 12


def test_the_fewest_vectors_of_a_trace_are_those_from_which_the_estimate_looks():
    """The configuration knows nothing of the estimate, and says in --help what it does."""
    looks_from = estimate.LEAST_SAMPLES + estimate.RECENT
    assert looks_from == config.FEWEST_TRACE_PROBES
