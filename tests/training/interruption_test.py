import gc
import signal
import sys
import time

import pytest

from bsexp.training import interruption


@pytest.fixture
def handlers():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def stopped_while_collecting(request):
    """Let a signal come within the first callback of the garbage collector, where Python drops what its handler raises."""
    numbers = [request.param]

    def callback(*_):
        if numbers:
            signal.raise_signal(numbers.pop())

    gc.callbacks.append(callback)
    yield request.param
    gc.callbacks.remove(callback)


def work():
    gc.collect()
    for _ in range(1_000):
        time.sleep(0.01)
    return 0


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    "stopped_while_collecting", [signal.SIGINT, signal.SIGTERM], indirect=True
)
def test_a_stop_is_not_lost_in_a_callback(stopped_while_collecting):
    hook = sys.unraisablehook
    with interruption.kept(), pytest.raises(interruption.Interrupted) as caught:
        interruption.stoppable(work)
    assert caught.value.signal == stopped_while_collecting
    assert sys.unraisablehook is hook


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("stopped_while_collecting", [signal.SIGINT], indirect=True)
def test_nor_is_one_before_a_study_begins(stopped_while_collecting):
    signal.signal(stopped_while_collecting, signal.default_int_handler)
    with interruption.kept(), pytest.raises(KeyboardInterrupt):
        work()


def test_other_errors_in_a_callback_are_reported_as_ever(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    def callback(*_):
        raise ValueError

    gc.callbacks.append(callback)
    try:
        with interruption.kept():
            gc.collect()
    finally:
        gc.callbacks.remove(callback)
    assert {each.exc_type for each in reported} == {ValueError}
