import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest

from bsexp import config
from bsexp.data import batches, examples, portions, records, streaming

KEY = jax.random.key(11)
BATCH = 700
# 2 900 examples: four updates an epoch, and 100 examples left over.
SETTINGS = {"train_size": 2_900, "label_noise": 0.3}


@pytest.fixture(scope="module")
def settings(fresh_mnist):
    return config.Data(dir=str(fresh_mnist[0]), **SETTINGS)


@pytest.fixture(scope="module")
def training(settings):
    return examples.Training(settings)


@pytest.fixture(scope="module")
def resident(settings):
    """The batches of two and a half epochs by the resident path: images [10, 700, 28, 28, 1] and labels."""
    train = examples.load(settings).train
    found = []
    for update in range(10):
        epoch, step = divmod(update, 4)
        order = batches.epoch_order(KEY, epoch, len(train.labels))
        found.append(np.asarray(batches.batch_indices(order, step, BATCH)))
    indices = np.stack(found)
    return train.images[indices], train.labels[indices]


@pytest.fixture(params=[0, 2], ids=["threads", "processes"])
def workers(request):
    return request.param


def assert_batches(found, expected, updates):
    for array, whole in zip(found, expected, strict=True):
        assert array.dtype == whole.dtype
        np.testing.assert_array_equal(array, whole[updates])


def test_the_batches_are_the_resident_ones_however_they_are_taken(
    training, resident, workers
):
    with streaming.Stream(training, KEY, BATCH, workers=workers) as stream:
        assert_batches(stream.take(1), resident, slice(0, 1))
        assert_batches(stream.take(2), resident, slice(1, 3))
        # Over the end of an epoch, and over a whole one.
        assert_batches(stream.take(6), resident, slice(3, 9))
        assert_batches(stream.take(1), resident, slice(9, 10))


@pytest.mark.parametrize(("epoch", "step"), [(0, 3), (0, 4), (1, 0), (1, 2)])
def test_a_resumed_stream_goes_on_where_the_other_stopped(
    training, resident, epoch, step
):
    with streaming.Stream(training, KEY, BATCH, begin=(epoch, step)) as stream:
        first = 4 * epoch + step
        assert_batches(stream.take(3), resident, slice(first, first + 3))


def test_a_process_reads_its_own_places_of_each_batch(training, resident):
    places = np.r_[3, 10:310, 600:700, 2]
    with streaming.Stream(training, KEY, BATCH, places=places) as stream:
        own = tuple(array[:, places] for array in resident)
        assert_batches(stream.take(6), own, slice(0, 6))


def test_a_batch_smaller_than_a_portion_and_one_of_the_whole_set(settings, training):
    train = examples.load(settings).train
    for size in (1, 2_900):
        order = np.asarray(batches.epoch_order(KEY, 0, 2_900))
        with streaming.Stream(training, KEY, size) as stream:
            images, labels = stream.take(1)
        np.testing.assert_array_equal(images[0], train.images[order[:size]])
        np.testing.assert_array_equal(labels[0], train.labels[order[:size]])


def test_epochs_shorter_than_what_is_read_ahead(settings):
    few = config.Data(dir=settings.dir, train_size=5)
    train = examples.load(few).train
    with streaming.Stream(examples.Training(few), KEY, 2) as stream:
        images, _ = stream.take(31)
    for update in range(31):
        epoch, step = divmod(update, 2)
        order = batches.epoch_order(KEY, epoch, 5)
        expected = train.images[np.asarray(order[2 * step : 2 * step + 2])]
        np.testing.assert_array_equal(images[update], expected)


@pytest.mark.parametrize("places", [[], [0, 8], [-1, 0]])
def test_places_outside_the_batch_are_refused(training, places):
    with pytest.raises(ValueError, match="are not all in a batch of 8"):
        streaming.Stream(training, KEY, 8, places=np.array(places, int))


def test_a_batch_larger_than_the_set_is_refused(training):
    with pytest.raises(ValueError, match="batch size 2901 is not between 1 and"):
        streaming.Stream(training, KEY, 2_901)


