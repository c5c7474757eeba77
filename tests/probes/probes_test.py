"""Probes against numbers computed in another way, at a real point of F1 on real MNIST."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from training import jobs

from bsexp import config, models, probes
from bsexp.curvature import (
    density,
    memory,
    operator,
    perturbation,
    sharpness,
    subspace,
    trace,
)
from bsexp.data import examples, sources
from bsexp.models import normalisation
from bsexp.probes import bench as bench_module
from bsexp.probes import hessian as hessian_probe
from bsexp.probes import path
from bsexp.probes.bench import Bench
from bsexp.probes.sharpness import epsilon_name
from bsexp.probes.task import Point

# All probes, compiled: a minute before the first test.
pytestmark = pytest.mark.slow

TRAIN, TEST = 300, 130
MEASURE = config.Measure(
    probes=(*config.Measure().probes, "density", "flatness", "noise_scale"),
    statistics_batch=100,
    sharpness=config.Sharpness(
        epsilons=(1e-3,),
        running_examples=150,
        batch_examples=100,
        guide_examples=50,
        lbfgsb_iterations=3,
        ascent_steps=3,
        subspace=5,
    ),
    hessian=config.Hessian(
        examples=100,
        trace_probes=4,
        lanczos_iterations=8,
        eigenvalues=2,
        preconditioned=True,
    ),
    density=config.Density(examples=100, starts=2, iterations=4),
    flatness=config.Flatness(
        examples=100,
        sam_examples=30,
        sam_radius=0.03,
        adaptive_radius=0.4,
        noise=1e-2,
        adaptive_noise=0.2,
        steps=2,
        evaluations=8,
    ),
    noise_scale=config.NoiseScale(groups=12, group_size=4),
    path=config.Path(
        shapes=("linear", "arc"), points=3, first=-1.0, last=1.0, examples=100
    ),
)


@pytest.fixture(scope="module")
def data(mnist):
    def cut(split, count):
        return sources.Split(split.images[:count], split.labels[:count])

    return dataclasses.replace(
        mnist, train=cut(mnist.train, TRAIN), test=cut(mnist.test, TEST)
    )


@pytest.fixture(scope="module")
def points(data):
    """A start, and the point after one step of training, with statistics that have moved."""
    model = jobs.network()
    parameters, statistics = model.init(jax.random.key(0))
    moved = jax.tree.map(lambda leaf: 1.1 * leaf, parameters)
    inputs = jnp.asarray(data.train.images) / 255
    ghost = normalisation.whole(len(inputs))
    _, other = model.train(parameters, statistics, inputs, None, ghost)
    twos = jax.tree.map(lambda leaf: jnp.full_like(leaf, 2), parameters)
    return Point("a", parameters, statistics, parameters), Point(
        "b", moved, other, parameters, preconditioner=twos
    )


@pytest.fixture(scope="module")
def hessian(data, points):
    """The Hessian in mode running, and the point."""
    bench = Bench(jobs.network(), data, MEASURE.statistics_batch, lambda _: None)
    objective = bench.objective(points[1].statistics, 100, "running")
    return objective.hessian(points[1].parameters), points[1].parameters


@pytest.mark.parametrize("mode", ["running", "batch"])
def test_chunks_spread_over_devices_give_the_same_loss_and_derivatives(
    data, points, monkeypatch, mode
):
    monkeypatch.setattr(bench_module, "RUNNING_CHUNK", 100)
    one, several = (
        Bench(jobs.network(), data, 60, lambda _: None, jax.devices()[:count])
        for count in (1, 4)
    )
    x = points[1].parameters
    vectors = jax.tree.map(lambda leaf: leaf[None], points[0].parameters)

    def derivatives(bench):
        f = bench.objective(points[1].statistics, TRAIN, mode)
        value, gradient = f.value_and_gradient(x)
        found = [gradient, f.hessian(x)(vectors)]
        if mode == "running":
            found.append(f.gauss_newton_diagonal(x))
        return f.value(x), value, *(ravel_pytree(each)[0] for each in found)

    for ours, theirs in zip(derivatives(several), derivatives(one), strict=True):
        scale = float(np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * scale)
    # 300 examples in chunks of 100: three devices have one each, a fourth has nothing to do
    used = several._shared(TRAIN, mode).mesh.size
    assert used == {"running": 3, "batch": 4}[mode]


@pytest.mark.parametrize(("spare", "chunks"), [(0, 3), (-1, 4)])
def test_a_chunk_of_mode_running_is_as_large_as_its_linearisation_may_be(
    data, points, monkeypatch, spare, chunks
):
    """300 examples, where exactly 100 fit, and where a byte is missing."""
    bench = Bench(jobs.network(), data, 1, lambda _: None)
    loss = bench.loss(points[0].statistics, "running")
    many, few = (
        memory.linearisation_bytes(loss, points[0].parameters, bench.batch(count))
        for count in (200, 100)
    )
    monkeypatch.setattr(bench_module, "RUNNING_BYTES", many - few + spare)
    assert len(bench.chunks("train", TRAIN, "running")) == chunks


@pytest.fixture(scope="module")
def measured(data, points):
    """Every task of MEASURE at the second point."""
    spent = []
    bench = Bench(jobs.network(), data, MEASURE.statistics_batch, spent.append)
    found = {}
    for task in probes.tasks(MEASURE.probes, MEASURE, {"train": TRAIN, "test": TEST}):
        before = sum(spent)
        result = task.measure(bench, points[1], *([points[0]] if task.pair else []))
        found[task.name] = result, sum(spent) - before, task
    return found


def test_every_task_of_every_mode_is_there(measured):
    assert list(measured) == [
        "evaluation/running",
        "evaluation/batch",
        "distance_from_start",
        "hessian/trace/running",
        "hessian/lambda_max/running",
        "hessian/trace/batch",
        "hessian/lambda_max/batch",
        "hessian/preconditioned/batch",
        "sharpness/full/1e-3/running",
        "sharpness/subspace/1e-3/running",
        "sharpness/full/1e-3/batch",
        "sharpness/subspace/1e-3/batch",
        "path/linear/running",
        "path/linear/batch",
        "path/arc/running",
        "path/arc/batch",
        "hessian/density/running",
        "hessian/density/batch",
        "flatness/running",
        "flatness/batch",
        "noise_scale/running",
    ]


def test_the_planned_cost_is_about_what_was_spent(measured):
    for name, (_, spent, task) in measured.items():
        assert 0.4 * task.cost <= spent <= 1.6 * task.cost or task.cost == 0, name


def loss_of(data, points, split="train"):
    chosen = getattr(data, split)
    images, labels = jnp.asarray(chosen.images) / 255, chosen.labels
    logits = jobs.network().apply(
        points[1].parameters, points[1].statistics, images, "running"
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.asarray(labels)
    )
    return float(losses.mean()), float((logits.argmax(-1) == labels).mean())


def test_evaluation_is_over_the_whole_of_both_splits(measured, data, points):
    values = measured["evaluation/running"][0].values
    for split in ("train", "test"):
        loss, accuracy = loss_of(data, points, split)
        np.testing.assert_allclose(values[f"{split}_loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(values[f"{split}_accuracy"], accuracy, rtol=1e-6)
    assert set(measured["evaluation/batch"][0].values) == {
        f"{split}_{kind}/batch"
        for split in ("train", "test")
        for kind in ("loss", "accuracy")
    }


def test_distance_is_the_euclidean_norm_over_all_parameters(measured, points):
    start = ravel_pytree(points[0].parameters)[0]
    expected = 0.1 * np.linalg.norm(start)
    np.testing.assert_allclose(
        measured["distance_from_start"][0].values["distance_from_start"],
        expected,
        rtol=1e-4,
    )


def own_loss(data, points, examples):
    """The loss in mode running of the first examples in the fixed order, written anew."""
    order = np.random.default_rng(0).permutation(TRAIN)[:examples]
    batch = jnp.asarray(data.train.images[order]), jnp.asarray(data.train.labels[order])

    def loss(parameters, batch):
        images, labels = batch
        logits = jobs.network().apply(
            parameters, points[1].statistics, images / 255, "running"
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return loss, batch


@pytest.mark.parametrize("space", ["full", "subspace", "subspace of long columns"])
def test_sharpness_is_keskars_of_that_loss_in_that_space(data, points, space):
    """150 examples, of which the first 50 lead the ascent; columns of length 1, or sqrt(n)."""
    x = points[1].parameters
    chosen = dataclasses.replace(
        MEASURE.sharpness, subspace_unit_columns=space == "subspace"
    )
    measure = dataclasses.replace(MEASURE, sharpness=chosen)
    name = f"sharpness/{space.partition(' ')[0]}/1e-3/running"
    task = next(
        each
        for each in probes.tasks(
            ("sharpness",), measure, {"train": TRAIN, "test": TEST}
        )
        if each.name == name
    )
    bench = Bench(jobs.network(), data, MEASURE.statistics_batch, lambda _: None)
    found = task.measure(bench, points[1])
    whole, guide = (
        operator.objective(loss, [batch])
        for loss, batch in (own_loss(data, points, number) for number in (150, 50))
    )
    number = ravel_pytree(x)[0].size
    length = 1.0 if space == "subspace" else math.sqrt(number)
    expected = sharpness.keskar(
        whole,
        x,
        1e-3,
        iterations=3,
        steps=3,
        guide=guide,
        subspace=None
        if space == "full"
        else subspace.random(jax.random.key(0), x, 5, length=length),
    )
    for value, search in (
        (found.values[f"{name}/lbfgsb"], "lbfgsb"),
        (found.detail["searches"]["sign_ascent"]["value"], "sign_ascent"),
    ):
        np.testing.assert_allclose(
            value, expected.searches[search].value, rtol=1e-3, err_msg=search
        )


def test_sharpness_holds_both_searches_and_the_larger_is_the_value(measured):
    for mode in ("running", "batch"):
        name = f"sharpness/full/1e-3/{mode}"
        found = measured[name][0]
        searches = found.detail["searches"]
        assert set(searches) == {"lbfgsb", "sign_ascent"}
        assert (
            found.values[name]
            == max(search["value"] for search in searches.values())
            > 0
        )
        assert searches["lbfgsb"]["message"]
    assert measured["sharpness/full/1e-3/running"][0].detail["examples"] == 150
    assert measured["sharpness/full/1e-3/batch"][0].detail["examples"] == 100


def test_the_trace_comes_with_its_standard_error_and_lambda_max_with_its_residual(
    measured,
):
    for mode in ("running", "batch"):
        whole = measured[f"hessian/trace/{mode}"][0]
        assert len(whole.detail["samples"]) == 4
        np.testing.assert_allclose(
            whole.detail["stderr"], np.std(whole.detail["samples"], ddof=1) / 2
        )
        total = sum(layer["trace"] for layer in whole.detail["layers"].values())
        np.testing.assert_allclose(
            total, whole.values[f"hessian/trace/{mode}"], rtol=1e-4
        )
        largest = measured[f"hessian/lambda_max/{mode}"][0]
        assert largest.detail["residual"] < largest.values[f"hessian/lambda_max/{mode}"]
        first, second = largest.detail["eigenvalues"]
        assert first == largest.values[f"hessian/lambda_max/{mode}"] > second


def test_with_the_gauss_newton_matrix_as_control_the_trace_is_far_better_known(
    measured, hessian
):
    running, batch = (
        measured[f"hessian/trace/{mode}"][0].detail for mode in ("running", "batch")
    )
    assert (running["control"], batch["control"]) == ("gauss_newton", "")
    value = measured["hessian/trace/running"][0].values["hessian/trace/running"]
    plain = trace.hutchinson(*hessian, jax.random.key(3), 16)
    assert abs(plain.value - value) <= 4 * np.hypot(plain.stderr, running["stderr"])
    assert running["stderr"] * 4**0.5 < plain.stderr * 16**0.5


def test_of_many_classes_the_trace_is_measured_without_the_exact_diagonal(
    data, points, monkeypatch
):
    """As many backward passes as there are classes cost more than the products that they save."""
    monkeypatch.setattr(hessian_probe, "MOST_CLASSES", 9)
    bench = Bench(jobs.network(), data, MEASURE.statistics_batch, lambda _: None)
    task = next(
        each
        for each in probes.tasks(("hessian",), MEASURE, {"train": TRAIN, "test": TEST})
        if each.name == "hessian/trace/running"
    )
    found = task.measure(bench, points[1])
    assert found.detail["control"] == ""
    objective = bench.objective(
        points[1].statistics, found.detail["examples"], "running"
    )
    x = points[1].parameters
    exact = objective.gauss_newton_diagonal(x)
    known = sum(float(leaf.sum()) for leaf in jax.tree.leaves(exact))
    rest = trace.hutchinson(objective.residual(x), x, jax.random.key(1), 16)
    difference = found.values["hessian/trace/running"] - known - rest.value
    assert abs(difference) <= 4 * np.hypot(found.detail["stderr"], rest.stderr)


def test_the_preconditioned_eigenvalue_is_that_of_the_divided_hessian(measured):
    """A preconditioner of twos halves every eigenvalue."""
    plain, halved = (
        measured[f"hessian/{name}/batch"][0].values[f"hessian/{name}/batch"]
        for name in ("lambda_max", "preconditioned")
    )
    np.testing.assert_allclose(halved, plain / 2, rtol=2e-2)


def test_of_examples_on_disk_only_those_that_are_measured_are_read(mnist_dir):
    """They are the ones that are measured in memory."""
    settings = config.Data(dir=str(mnist_dir), train_size=TRAIN)
    streamed = dataclasses.replace(settings, streaming=True)
    loaded, on_disk = examples.load(settings), examples.load(streamed)
    read = []

    class Watched(examples.Training):
        def read(self, indices):
            read.append(len(indices))
            return super().read(indices)

    watched = dataclasses.replace(on_disk, train=Watched(streamed))
    benches = [
        Bench(jobs.network(), each, MEASURE.statistics_batch, lambda _: None)
        for each in (loaded, watched)
    ]
    found = [each.chunks("train", 150, "batch") for each in benches]
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert read == [150]
    held = {isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found[1])}
    assert held == {False}, "none of them stays on the device"
    read.clear()
    model = jobs.network()
    parameters, statistics = model.init(jax.random.key(0))
    for mode in models.MODES:
        ours, theirs = (
            each.evaluate(parameters, statistics, "train", TRAIN, mode)
            for each in benches
        )
        assert ours == theirs
    # A chunk at a time: in mode running of up to 1 000, in mode batch of 100.
    assert read == [TRAIN, *[MEASURE.statistics_batch] * 3]


def test_without_second_moments_there_is_no_preconditioned_eigenvalue(data, points):
    bench = Bench(jobs.network(), data, MEASURE.statistics_batch, lambda _: None)
    chosen = next(
        task
        for task in probes.tasks(
            MEASURE.probes, MEASURE, {"train": TRAIN, "test": TEST}
        )
        if task.name == "hessian/preconditioned/batch"
    )
    assert chosen.measure(bench, points[0]).values == {}


def test_the_density_integrates_to_one_and_its_top_is_lambda_max(measured):
    for mode in ("running", "batch"):
        detail = measured[f"hessian/density/{mode}"][0].detail
        area = np.trapezoid(detail["mean"], detail["grid"])
        np.testing.assert_allclose(area, 1, rtol=1e-3)
        largest = measured[f"hessian/lambda_max/{mode}"][0].values
        edge = max(detail["grid"]) - 5 * detail["width"]
        # Four iterations see the largest eigenvalue of a spectrum with outliers, from below.
        top = largest[f"hessian/lambda_max/{mode}"]
        assert 0.7 * top < edge < 1.02 * top


@pytest.mark.parametrize("factor", [0.0, -2.0])
def test_a_spectrum_of_one_eigenvalue_has_a_density(factor):
    """The Hessian of a saturated softmax is 0."""
    x = {"w": jnp.ones((3, 2))}
    found = density.lanczos_quadrature(
        lambda v: jax.tree.map(lambda leaf: factor * leaf, v),
        x,
        jax.random.key(0),
        starts=2,
        iterations=4,
    )
    low, high = float(found.nodes.min()), float(found.nodes.max())
    width = probes.density._width(low, high)
    grid = np.linspace(low - 5 * width, high + 5 * width, 400)
    curve = density.curve(found, grid, width)
    np.testing.assert_allclose(np.trapezoid(curve.mean, grid), 1, rtol=1e-3)
    assert np.all(np.isfinite([curve.lower, curve.upper]))


def test_the_negative_share_is_that_of_the_hessian(measured, hessian):
    operator_at, x = hessian
    found = density.lanczos_quadrature(
        operator_at, x, jax.random.key(0), starts=2, iterations=4
    )
    share = density.negative(found, 0.0).share.value
    assert share > 0.01
    values = measured["hessian/density/running"][0].values
    np.testing.assert_allclose(
        values["hessian/negative_share/running"], share, rtol=1e-3
    )


def test_each_ball_and_each_noise_is_measured_by_its_own_setting(
    measured, data, points
):
    x = points[1].parameters
    loss, batch = own_loss(data, points, 100)
    whole, sizes = operator.objective(loss, [batch]), jax.tree.map(jnp.abs, x)

    def worst(radius, **more):
        return perturbation.worst_case(whole, x, radius, steps=2, **more)

    def average(noise, **more):
        return perturbation.average_case(whole, x, noise, jax.random.key(0), 8, **more)

    expected = {
        "sam": worst(0.03),
        "adaptive": worst(0.4, scale=sizes),
        "m_sharpness": perturbation.m_sharpness(
            loss, operator.split(batch, 30), x, 0.03, steps=2
        ),
        "noise": average(1e-2),
        "adaptive_noise": average(0.2, scale=sizes),
    }
    found = measured["flatness/running"][0]
    assert found.detail["groups"] == 4
    for name, rise in expected.items():
        np.testing.assert_allclose(
            found.values[f"flatness/{name}/running"],
            rise.value,
            rtol=1e-3,
            err_msg=name,
        )


def test_groups_of_examples_rise_further_than_all_together(measured):
    """Each group finds a delta of its own."""
    for mode in ("running", "batch"):
        values = measured[f"flatness/{mode}"][0].values
        assert (
            values[f"flatness/m_sharpness/{mode}"] >= values[f"flatness/sam/{mode}"] > 0
        )


def test_the_trace_and_lanczos_stop_at_their_tolerances(data, points):
    def found(task_name, **changes):
        chosen = dataclasses.replace(MEASURE.hessian, **changes)
        measure = dataclasses.replace(MEASURE, hessian=chosen)
        bench = Bench(jobs.network(), data, MEASURE.statistics_batch, lambda _: None)
        tasks = probes.tasks(("hessian",), measure, {"train": TRAIN, "test": TEST})
        task = next(each for each in tasks if each.name == task_name)
        return task.measure(bench, points[1]).detail

    whole, early = (
        found("hessian/trace/running", trace_probes=64, trace_tolerance=tolerance)
        for tolerance in (0.0, 0.5)
    )
    assert (whole["stopped"], whole["probes"]) == ("budget", 64)
    assert early["stopped"] == "tolerance"
    assert early["probes"] < 64
    loose, tight = (
        found(
            "hessian/lambda_max/running",
            lanczos_iterations=40,
            lanczos_tolerance=tolerance,
        )
        for tolerance in (0.9, 1e-3)
    )
    assert loose["converged"]
    assert loose["matvecs"] < tight["matvecs"]


def test_the_noise_scale_is_that_of_the_gradients_of_the_groups(measured, data, points):
    """Weighted by the Hessian of the 48 examples that come after those of the groups."""
    found = measured["noise_scale/running"][0]
    order = np.random.default_rng(0).permutation(TRAIN)[:96]
    images = jnp.asarray(data.train.images[order]) / 255
    labels = jnp.asarray(data.train.labels[order])

    def loss(parameters, chosen):
        logits = jobs.network().apply(
            parameters, points[1].statistics, images[chosen], "running"
        )
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, labels[chosen]
        ).mean()

    gradients = np.stack(
        [
            ravel_pytree(jax.grad(loss)(points[1].parameters, np.arange(i, i + 4)))[0]
            for i in range(0, 48, 4)
        ]
    ).astype(np.float64)
    mean = gradients.mean(axis=0)
    trace_covariance = 4 / 11 * np.sum((gradients - mean) ** 2)
    square = mean @ mean - trace_covariance / 48
    np.testing.assert_allclose(
        found.values["noise_scale/simple/running"], trace_covariance / square, rtol=1e-3
    )
    x, unravel = ravel_pytree(points[1].parameters)
    slope = jax.grad(lambda x: loss(unravel(x), np.arange(48, 96)))
    multiply = jax.jit(lambda v: jax.jvp(slope, (x,), (v,))[1])
    products = gradients @ np.stack([multiply(g) for g in gradients], axis=1)
    whole = products.mean()
    weighted = 4 * 12 / 11 * (np.trace(products) / 12 - whole)
    np.testing.assert_allclose(
        found.values["noise_scale/curved/running"],
        weighted / (whole - weighted / 48),
        rtol=1e-3,
    )
    assert set(found.detail["layers"]) == set(
        measured["hessian/trace/running"][0].detail["layers"]
    )


def test_the_modes_measure_different_things(measured):
    for name in ("hessian/trace", "sharpness/full/1e-3"):
        running, batch = (
            measured[f"{name}/{mode}"][0].values[f"{name}/{mode}"]
            for mode in ("running", "batch")
        )
        assert abs(running - batch) > 1e-3 * abs(running)


def test_the_path_goes_through_both_points(measured, data, points):
    detail = measured["path/linear/running"][0].detail
    assert detail["from"] == "a"
    assert detail["alpha"] == [-1.0, 0.0, 1.0]
    test_loss, test_accuracy = loss_of(data, points, "test")
    np.testing.assert_allclose(detail["test_loss"][2], test_loss, rtol=1e-4)
    np.testing.assert_allclose(detail["test_accuracy"][2], test_accuracy)
    at_start = jobs.network().apply(
        points[0].parameters,
        points[0].statistics,
        jnp.asarray(data.test.images) / 255,
        "running",
    )
    expected = optax.softmax_cross_entropy_with_integer_labels(
        at_start, jnp.asarray(data.test.labels)
    ).mean()
    np.testing.assert_allclose(detail["test_loss"][1], expected, rtol=1e-4)


def test_the_arc_goes_through_both_points_and_the_negative_of_the_second(
    measured, data, points
):
    """sin and cos of alpha pi / 2 are (-1, 0), (0, 1) and (1, 0) at alpha = -1, 0 and 1; the averages are that point's."""
    line, arc = (
        measured[f"path/{shape}/running"][0].detail for shape in ("linear", "arc")
    )
    np.testing.assert_allclose(arc["test_loss"][1:], line["test_loss"][1:], rtol=1e-4)
    negative = jax.tree.map(lambda leaf: -leaf, points[1].parameters)
    there = points[1]._replace(parameters=negative)
    loss, accuracy = loss_of(data, [points[0], there], "test")
    np.testing.assert_allclose(arc["test_loss"][0], loss, rtol=1e-4)
    np.testing.assert_allclose(arc["test_accuracy"][0], accuracy)


