import dataclasses

import jax
import numpy as np
import pytest
from training import cohorts, jobs

from bsexp import config, results
from bsexp.models import normalisation
from bsexp.training import loop, mesh, statistics


def examples_of(data):
    return jobs.first(data.train, cohorts.EXAMPLES)


def recomputed(cohort, data, ghost):
    return statistics.recompute(
        cohort.trainer.engine,
        cohort.trainer.recipe,
        examples_of(data),
        ghost,
        cohort.state,
        cohort.placed,
    )


def assert_close(found, expected, tolerance=2e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


def written_out(parameters, images, ghost):
    """The statistics of the tiny network, layer by layer in numpy's double precision."""
    order = np.random.default_rng(0).permutation(len(images))
    batches = np.array_split(order, round(len(images) / ghost))
    hidden = [images[each].reshape(len(each), -1) / 255 for each in batches]
    found = {}
    for name in ("NormalisedDense_0", "NormalisedDense_1"):
        layer = {
            key: np.asarray(leaf, np.float64) for key, leaf in parameters[name].items()
        }
        outputs = [each @ layer["kernel"] for each in hidden]
        everything = np.concatenate(outputs)
        found[name] = {
            "mean": everything.mean(0) + layer["bias"],
            "variance": everything.var(0),
        }
        normalised = [
            (each - each.mean(0)) / np.sqrt(each.var(0) + normalisation.EPSILON)
            for each in outputs
        ]
        hidden = [
            np.maximum(each * layer["scale"] + layer["offset"], 0)
            for each in normalised
        ]
    return found


@pytest.fixture(scope="module")
def cohort(mnist):
    made = cohorts.Cohort(mnist)
    made.run(20)
    return made


@pytest.mark.parametrize("ghost", [64, 100, 900])
def test_they_are_mean_and_variance_of_all_examples_normalised_by_their_ghost_batches(
    cohort, mnist, ghost
):
    """1 280 examples are 20 ghost batches of 64, 13 of 98 and 99, one of 1 280; dropout of 0.5 is off."""
    (found,) = recomputed(cohort, mnist, ghost)
    state = cohort.member()
    images = mnist.train.images[: cohorts.EXAMPLES]
    assert_close(found, written_out(state.parameters, images, ghost), 1e-5)
    # The running averages, from batches with dropout and at earlier weights, are far off.
    first = state.statistics["NormalisedDense_0"]["mean"]
    assert np.abs(first - found["NormalisedDense_0"]["mean"]).max() > 1e-2
    assert found["NormalisedDense_0"]["mean"].dtype == np.float32


TURNED = {
    "augmentation": config.Augmentation(rotation=20),
    "optimizer": config.Optimizer(name="sgd", learning_rate=0.1),
}


@pytest.fixture(scope="module")
def alone(mnist):
    """What runs by themselves find, by their seeds."""
    return {
        seed: recomputed(cohorts.Cohort(mnist, seeds=(seed,), **TURNED), mnist, 100)[0]
        for seed in (3, 5)
    }


@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        (mesh.Layout(1, 3, 1), "jit"),
        (mesh.Layout(1, 1, 2), "jit"),
        (mesh.Layout(2, 2, 2), "jit"),
        (mesh.Layout(2, 2, 2), "pmap"),
    ],
    ids=str,
)
def test_devices_engine_and_cohort_change_only_the_rounding(mnist, alone, layout, kind):
    """Images are turned at random as well: by the seed and the place of each, not by where it lies."""
    seeds = (3, 5)[: layout.members]
    execution = config.Execution(engine=kind)
    together = cohorts.Cohort(mnist, layout, seeds=seeds, execution=execution, **TURNED)
    for seed, own in zip(seeds, recomputed(together, mnist, 100), strict=True):
        assert_close(own, alone[seed])


def test_images_are_augmented_as_while_training(mnist, alone):
    (straight,) = recomputed(cohorts.Cohort(mnist, seeds=(3,)), mnist, 100)
    means = (each["NormalisedDense_0"]["mean"] for each in (alone[3], straight))
    assert np.abs(np.subtract(*means)).max() > 1e-3


