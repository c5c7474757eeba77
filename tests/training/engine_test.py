"""One update function, two engines, any number of devices: the same numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from training.cohorts import EXAMPLES, Cohort, network

from bsexp import config
from bsexp.models import product
from bsexp.training import engine as engines
from bsexp.training import mesh, step
from bsexp.training.timeline import Updates

pytestmark = pytest.mark.usefixtures("optimised")

STEPS = 100
DEVICES = (1, 2, 4, 8)
ENGINES = ("jit", "pmap")


def execution(engine="jit", **fields):
    return config.Execution(engine=engine, **fields)


@pytest.fixture(scope="module")
def alone(mnist):
    cohort = Cohort(mnist)
    return cohort.run(STEPS), cohort.member()


@pytest.mark.parametrize(
    ("engine", "devices"),
    [("jit", 2), ("jit", 4), ("jit", 8), ("pmap", 1), ("pmap", 8)],
)
def test_a_run_is_the_same_on_any_number_of_devices_by_either_engine(
    mnist, alone, engine, devices
):
    """Batch norm over the whole batch and dropout are on; what differs is how a sum is rounded."""
    layout = mesh.Layout(1, devices, 1)
    cohort = Cohort(mnist, layout, execution=execution(engine))
    np.testing.assert_allclose(cohort.run(STEPS), alone[0], rtol=1e-5)
    found, expected = (
        ravel_pytree((state.parameters, state.statistics))[0]
        for state in (cohort.member(), alone[1])
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert cohort.member().sums.correct == alone[1].sums.correct


@pytest.mark.parametrize(
    ("engine", "shape"),
    [("jit", (2, 1)), ("jit", (2, 4)), ("jit", (8, 1)), ("pmap", (2, 2))],
)
def test_the_runs_of_a_cohort_are_those_that_train_by_themselves(
    mnist, alone, engine, shape
):
    seeds = (3, 0, 1, 2, 4, 5, 6, 7)[: max(shape[0], 2)]
    layout = mesh.Layout(*shape, len(seeds))
    cohort = Cohort(mnist, layout, seeds=seeds, execution=execution(engine))
    losses = cohort.run(STEPS // 2)
    np.testing.assert_allclose(losses[:, 1], alone[0][: STEPS // 10, 0], rtol=1e-5)
    assert abs(losses[:, 0] / losses[:, 1] - 1).max() > 0.01


@pytest.mark.parametrize("engine", ENGINES)
def test_several_runs_of_a_row_are_mapped_over_one_program(mnist, alone, engine):
    layout = mesh.Layout(2, 2, 6)
    seeds = (3, 1, 2, 4, 0, 5)
    cohort = Cohort(mnist, layout, seeds=seeds, execution=execution(engine))
    losses = cohort.run(STEPS // 2)
    np.testing.assert_allclose(losses[:, 4], alone[0][: STEPS // 10, 0], rtol=1e-5)


def test_runs_may_differ_in_their_learning_rates(mnist):
    rates = [
        {"learning_rate": jnp.float32(rate), "weight_decay": jnp.float32(0)}
        for rate in (0.1, 0.02)
    ]
    layout = mesh.Layout(2, 1, 2)
    both = Cohort(mnist, layout, seeds=(0, 0), rates=rates).run(30)
    small = config.Optimizer(name="sgd", learning_rate=0.02)
    single = Cohort(mnist, optimizer=small).run(30)
    np.testing.assert_allclose(both[:, 1], single[:, 0], rtol=1e-5)
    assert both[-1, 0] < both[-1, 1]


@pytest.fixture(scope="module")
def in_order(mnist):
    return {
        devices: _ordered(mnist, mesh.Layout(1, devices, 1), "jit")
        for devices in DEVICES
    }


def _ordered(mnist, layout, engine, **fields):
    """Train layers as wide as F1's: of narrow ones the compiler makes the same program however many shards lie on a device."""
    cohort = Cohort(
        mnist,
        layout,
        name="wide",
        batch_size=640,
        batch=config.Batch(ghost=80),
        execution=execution(engine, deterministic_reduction=True),
        **fields,
    )
    return cohort.run(10, 1), cohort.member()