def test_running_averages_on_the_arc_are_a_mean_of_those_of_both_points():
    assert path.share("linear", 1.5) == 1.5
    shares = [path.share("arc", alpha) for alpha in (-1, 0, 0.5, 1, 2)]
    np.testing.assert_allclose(shares, [1, 0, 0.5, 1, 0], atol=1e-15)


def test_settings_tell_what_decides_a_value():
    tasks = {
        task.name: task.settings
        for task in probes.tasks(
            MEASURE.probes, MEASURE, {"train": TRAIN, "test": TEST}
        )
    }
    assert tasks["sharpness/full/1e-3/running"]["examples"] == 150
    assert tasks["sharpness/full/1e-3/batch"]["statistics_batch"] == 100
    assert "statistics_batch" not in tasks["sharpness/full/1e-3/running"]
    assert tasks["hessian/trace/running"]["probes"] == 4


def test_a_subset_is_a_fixed_random_choice_and_at_most_all(data):
    bench = Bench(jobs.network(), data, 1_000, lambda _: None)
    once, again = (bench.chunks("train", 50, "batch")[0] for _ in range(2))
    np.testing.assert_array_equal(once[0], again[0])
    assert len(bench.chunks("train", 50, "batch")[0][1]) == 50
    few = {
        task.name: task.settings
        for task in probes.tasks(
            ("hessian",), config.Measure(), {"train": 40, "test": 10}
        )
    }
    assert few["hessian/trace/running"]["examples"] == 40


