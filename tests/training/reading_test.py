"""When arrays were ready, and for how long devices waited for a compiler."""

import threading
import time

import pytest

from bsexp import results
from bsexp.training import evaluation, log, reading, step, timeline


@pytest.fixture
def reader():
    made = reading.Reader()
    yield made
    made.close()


def test_a_moment_is_that_at_which_it_was_ready_not_that_at_which_it_is_asked_for(
    reader,
):
    found = reader.read(lambda: "sums")
    found.result()
    ready = time.perf_counter()
    time.sleep(0.05)
    assert found.result().value == "sums"
    assert found.result().moment <= ready


def test_devices_wait_for_a_compiler_only_when_they_are_done(reader):
    assert reader.idle(3.0, 5.0) == 2.0  # nothing was ever asked of them
    going_on = threading.Event()
    found = reader.read(going_on.wait)
    assert reader.idle(3.0, 5.0) == 0.0
    going_on.set()
    done = found.result().moment
    assert reader.idle(done - 2, done + 3) == pytest.approx(3)
    assert reader.idle(done + 1, done + 3) == pytest.approx(2)
    assert reader.idle(done - 3, done - 1) == 0.0


class Alone:
    """One process."""

    def most(self, values):
        return values


def test_the_seconds_of_a_row_end_when_its_epoch_is_evaluated(tmp_path):
    """However late it is read: what a program does in the meantime is not the run's; nor is waiting for a compiler."""
    file = tmp_path / results.CURVES
    kept = log.Log(Alone(), [file], 0, lambda *_: None, timed=False)
    began = time.perf_counter()
    kept.leave_out([(began - 0.5, began)])
    sums = kept.read(lambda: [step.Sums(1.0, 5, 10)])
    held_out = kept.read(lambda: {"test": [evaluation.Evaluation(0.5, 0.5)]})
    ready = held_out.result().moment
    time.sleep(0.3)
    epoch = timeline.Epoch(0, 10, 0, 0, 1, 1)
    kept.read_previous(log.Portion(epoch, 1, 10, sums, held_out, kept.began))
    # A later batch size is compiled before the row is read.
    later = time.perf_counter()
    kept.leave_out([(later - 0.2, later)])
    kept.read_previous(None)
    kept.close()
    (row,) = results.read_rows(file)
    assert row["seconds"] == pytest.approx(ready - began - 0.5, abs=0.1)
