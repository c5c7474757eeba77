"""Which runs of a shape a device trains side by side."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bsexp import config, models
from bsexp.training import recipe

EXAMPLES = 60_000


def stacked(size=1_000, network="F1", platform="gpu", **fields):
    base = dataclasses.replace(config.Base(), **fields)
    shape = (28, 28, 1) if network == "F1" else (32, 32, 3)
    model = models.build(network, shape, 10, 0.9)
    return recipe.stacked(config.Run("group", 0, size, base), model, EXAMPLES, platform)


def test_an_accelerator_gets_as_many_runs_as_its_operations_allow():
    """F1 has 1 462 794 parameters, and an update takes 6 operations for each of them and each example."""
    assert stacked() == 3e10 // (6 * 1_000 * 1_462_794) == 3
    assert stacked(16) == 213
    assert stacked(6_000) == 1


def test_the_largest_batch_counts():
    growing = config.Batch(growth=10, growth_epochs=(10,))
    assert stacked(100, batch=growing) == 3


@pytest.mark.parametrize(
    "alone",
    [
        {"platform": "cpu"},
        {"network": "C1"},
        {"train": config.Train(seconds=60.0)},
        {"train": config.Train(target=0.9)},
        {"execution": config.Execution(deterministic_reduction=True)},
    ],
)
def test_some_runs_have_a_device_for_themselves(alone):
    assert stacked(16, **alone) == 1


def test_where_seconds_decide_a_cpu_trains_one_run_at_a_time():
    """Its devices share the cores: beside another a run would come less far, and the last of three farther."""
    model = models.build("F1", (28, 28, 1), 10, 0.9)

    def population(**fields):
        run = config.Run("group", 0, 16, config.Base(**fields))
        return recipe.layout(run, 3, model, EXAMPLES).members

    assert population() == 3
    assert population(train=config.Train(seconds=4.0)) == 1
    assert population(train=config.Train(target=0.9)) == 1
    prescribed = config.Execution(population=2)
    assert population(train=config.Train(seconds=4.0), execution=prescribed) == 2


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        (
            {"train": config.Train(examples=1_198_081)},
            "train.examples",
            "is not reached: config.train.epochs=20 has 1,198,080 examples; raise it",
        ),
        ({"train": config.Train(target=98)}, "train.target", "is a fraction"),
        (
            {"train": config.Train(stop_at_target=True)},
            "train.stop_at_target",
            "there is none",
        ),
        (
            {"batch": config.Batch(growth_epochs=(10, 20))},
            "batch.growth_epochs",
            "after epoch 20: the run has 20",
        ),
        (
            {
                "batch": config.Batch(growth_epochs=(2,)),
                "train": config.Train(steps=300),
            },
            "batch.growth_epochs",
            "after epoch 2: the run has 2",
        ),
        ({"data": config.Data(workers=2)}, "data.workers", "reads nothing"),
    ],
)
def test_what_would_have_no_effect_is_told(fields, field, message):
    """With 256 of 60 000 examples 300 updates end in the second epoch."""
    base = dataclasses.replace(config.Base(), **fields)
    found = recipe.errors(base, 256, EXAMPLES, normalised=True)
    assert found.keys() == {field}
    assert message in found[field]


DEFAULT = config.Run("group", 0, 256, config.Base())
# Of two runs that differ in nothing else one program can train both, each from its own numbers.
OF_EACH_RUN = {"optimizer.learning_rate", "optimizer.weight_decay"}


def others(value, path=""):
    """Yield each field that decides numbers, by its path, and the settings with another value there."""
    for field in dataclasses.fields(value):
        now, place = getattr(value, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(now):
            for name, other in others(now, f"{place}."):
                yield name, dataclasses.replace(value, **{field.name: other})
        elif field.metadata["identity"]:
            yield place, dataclasses.replace(value, **{field.name: another(now)})


def another(value):
    return {
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value + 0.25,
        str: lambda: f"{value}x",
        tuple: lambda: (*value, 1),
        dict: lambda: {**value, "b1": 0.5},
    }[type(value)]()


def test_runs_that_differ_in_a_field_that_decides_numbers_share_no_program():
    """They would be trained as the first of them. A start is a state, and a rule what it makes of the optimizer."""
    found = dict(others(config.Base()))
    assert len(found) > 50
    for name, base in found.items():
        if name.startswith(("start.", "scaling.")):
            continue
        shape = recipe.shape(dataclasses.replace(DEFAULT, base=base))
        assert (shape == recipe.shape(DEFAULT)) == (name in OF_EACH_RUN), name
    larger = dataclasses.replace(DEFAULT, batch_size=512)
    assert recipe.shape(larger) != recipe.shape(DEFAULT)
    assert recipe.shape(dataclasses.replace(DEFAULT, seed=1)) == recipe.shape(DEFAULT)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # Four times the base batch: Malladi et al. 2022 make of 1 - b1 = 0.1 and 1 - b2 = 0.001 four times as much.
        ("adam_sde", optax.adam(2e-3, 0.6, 0.996, 5e-9)),
        ("linear", optax.adam(4e-3)),
        ("square_root", optax.adam(2e-3)),
        ("none", optax.adam(1e-3)),
    ],
)
def test_a_rule_is_what_a_run_is_trained_by(rule, expected):
    base = config.Base(scaling=config.Scaling(rule=rule, base_batch=256))
    run = config.Run("group", 0, 1_024, base)
    model = models.build("F1", (28, 28, 1), 10, 0.9)
    trained = recipe.build(run, model, EXAMPLES)
    state = recipe.start(run, model, EXAMPLES)
    x, kept = state.parameters, expected.init(state.parameters)
    for i in range(3):
        gradient = jax.tree.map(lambda leaf: jnp.sin(leaf + i), x)  # noqa: B023 - used at once
        other, kept = expected.update(gradient, kept)
        update, moved = trained.optimizer.update(gradient, state.optimizer, x, 1.0)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-10),
            *(update, other),
        )
        state = state._replace(optimizer=moved)


def test_a_limit_that_another_one_comes_before_is_no_limit_that_epochs_do_not_reach():
    train = config.Train(steps=10, examples=2_000)
    base = dataclasses.replace(config.Base(), train=train)
    assert recipe.errors(base, 256, EXAMPLES, normalised=True) == {}


def test_a_loss_may_have_a_target_above_one():
    train = config.Train(target=1.5, target_metric="test_loss", stop_at_target=True)
    base = dataclasses.replace(config.Base(), train=train)
    assert recipe.errors(base, 256, EXAMPLES, normalised=True) == {}