@pytest.mark.parametrize(
    ("epsilon", "name"),
    [
        (1e-3, "1e-3"),
        (5e-4, "5e-4"),
        (2.5e-4, "2.5e-4"),
        (0.1, "1e-1"),
        (1.0, "1e0"),
        (9.99e-5, "9.99e-5"),
        (0.001000000001, "1.000000001e-3"),
        (100.0, "1e2"),
    ],
)
def test_epsilons_are_named_as_the_paper_writes_them(epsilon, name):
    assert epsilon_name(epsilon) == name


def test_in_mode_batch_each_chunk_has_statistics_of_its_own(measured, data, points):
    """130 test examples are two chunks of 65; the pair's paths end at the second point."""
    order = np.random.default_rng(0).permutation(TEST)
    images, labels = jnp.asarray(data.test.images[order]) / 255, data.test.labels[order]
    losses = [
        optax.softmax_cross_entropy_with_integer_labels(
            jobs.network().apply(
                points[1].parameters, points[1].statistics, images[part], "batch"
            ),
            jnp.asarray(labels[part]),
        ).mean()
        for part in (slice(65), slice(65, TEST))
    ]
    found = measured["evaluation/batch"][0].values["test_loss/batch"]
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-4)
    for shape in ("linear", "arc"):
        curve = measured[f"path/{shape}/batch"][0].detail["test_loss"]
        np.testing.assert_allclose(curve[2], np.mean(losses), rtol=1e-4)