def eventually(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closing_leaves_no_thread_no_process_and_no_file(
    training, workers, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # Grain keeps the threads that free shared memory for the life of the program, from the first stream on.
    with streaming.Stream(training, KEY, BATCH, workers=workers) as first:
        first.take(1)
    before = set(threading.enumerate())
    stream = streaming.Stream(training, KEY, BATCH, workers=workers)
    stream.take(1)
    assert len(multiprocessing.active_children()) == workers
    stream.close()
    assert multiprocessing.active_children() == []
    assert list(tmp_path.iterdir()) == []
    eventually(lambda: set(threading.enumerate()) <= before)


def test_a_stream_can_be_closed_while_readers_wait_for_an_order(tmp_path):
    orders = portions.Orders(tmp_path / "orders")
    (tmp_path / "orders").mkdir()
    orders.publish(0, np.arange(3))
    np.testing.assert_array_equal(orders.read(0), [0, 1, 2])
    timer = threading.Timer(0.1, lambda: _remove(tmp_path / "orders"))
    timer.start()
    with pytest.raises(portions.ClosedError):
        orders.read(1)
    timer.join()


def _remove(folder):
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_damaged_records_are_told_from_every_reader(write_small, tmp_path, workers):
    folder = write_small(tmp_path)
    shard = next(folder.glob("*train*"))
    whole = bytearray(shard.read_bytes())
    whole[len(whole) // 2] ^= 16
    shard.write_bytes(whole)
    training = examples.Training(config.Data(name="dots", dir=str(tmp_path)))
    with (
        streaming.Stream(training, KEY, 30, workers=workers) as stream,
        pytest.raises(
            records.DamagedError, match=f"cannot read split train in {folder}"
        ),
    ):
        stream.take(1)


def test_a_reading_process_that_was_killed_is_told(training):
    with streaming.Stream(training, KEY, BATCH, workers=1) as stream:
        stream.take(1)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        with pytest.raises(portions.WorkerError, match=r"has ended .*exit code -9"):
            stream.take(10_000)


PROGRAM = """
    import os, sys, time
    import jax
    from bsexp import config
    from bsexp.data import examples, streaming
    import signal
    if __name__ == "__main__":
        if sys.argv[2:] == ["stopped"]:  # as training does, which first finishes what it is doing
            signal.signal(signal.SIGINT, lambda *_: None)
            print("begun", flush=True)
        training = examples.Training(config.Data(dir=sys.argv[1]))
        with streaming.Stream(training, jax.random.key(0), 8, workers=2) as stream:
            stream.take(250)  # two portions: both processes have begun
            print("ready", flush=True)
            time.sleep(60 if sys.argv[2:] == ["wait"] else 0)
            stream.take(1)
"""


@pytest.fixture
def program(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(PROGRAM))
    path = Path(__file__).parents[2]
    return [sys.executable, "-W", "error", str(file)], {
        "env": {**os.environ, "PYTHONPATH": str(path), "TMPDIR": str(tmp_path)},
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }


@pytest.mark.slow
def test_a_plain_program_streams_with_processes_and_says_nothing(program, settings):
    command, options = program
    finished = subprocess.run([*command, settings.dir], check=False, **options)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "ready\n", "")


@pytest.mark.slow
def test_workers_outlive_a_ctrl_c_and_end_with_a_killed_program(program, settings):
    command, options = program
    with subprocess.Popen([*command, settings.dir, "wait"], **options) as started:
        assert started.stdout.readline() == "ready\n"
        children = psutil.Process(started.pid).children(recursive=True)
        workers = [each for each in children if "spawn_main" in str(each.cmdline())]
        assert len(workers) == 2
        for worker in workers:
            worker.send_signal(signal.SIGINT)
            worker.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        # Dead and not yet waited for is a zombie.
        states = [worker.status() for worker in workers]
        started.kill()
    assert psutil.STATUS_ZOMBIE not in states
    psutil.wait_procs(workers, timeout=120)
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.slow
def test_a_ctrl_c_while_workers_start_does_not_end_them(program, settings):
    command, options = program
    with subprocess.Popen(
        [*command, settings.dir, "stopped"], start_new_session=True, **options
    ) as started:
        assert started.stdout.readline() == "begun\n"
        said = []
        reader = threading.Thread(target=lambda: said.append(started.stdout.readline()))
        reader.start()
        while reader.is_alive():
            os.killpg(started.pid, signal.SIGINT)
            time.sleep(0.02)
        out, errors = started.communicate()
    assert (started.returncode, said, out, errors) == (0, ["ready\n"], "", "")


def test_nothing_is_taken_from_a_closed_stream(training):
    stream = streaming.Stream(training, KEY, BATCH)
    stream.close()
    stream.close()
    with pytest.raises(ValueError, match="the stream is closed"):
        stream.take(1)