@pytest.mark.slow
@pytest.mark.parametrize("devices", DEVICES)
def test_sums_in_a_fixed_order_give_the_same_bits_on_any_number_of_devices(
    in_order, devices
):
    losses, state = in_order[devices]
    np.testing.assert_array_equal(losses, in_order[1][0])
    jax.tree.map(np.testing.assert_array_equal, state, in_order[1][1])
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_sums_in_a_fixed_order_give_the_same_bits_by_pmap(mnist, in_order):
    losses, state = _ordered(mnist, mesh.Layout(1, 4, 1), "pmap")
    np.testing.assert_array_equal(losses, in_order[1][0])
    jax.tree.map(np.testing.assert_array_equal, state, in_order[1][1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"robust": config.Robust(adversarial=0.1)},
        {"robust": config.Robust(stability=0.1)},
        {"optimizer": config.Optimizer("lamb", 0.01, sam_radius=0.05, clip_norm=0.5)},
    ],
    ids=["adversarial", "stability", "lamb, sam, clipped"],
)
def test_so_do_losses_on_perturbed_inputs_and_a_second_gradient(mnist, fields):
    (losses, state), (expected, other) = (
        _ordered(mnist, mesh.Layout(1, devices, 1), "jit", **fields)
        for devices in (2, 1)
    )
    np.testing.assert_array_equal(losses, expected)
    jax.tree.map(np.testing.assert_array_equal, state, other)


@pytest.mark.parametrize(
    ("ghost", "devices", "ordered"),
    [(8, 4, False), (32, 4, False), (8, 1, True), (8, 4, True)],
)
def test_ghost_batches_do_not_depend_on_the_devices(mnist, ghost, devices, ordered):
    """Of 64 examples four devices hold 16 each, and a fixed order eight shards of 8: a ghost batch lies in one or over two devices."""
    batch = config.Batch(ghost=ghost)
    expected = Cohort(mnist, batch=batch).run(20)
    cohort = Cohort(
        mnist,
        mesh.Layout(1, devices, 1),
        batch=batch,
        execution=execution(deterministic_reduction=ordered),
    )
    np.testing.assert_allclose(cohort.run(20), expected, rtol=1e-5)
    whole = Cohort(mnist).run(20)
    assert abs(expected / whole - 1).max() > 0.005


@pytest.mark.parametrize(
    ("devices", "rolled", "ordered"),
    [(1, True, False), (1, False, False), (2, True, False), (2, True, True)],
)
def test_microbatches_give_the_update_of_the_whole_batch(
    mnist, devices, rolled, ordered
):
    """Gradient accumulation changes neither loss, gradient, running averages nor dropout, where ghost batches are the same."""
    ghost = 4 if ordered else 16
    whole = Cohort(mnist, batch=config.Batch(ghost=ghost))
    parts = Cohort(
        mnist,
        mesh.Layout(1, devices, 1),
        batch=config.Batch(ghost=ghost, microbatch=16 if devices == 1 else 32),
        execution=execution(deterministic_reduction=ordered),
        rolled=rolled,
    )
    np.testing.assert_allclose(parts.run(1, 1), whole.run(1, 1), rtol=1e-6)
    ends = [
        ravel_pytree((each.member().parameters, each.member().statistics))[0]
        for each in (parts, whole)
    ]
    np.testing.assert_allclose(*ends, rtol=1e-6, atol=1e-7 if ghost > 4 else 5e-7)


@pytest.mark.parametrize(
    ("engine", "devices", "microbatch"),
    [("jit", 1, 0), ("jit", 1, 16), ("jit", 2, 0), ("pmap", 2, 32)],
)
def test_sharpness_aware_minimisation_descends_by_the_gradient_from_the_whole_batchs_top(
    mnist, engine, devices, microbatch
):
    """x - eta grad L(x + rho g / |g|), put together from two steps of plain SGD, one from x and one from the top."""
    rate, radius, parts = 0.1, 0.5, {"ghost": 16}
    plain = Cohort(mnist, batch=config.Batch(**parts))
    start = plain.member()
    x, restore = ravel_pytree(start.parameters)
    plain.run(1, 1)
    way = x - ravel_pytree(plain.member().parameters)[0]
    top = x + radius * way / np.linalg.norm(way)
    higher = Cohort(mnist, batch=config.Batch(**parts))
    above = start._replace(parameters=restore(top))
    higher.state = higher.trainer.engine.spread([above])
    higher.run(1, 1)
    expected = x + ravel_pytree(higher.member().parameters)[0] - top
    aware = Cohort(
        mnist,
        mesh.Layout(1, devices, 1),
        optimizer=config.Optimizer(name="sgd", learning_rate=rate, sam_radius=radius),
        batch=config.Batch(microbatch=microbatch, **parts),
        execution=execution(engine),
    )
    aware.run(1, 1)
    found = ravel_pytree(aware.member().parameters)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert abs(expected - (x - way)).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "devices"), [("jit", 1), ("jit", 2), ("pmap", 2)])