def test_flatness_in_mode_batch_is_of_the_loss_with_the_statistics_of_the_batch(
    measured, data, points
):
    x, number = points[1].parameters, 100
    bench = Bench(jobs.network(), data, MEASURE.statistics_batch, lambda _: None)
    whole = operator.objective(
        bench.loss(points[1].statistics, "batch"), [bench.batch(number)]
    )
    found = measured["flatness/batch"][0].values
    rise = perturbation.worst_case(whole, x, 0.03, steps=2)
    noise = perturbation.average_case(whole, x, 1e-2, jax.random.key(0), 8)
    np.testing.assert_allclose(found["flatness/sam/batch"], rise.value, rtol=1e-3)
    np.testing.assert_allclose(found["flatness/noise/batch"], noise.value, rtol=1e-3)


def test_the_errors_of_noise_are_each_its_own(measured, data, points):
    x, (loss, batch) = points[1].parameters, own_loss(data, points, 100)
    whole, sizes = operator.objective(loss, [batch]), jax.tree.map(jnp.abs, x)
    for name, noise, scale in (("noise", 1e-2, None), ("adaptive_noise", 0.2, sizes)):
        expected = perturbation.average_case(
            whole, x, noise, jax.random.key(0), 8, scale=scale
        )
        found = measured["flatness/running"][0].detail[f"{name}_stderr"]
        np.testing.assert_allclose(found, expected.stderr, rtol=1e-2)