def test_images_are_turned_otherwise_for_another_seed_and_after_another_update(mnist):
    made = cohorts.Cohort(mnist, seeds=(3,), **TURNED)
    engine = made.trainer.engine

    def means(seed, updates):
        state = made.state._replace(step=made.state.step + updates)
        (found,) = statistics.recompute(
            *(engine, made.trainer.recipe, examples_of(mnist), 100, state),
            engine.spread([np.int32(seed)]),
        )
        return found["NormalisedDense_0"]["mean"]

    first = means(3, 0)
    np.testing.assert_array_equal(means(3, 0), first)
    for other in (means(4, 0), means(3, 1)):
        assert np.abs(other - first).max() > 1e-5


def test_the_averages_gathered_so_far_and_their_momentum_have_no_part(cohort, mnist):
    (expected,) = recomputed(cohort, mnist, 64)
    wrong = jax.tree.map(lambda leaf: 7 + 0 * leaf, cohort.state.statistics)
    state = cohort.state._replace(statistics=wrong)
    (found,) = statistics.recompute(
        cohort.trainer.engine,
        cohort.trainer.recipe,
        examples_of(mnist),
        64,
        state,
        cohort.placed,
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_each_example_counts_once_in_ghost_batches_of_nearly_one_size():
    for number, ghost, devices in ((1_280, 100, 3), (60_000, 7_000, 2), (5, 8, 1)):
        parts = list(statistics._parts(number, ghost, devices))
        real = [part.places[part.weights > 0] for part in parts]
        places = np.concatenate([each.ravel() for each in real])
        np.testing.assert_array_equal(np.sort(places), np.arange(number))
        sizes = {each.shape[1] for each in real}
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= 1.5 * ghost
        for part in parts:
            assert len(part.places) % devices == 0
            assert len(part.places) == len(part.weights)


def precise(job, mnist, ghost=128):
    examples = jobs.first(mnist.train, jobs.EXAMPLES)
    trainer = job.trainer

    def recompute(state, seeds):
        return statistics.recompute(
            trainer.engine, trainer.recipe, examples, ghost, state, seeds
        )

    return dataclasses.replace(job, precise=recompute)


def ended(make_job, mnist, folder, **options):
    job = precise(make_job(folder, **options), mnist)
    return job, loop.train(job)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
def test_a_run_ends_with_them_and_differs_in_nothing_else(make_job, mnist, tmp_path):
    (plain,) = loop.train(make_job(tmp_path / "plain", epochs=2))
    job, (state,) = ended(make_job, mnist, tmp_path / "precise", epochs=2)
    same(state._replace(statistics=plain.statistics), plain)
    (expected,) = job.precise(
        job.trainer.engine.spread([plain]), job.trainer.engine.spread([np.int32(0)])
    )
    same(state.statistics, expected)
    same(loop.restore(job), state)
    same(loop.train(job)[0], state)


@pytest.mark.slow
def test_runs_of_a_cohort_that_end_early_keep_theirs(make_job, mnist, tmp_path):
    """Each has the statistics of the weights and the update at which it ended, while the other may go on."""
    options = {"epochs": 30, "patience": 1, "monitor": "test_loss", "seeds": (0, 1)}
    layout = mesh.Layout(1, 1, 2)
    job, states = ended(
        make_job, mnist, tmp_path / "run", layout=layout, pieces=15, **options
    )
    assert min(int(state.step) for state in states) < 30 * 15, "one must end early"
    spread = job.trainer.engine.spread
    expected = job.precise(spread(states), spread([np.int32(0), np.int32(1)]))
    for state, own in zip(states, expected, strict=True):
        same(state.statistics, own)
    for folder, state in zip(job.folders, states, strict=True):
        rows = results.read_rows(folder / results.CURVES)
        assert rows[-1]["step"] == int(state.step), "no row of weights past its end"
    for found, state in zip(loop.train(job), states, strict=True):
        same(found, state)


def test_a_run_that_diverged_has_none(make_job, mnist, tmp_path):
    _, (end,) = ended(
        make_job,
        mnist,
        tmp_path / "run",
        epochs=2,
        optimizer=config.Optimizer(name="sgd", learning_rate=1e30),
    )
    assert isinstance(end, FloatingPointError)