def test_parts_of_a_batch_go_uphill_by_their_own_gradients_where_that_is_asked_for(
    mnist, engine, devices
):
    """x - eta times the mean over parts of 16 of grad L_k(x + rho g_k / |g_k|), put together from steps of batches of 16."""
    rate, radius, size = 0.1, 0.5, 16
    parts = Cohort(mnist, batch_size=size, name="F1")
    start = parts.member()
    x, restore = ravel_pytree(start.parameters)

    def moved(number, point):
        parts.state = parts.trainer.engine.spread(
            [start._replace(parameters=restore(point))]
        )
        parts.train(Updates(0, size, number, number + 1))
        return ravel_pytree(parts.member().parameters)[0] - point

    tops = [x - radius * way / np.linalg.norm(way) for way in (moved(k, x) for k in range(4))]  # fmt: skip
    expected = x + np.mean([moved(k, top) for k, top in enumerate(tops)], axis=0)

    def trained(**fields):
        optimizer = config.Optimizer(
            name="sgd", learning_rate=rate, sam_radius=radius, **fields
        )
        cohort = Cohort(
            mnist,
            mesh.Layout(1, devices, 1),
            name="F1",
            optimizer=optimizer,
            batch=config.Batch(ghost=size),
            execution=execution(engine),
        )
        cohort.run(1, 1)
        return ravel_pytree(cohort.member().parameters)[0]

    found = trained(sam_examples=size)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert abs(found - trained()).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "augmentation", "random"),
    [("tiny", {}, True), ("F1", {}, False), ("F1", {"shift": 0.1}, True)],
)
def test_dropout_and_augmentation_are_drawn_anew_at_every_update(
    mnist, name, augmentation, random
):
    """The same batch at the same weights, as another update for dropout, for augmentation as one of another epoch."""

    def loss(number):
        cohort = Cohort(
            mnist, name=name, augmentation=config.Augmentation(**augmentation)
        )
        start = cohort.member()._replace(step=np.int32(number))
        cohort.state = cohort.trainer.engine.spread([start])
        # Every epoch in the same order.
        portion = next(cohort.feed.portions(Updates(0, cohort.batch_size, 0, 1)))
        program = cohort.trainer._program(cohort.batch_size)
        numbers = map(np.int32, (number, 0, 1))
        _, sums = program(
            cohort.state, cohort.placed, portion.own, portion.shared, *numbers
        )
        return float(cohort.trainer.engine.read(sums)[0].loss)

    first = loss(0)
    assert loss(0) == first
    assert (loss(1) != first) == random


def test_an_example_looks_the_same_at_every_batch_size(mnist, monkeypatch):
    """Of an epoch's first 64 examples the images that the network is given are those of one batch of 64."""

    def seen(size):
        cohort = Cohort(
            mnist,
            batch_size=size,
            augmentation=config.Augmentation(rotation=20.0, shift=0.1),
        )
        images = []

        def recorded(recipe, division):
            del recipe, division

            def update(state, batch):
                jax.debug.callback(images.append, batch.inputs)
                return state._replace(step=state.step + 1)

            return update

        with monkeypatch.context() as patch:
            patch.setattr(step, "make", recorded)
            for epoch in range(2):
                cohort.train(Updates(epoch, size, 0, 64 // size))
        jax.effects_barrier()
        return np.concatenate([np.reshape(each, (-1, 28, 28)) for each in images])

    expected = seen(64)
    np.testing.assert_allclose(seen(16), expected, atol=1e-6)
    assert len(expected) == 128
    assert abs(expected[:64] - expected[64:]).max() > 0.1


def test_an_examples_random_key_is_that_of_seed_purpose_number_and_position_alone():
    def keys(seed, purpose, number, positions):
        return jax.random.key_data(
            step.example_keys(np.int32(seed), purpose, np.int32(number), positions)
        ).reshape(-1, 2)

    positions = np.arange(6)
    one = keys(0, step.DROPOUT, 3, positions)
    shards = keys(0, step.DROPOUT, 3, positions.reshape(3, 2))
    np.testing.assert_array_equal(shards, one)
    np.testing.assert_array_equal(keys(0, step.DROPOUT, 3, positions[4:]), one[4:])
    others = [
        keys(1, step.DROPOUT, 3, positions),
        keys(0, step.AUGMENTATION, 3, positions),
        keys(0, step.DROPOUT, 4, positions),
    ]
    everything = np.concatenate([one, *others])
    assert len(np.unique(everything, axis=0)) == len(everything) == 24


@pytest.mark.parametrize(
    ("engine", "shape"),
    [("jit", (1, 1)), ("jit", (2, 4)), ("pmap", (2, 2)), ("pmap", (1, 8))],
)
def test_the_test_split_is_evaluated_exactly_on_every_mesh(mnist, engine, shape):
    """303 examples leave a short part on 4 and on 8 devices."""
    layout = mesh.Layout(*shape, shape[0])
    cohort = Cohort(
        mnist, layout, seeds=tuple(range(shape[0])), execution=execution(engine)
    )
    cohort.run(5)
    images, labels = mnist.test.images[:303] / np.float32(255), mnist.test.labels[:303]
    for number, found in enumerate(cohort.evaluations()):
        state = cohort.member(number)
        logits = network().apply(state.parameters, state.statistics, images, "running")
        assert found.accuracy == float((logits.argmax(-1) == labels).sum()) / 303
        losses = -jax.nn.log_softmax(logits)[np.arange(303), labels]
        np.testing.assert_allclose(found.loss, losses.mean(), rtol=1e-5)


def compiled(mnist, layout, **fields):
    cohort = Cohort(
        mnist, layout, batch_size=128, seeds=tuple(range(layout.members)), **fields
    )
    updates = Updates(0, 128, 0, 1)
    return cohort.trainer.compiled(cohort.state, cohort.placed, cohort.feed, updates)


def all_reduces(text):
    """List the number of elements of every all-reduce of a compiled program."""
    found = re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
    return [
        sum(
            int(np.prod([int(n) for n in shape.split(",") if n] or [1]))
            for shape in re.findall(r"\w+\[([\d,]*)\]", each)
        )
        for each in found
    ]


@pytest.mark.parametrize("shape", [(1, 2), (1, 8), (2, 4)])
def test_an_update_has_one_all_reduce_of_the_gradients_size(mnist, shape):
    """The others are of batch norm: two means a layer, forward and backward; none goes over the population."""
    text = compiled(mnist, mesh.Layout(*shape, shape[0]))
    parameters, statistics = network().init(jax.random.key(0))
    # Beside it each example's loss and the accuracy.
    size = ravel_pytree((parameters, statistics))[0].size + 128 // shape[1] + 1
    sizes = all_reduces(text)
    assert max(sizes) == size
    assert sorted(sizes)[-2] <= 32
    groups = set(re.findall(r"all-reduce.*?replica_groups=(\S+),", text))
    rows = np.arange(np.prod(shape)).reshape(shape).tolist()
    listed = "{" + ",".join("{" + ",".join(map(str, row)) + "}" for row in rows) + "}"
    # The compiler writes either all groups, or their shape and that they count through.
    assert groups in ({listed}, {f"[{shape[0]},{shape[1]}]<=[{np.prod(shape)}]"})


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (8, 1)])
def test_runs_side_by_side_do_not_communicate(mnist, shape):
    text = compiled(mnist, mesh.Layout(*shape, shape[0]))
    assert not re.findall(r"all-(?:reduce|gather|to-all)|collective-permute", text)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2)])