def test_the_error_of_the_negative_share_is_its_own(measured, hessian):
    found = density.lanczos_quadrature(
        *hessian, jax.random.key(0), starts=2, iterations=4
    )
    np.testing.assert_allclose(
        measured["hessian/density/running"][0].detail["negative_share_stderr"],
        density.negative(found, 0.0).share.stderr,
        rtol=1e-2,
    )


def test_the_residual_beside_lambda_max_is_its_own(measured):
    for mode in ("running", "batch"):
        found = measured[f"hessian/lambda_max/{mode}"][0].detail
        assert found["residual"] == found["residuals"][0] != found["residuals"][1]
        assert found["converged"] == found["all_converged"][0]


def test_the_errors_of_the_layers_of_the_trace_are_their_own(data, points, measured):
    bench = Bench(jobs.network(), data, MEASURE.statistics_batch, lambda _: None)
    f, x = bench.objective(points[1].statistics, 100, "batch"), points[1].parameters
    expected = trace.hutchinson(f.hessian(x), x, jax.random.key(0), 4).layers
    found = measured["hessian/trace/batch"][0].detail["layers"]
    for path_of, layer in expected.items():
        np.testing.assert_allclose(
            found[path_of]["stderr"], layer.stderr, rtol=1e-3, err_msg=path_of
        )


def test_the_layers_of_the_noise_scale_add_up_to_the_simple_one(measured):
    detail = measured["noise_scale/running"][0].detail
    for part in ("trace_covariance", "squared_gradient"):
        total = sum(layer[part] for layer in detail["layers"].values())
        np.testing.assert_allclose(total, detail["simple"][part], rtol=1e-6)


def test_the_norms_beside_the_distance_are_of_its_ends(measured):
    detail = measured["distance_from_start"][0].detail
    np.testing.assert_allclose(detail["norm"], 1.1 * detail["start_norm"], rtol=1e-5)


def test_the_loss_at_the_point_is_that_of_the_point(measured, data, points):
    """Of sharpness in mode running over 150 examples, of flatness over 100."""
    for name, number in (
        ("sharpness/full/1e-3/running", 150),
        ("flatness/running", 100),
    ):
        loss, batch = own_loss(data, points, number)
        found = measured[name][0].detail["loss_at_point"]
        np.testing.assert_allclose(found, loss(points[1].parameters, batch), rtol=1e-4)
