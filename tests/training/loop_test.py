import dataclasses
import functools
import os
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from training import jobs

from bsexp import config, results
from bsexp.data import batches
from bsexp.models import normalisation
from bsexp.training import interruption, loop, step

pytestmark = pytest.mark.usefixtures("optimised")


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def rows(job):
    """The numbers of a run's epochs, without the clock."""
    found = results.read_rows(job.folders[0] / "metrics.jsonl")
    return [
        {key: value for key, value in row.items() if key != "seconds"} for row in found
    ]


def trained(job):
    (state,) = loop.train(job)
    return state


@pytest.fixture(scope="module")
def finished(make_job, tmp_path_factory):
    """A run of three epochs that nobody disturbed."""
    job = make_job(tmp_path_factory.mktemp("finished") / "run")
    return trained(job), rows(job)


def difference_from_the_plain_loop(make_job, folder, mnist, seed):
    """Train one epoch, and again by a loop written out with optax; return their difference over the way that was gone."""
    # SGD at a small rate: Adam turns a rounding difference of a tiny gradient into a whole learning rate.
    job = make_job(
        folder,
        epochs=1,
        seeds=(seed,),
        optimizer=config.Optimizer(name="sgd", learning_rate=0.01),
    )
    state = trained(job)
    assert int(state.step) == 15
    expected = loop.start(job, 0)
    parameters, statistics = expected.parameters, expected.statistics
    data = jobs.first(mnist.train, jobs.EXAMPLES)
    order = batches.epoch_order(step.order_key(seed), 0, len(data.labels))
    transformation = optax.sgd(0.01)
    optimizer_state = transformation.init(parameters)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient_of(p, statistics, inputs, labels):
        logits, moved = jobs.narrow().train(
            p, statistics, inputs, None, normalisation.whole(128)
        )
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, labels
        ).mean(), moved

    for i in range(len(data.labels) // 128):
        chosen = order[128 * i : 128 * (i + 1)]
        inputs, labels = data.images[chosen] / 255, data.labels[chosen]
        gradient, statistics = gradient_of(parameters, statistics, inputs, labels)
        update, optimizer_state = transformation.update(
            gradient, optimizer_state, parameters
        )
        parameters = optax.apply_updates(parameters, update)
    points = (state.parameters, parameters, loop.start(job, 0).parameters)
    ends = [ravel_pytree(each)[0] for each in points]
    difference, movement = ends[0] - ends[1], ends[1] - ends[2]
    return np.linalg.norm(difference) / np.linalg.norm(movement)


def test_one_epoch_is_the_plain_loop_over_its_batches(make_job, tmp_path, mnist):
    """Batch by batch, in the order that the data module promises."""
    # Another data order gives 0.45; rounding alone 3e-6. With some seeds, other ones on other processors, a ReLU whose input is
    # zero up to rounding opens in one loop and not in the other, which gives 0.02: one seed without suffices.
    found = (
        difference_from_the_plain_loop(make_job, tmp_path / str(seed), mnist, seed)
        for seed in range(6)
    )
    assert any(each < 1e-4 for each in found)


def test_runs_of_a_seed_start_at_the_same_point_whatever_the_batch_size(
    make_job, tmp_path
):
    small, large = (
        make_job(tmp_path / str(size), batch_size=size) for size in (128, 500)
    )
    same(loop.start(small, 0).parameters, loop.start(large, 0).parameters)
    other = make_job(tmp_path / "other", seeds=(1,))
    leaves = (
        jax.tree.leaves(loop.start(small, 0).parameters),
        jax.tree.leaves(loop.start(other, 0).parameters),
    )
    assert any(np.any(a != b) for a, b in zip(*leaves, strict=True))


def test_the_same_run_gives_the_same_bits_however_its_epochs_are_cut(
    make_job, tmp_path, finished
):
    for pieces in (1, 7, 100):
        job = make_job(tmp_path / str(pieces), pieces=pieces)
        same(trained(job), finished[0])
        assert rows(job) == finished[1]


def test_each_epoch_has_a_row_with_exact_test_numbers(finished, mnist):
    state, found = finished
    assert [(row["epoch"], row["step"], row["examples"]) for row in found] == [
        (1, 15, 1_920),
        (2, 30, 3_840),
        (3, 45, 5_760),
    ]
    test = jobs.first(mnist.test, jobs.TEST_EXAMPLES)
    images, labels = test.images / 255, test.labels
    logits = jobs.narrow().apply(state.parameters, state.statistics, images, "running")
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    np.testing.assert_allclose(found[-1]["test_loss"], expected, rtol=1e-5)
    assert (
        found[-1]["test_accuracy"] == float((logits.argmax(-1) == labels).sum()) / 999
    )
    assert found[0]["train_loss"] > found[1]["train_loss"] > found[2]["train_loss"]


@pytest.mark.parametrize("pieces", [2, 100])
def test_more_evaluations_add_rows_and_leave_the_run_as_it_is(
    make_job, tmp_path, finished, pieces
):
    job = make_job(tmp_path / "run", evaluations=4, pieces=pieces)
    same(trained(job), finished[0])
    found = rows(job)
    places = [(row["step"], row["examples"], row["epoch"]) for row in found]
    assert places == [
        (15 * i + k, 128 * (15 * i + k), i + 1 if k == 15 else i + k / 15)
        for i in range(3)
        for k in (4, 8, 12, 15)
    ]
    assert found[3::4] == finished[1]
    # One within an epoch is that of a run which ends there.
    short = make_job(tmp_path / "short", steps=23)
    trained(short)
    assert rows(short)[-1] == found[5]


def test_training_is_followed_portion_by_portion(make_job, tmp_path):
    heard = []
    job = make_job(
        tmp_path / "run", epochs=1, heard=lambda *numbers: heard.append(numbers)
    )
    loop.train(job)
    examples, rates, losses, accuracies = zip(*heard, strict=True)
    assert examples == (512, 512, 512, 384)
    assert min(rates) > 0
    # What is told last is the mean over the epoch, which its row holds.
    (row,) = rows(job)
    assert (losses[-1], accuracies[-1]) == (row["train_loss"], row["train_accuracy"])


@pytest.mark.parametrize(("every", "kept"), [(1, {60, 75}), (3, {45, 75})])
def test_checkpoints_are_as_far_apart_as_asked_for(make_job, tmp_path, every, kept):
    """Epochs of 15 updates; the last two are kept, and the end is one of them."""
    job = make_job(tmp_path / "run", epochs=5)
    train = dataclasses.replace(job.train, checkpoint_every=every)
    loop.train(dataclasses.replace(job, train=train))
    found = (job.folders[0] / "checkpoints").iterdir()
    assert {int(each.name) for each in found} == kept


def test_a_finished_run_is_restored_and_not_trained_again(make_job, tmp_path, finished):
    job = make_job(tmp_path / "run")
    loop.train(job)
    heard = []
    again = make_job(tmp_path / "run", heard=lambda *numbers: heard.append(numbers))
    same(trained(again), finished[0])
    assert not heard
    assert rows(again) == finished[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_an_epoch_saves_and_the_rest_gives_the_same_bits(
    make_job, tmp_path, finished, number
):
    heard = []

    def interrupt(*numbers):
        heard.append(numbers)
        if len(heard) == 6:
            os.kill(os.getpid(), number)

    job = make_job(tmp_path / "run", heard=interrupt)
    before = signal.getsignal(number)
    with pytest.raises(interruption.Interrupted) as caught:
        loop.train(job)
    assert caught.value.signal == number
    assert signal.getsignal(number) is before
    assert len(rows(job)) == 1
    resumed = make_job(tmp_path / "run")
    same(trained(resumed), finished[0])
    assert rows(resumed) == finished[1]


def test_a_run_that_diverges_says_so(make_job, tmp_path):
    wild = config.Optimizer(name="sgd", learning_rate=1e30)
    (end,) = loop.train(make_job(tmp_path / "run", optimizer=wild))
    assert isinstance(end, FloatingPointError)
    assert str(end).startswith("the training loss is nan in epoch 1")


@pytest.mark.slow
def test_kill_9_and_damage_cost_no_more_than_the_steps_since_the_last_whole_checkpoint(
    make_job, tmp_path, finished, mnist_dir
):
    """A real process is killed; then its newest checkpoint is damaged as well; the rest gives the same bits."""
    job = make_job(tmp_path / "run")
    program = textwrap.dedent(
        f"""
        import sys, time
        sys.path[:0] = {sys.path!r}
        from training.victim import victim
        victim({str(mnist_dir)!r}, {str(job.folders[0])!r})
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        process.kill()
    assert line.startswith("two epochs are saved"), "the victim did not get so far"
    steps = sorted(
        int(path.name)
        for path in (job.folders[0] / "checkpoints").iterdir()
        if path.name.isdigit()
    )
    assert steps == [15, 30]
    flip_a_bit(job.folders[0] / "checkpoints" / "30")
    (
        job.folders[0] / "checkpoints" / "45"
    ).mkdir()  # an empty folder, which Orbax alone would take for the latest step
    state = trained(job)
    same(state, finished[0])
    assert rows(job) == finished[1]
    assert {
        path.name.split("-")[0]
        for path in (job.folders[0] / "checkpoints-damaged").iterdir()
    } == {"30", "45"}


def flip_a_bit(folder):
    """Change one bit in the middle of the checkpoint's largest file."""
    file = max(
        (path for path in folder.rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.fixture
def listening():
    """Python's own handler: a program that a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("listening")
def test_a_second_ctrl_c_is_not_waited_for():
    def twice():
        with interruption.Deferred() as stop:
            ctrl_c()
            assert stop.number == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                ctrl_c()

    with pytest.raises(KeyboardInterrupt):  # the first one, on leaving
        twice()


@pytest.mark.usefixtures("listening")
def test_what_a_signal_will_do_is_told_at_once_and_a_closed_terminal_does_not_matter(
    capfd, monkeypatch
):
    def told():
        with interruption.Deferred("is saving") as stop:
            ctrl_c()
            raise interruption.Interrupted(stop.number)

    with pytest.raises(interruption.Interrupted):
        told()
    assert capfd.readouterr().err == "SIGINT: is saving\n"

    def hung_up(*_):
        raise OSError

    monkeypatch.setattr(os, "write", hung_up)
    with pytest.raises(interruption.Interrupted):
        told()


@pytest.mark.usefixtures("listening")
def test_a_ctrl_c_that_nobody_acted_upon_comes_back_and_one_that_was_acted_upon_does_not():
    left = []

    def ignored():
        with interruption.Deferred(), interruption.Deferred():
            ctrl_c()
            left.append("inner")

    def told():
        with interruption.Deferred() as stop:
            ctrl_c()
            raise interruption.Interrupted(stop.number)

    def failed():
        with interruption.Deferred():
            ctrl_c()
            raise ValueError("of one run, which others survive")

    with pytest.raises(KeyboardInterrupt):
        ignored()
    assert left == ["inner"]
    with pytest.raises(KeyboardInterrupt):
        failed()
    with pytest.raises(interruption.Interrupted):
        told()


def test_a_finished_run_is_restored_and_not_trained(make_job, tmp_path):
    job = make_job(tmp_path / "run")
    state = trained(job)
    same(loop.restore(job), state)


def test_a_run_without_its_last_checkpoint_is_not_restored(make_job, tmp_path):
    loop.train(make_job(tmp_path / "run", epochs=1))
    longer = make_job(tmp_path / "run", epochs=2)
    with pytest.raises(loop.MissingWeightsError, match="no whole checkpoint"):
        loop.restore(longer)