def test_updates_copy_no_matrix(mnist, shape):
    """The compiler's usual analysis copies what the backward pass reads before Adam overwrites it."""
    text = compiled(mnist, mesh.Layout(*shape, shape[0]))
    assert "while(" in text
    here = 128 // shape[1]
    # What `product.of_few` turns: the inputs of all layers, and the derivatives by the outputs of the hidden ones.
    few = {f"784,{here}", f"32,{here}", f"{here},32"}
    turned = few if here <= product.MOST_EXAMPLES else set()
    assert {*re.findall(r"= f32\[(\d+,\d+)\]\{1,0\} copy\(", text)} == turned


def test_an_option_that_the_compiler_does_not_know_is_left_out_and_no_other(
    monkeypatch,
):
    known = engines.CPU_OPTIONS
    options = {"xla_cpu_of_another_time": True, **known}
    monkeypatch.setattr(engines, "CPU_OPTIONS", options)
    assert engines.compiler_options.__wrapped__("cpu") == known


def test_an_epoch_is_as_long_as_it_should_be(mnist):
    cohort = Cohort(mnist)
    cohort.run(EXAMPLES // 64)
    assert cohort.member().sums.examples == EXAMPLES
    assert cohort.member().examples == EXAMPLES


@pytest.mark.parametrize("layout", [(1, 1, 1), (2, 1, 2)])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_epoch_is_read_while_the_devices_work_on_the_next(mnist, engine, layout):
    """Neither does the dispatch wait for what was asked before nor the reading for what is asked after it."""
    members = layout[2]
    cohort = Cohort(
        mnist,
        mesh.Layout(*layout),
        seeds=range(members),
        execution=execution(engine),
    )
    cohort.train(Updates(0, 64, 0, 1))
    cohort.evaluations()
    # More updates than an epoch has, so that they take a while: the examples of the last are seen again.
    last = 1_000
    sums = cohort.train(Updates(0, 64, 1, last))
    found = cohort.trainer.engine.reading(sums)
    held_out = cohort.trainer.evaluate(cohort.state)["test"]
    later = cohort.train(Updates(1, 64, 0, last))
    assert not _done(sums)
    assert [own.examples for own in found()] == [64 * last] * members
    assert all(0 < own.accuracy < 1 for own in held_out.read())
    assert not _done(later)


def _done(arrays):
    return all(leaf.is_ready() for leaf in jax.tree.leaves(arrays))
