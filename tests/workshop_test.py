"""What the configuration of a run makes of it: its network, and its statistics at the end."""

import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from rich.console import Console
from training import cohorts  # noqa: F401 - names the network "tiny"

from bsexp import config, door, progress, study, workdir, workshop
from bsexp.models import normalisation
from bsexp.training import descent, loop, mesh, optim, recipe, statistics


def network(name="C1", **fields):
    return workshop.build_model(config.Model(name=name, **fields), (32, 32, 3), 10)


def started(model):
    return model.init(jax.random.key(0))


def test_the_variant_is_that_of_the_configuration():
    def size(**fields):
        parameters, _ = jax.eval_shape(network(**fields).init, jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(parameters))

    released = size(variant="released")
    assert released == 1_757_834
    assert size() != released


def test_the_momentum_is_the_weight_of_the_past():
    """From a mean of 0, one update leaves 1 - m of the batch's: at m = 0.5 five times that at 0.9."""
    inputs = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
    half, most = (
        _moved(network("tiny", batch_norm_momentum=momentum), inputs)
        for momentum in (0.5, 0.9)
    )
    np.testing.assert_allclose(half, 5 * most, rtol=1e-5)
    assert np.abs(half).max() > 0.01


def _moved(model, inputs):
    keys = jax.random.split(jax.random.key(2), len(inputs))
    ghost = normalisation.whole(len(inputs))
    _, found = model.train(*started(model), inputs, keys, ghost)
    return found["NormalisedDense_0"]["mean"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_is_that_of_the_products_in_training(precision):
    model = network("F1", precision=precision)
    inputs, keys = jnp.zeros((8, 32, 32, 3)), jax.random.split(jax.random.key(2), 8)
    ghost = normalisation.whole(8)

    def logits(parameters, averages):
        return model.train(parameters, averages, inputs, keys, ghost)[0]

    assert ("bf16" in str(jax.make_jaxpr(logits)(*started(model)))) == (
        precision == "bfloat16"
    )


@contextlib.contextmanager
def opened(mnist_dir, folder, **settings):
    """Open a small study and its workshop."""
    small = {
        "data": {"dir": str(mnist_dir), "train_size": 400},
        "batch": {"size": 80},
        "model": {"name": "tiny"},
        "train": {"epochs": 2},
        "seeds": 1,
    }
    plan = door.open_study(small | settings, [], study.catalogue())
    place = workdir.Workdir(folder, plan, "test", "")
    with progress.Progress(0.0, Console(file=io.StringIO())) as unseen:
        yield plan, workshop.Workshop(plan, place, unseen)


@pytest.mark.parametrize(
    ("batch", "ghost"),
    [
        ({"ghost": 40}, 40),
        ({}, 80),
        ({"size": 40, "growth_epochs": (1,)}, 80),  # the batch of the last epoch
    ],
)
def test_precise_statistics_are_those_of_the_training_set_by_the_ghost_batches(
    mnist_dir, tmp_path, batch, ghost
):
    batch = {"size": 80, "statistics": "precise", **batch}
    with opened(mnist_dir, tmp_path, batch=batch) as (plan, shop):
        (run,) = plan.runs
        job = shop.job([run], mesh.Layout(1, 1, 1))
        (end,) = loop.train(job)
        engine, train = job.trainer.engine, shop.material(run).data.train
    first, other = (
        statistics.recompute(
            engine,
            job.trainer.recipe,
            train,
            size,
            engine.spread([end]),
            engine.spread([np.int32(run.seed)]),
        )[0]
        for size in (ghost, 400)
    )
    jax.tree.map(np.testing.assert_array_equal, end.statistics, first)
    differing = jax.tree.map(lambda a, b: (a != b).any(), first, other)
    assert any(jax.tree.leaves(differing))


def test_a_run_decays_beside_one_that_does_not(mnist_dir, tmp_path):
    """They share a program, which has the penalty where one of them has it."""
    ends = {}
    for names in (("without", "with"), ("with",)):
        groups = {
            name: {"optimizer": {"weight_decay": 0.5 if name == "with" else 0.0}}
            for name in names
        }
        folder = tmp_path / str(len(names))
        with opened(mnist_dir, folder, groups=groups) as (plan, shop):
            runs = list(plan.runs)
            job = shop.job(runs, mesh.Layout(len(runs), 1, len(runs)))
            ends[names] = dict(zip(names, loop.train(job), strict=True))
    (pair, alone) = ends.values()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        pair["with"].parameters,
        alone["with"].parameters,
    )
    norms = {name: float(optax.tree.norm(end.parameters)) for name, end in pair.items()}
    assert norms["with"] < 0.99 * norms["without"]


def test_a_rule_reaches_the_rates_the_start_and_what_is_measured(mnist_dir, tmp_path):
    """Four times the base batch: Adam's rate doubles, its betas and eps change too."""
    scaling = {"rule": "adam_sde", "base_batch": 20}
    with opened(mnist_dir, tmp_path, scaling=scaling) as (plan, shop):
        (run,) = plan.runs
        job = shop.job([run], mesh.Layout(1, 1, 1))
        assert float(job.rates[0]["learning_rate"]) == pytest.approx(2e-3)
        jax.tree.map(np.testing.assert_array_equal, shop.start(run), loop.start(job, 0))
        (end,) = loop.train(job)
        point = shop.point(run, end)
    preconditioners, descents = (
        [found(each) for each in (recipe.scaled_optimizer(run), run.base.optimizer)]
        for found in (
            lambda optimizer: optim.preconditioner(optimizer, end.optimizer),
            lambda optimizer: descent.at(job.trainer.recipe, optimizer, end),
        )
    )
    ours, unscaled = (ravel_pytree(each)[0] for each in preconditioners)
    np.testing.assert_array_equal(ravel_pytree(point.preconditioner)[0], ours)
    assert not np.allclose(ours, unscaled, rtol=1e-3)
    for part in ("learning_rate", "limit"):
        right, wrong = (getattr(each, part) for each in descents)
        assert getattr(point.descent, part) == right != wrong


@pytest.mark.slow
def test_a_trainer_has_as_many_members_as_its_cohort(mnist_dir, tmp_path):
    """Also where the mesh is the same, and runs are stacked on it."""
    with opened(mnist_dir, tmp_path, seeds=2) as (plan, shop):
        for number in (1, 2):
            job = shop.job(list(plan.runs[:number]), mesh.Layout(1, 1, number))
            assert job.trainer.engine.members == number
