import io
import re

import pytest
from rich.console import Console

from bsexp import progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def log():
    return Console(file=io.StringIO(), width=200)


def test_a_log_gets_one_line_every_ten_seconds_with_the_time_left(clock):
    console = log()
    with progress.Progress(100, console) as shown:
        shown.begin("train SB seed 0", 100)
        for second in range(1, 26):
            clock.now = second
            shown.trained(1, 1234.5, 0.25, 0.9)
    lines = console.file.getvalue().splitlines()
    assert lines == [
        "0:10  10% 1:30 left  train SB seed 0  loss 0.2500  accuracy 90.00%  1,234 examples/s",
        "0:20  20% 1:20 left  train SB seed 0  loss 0.2500  accuracy 90.00%  1,234 examples/s",
    ]


def test_a_group_s_name_is_no_markup(clock):
    console = log()
    with progress.Progress(100, console) as shown:
        shown.begin("train [/x] seed 0", 100)
        clock.now = 11
        shown.spent(10)
    assert "train [/x] seed 0" in console.file.getvalue()


def test_a_part_that_took_less_or_more_than_planned_counts_as_planned(clock):
    console = log()
    with progress.Progress(100, console) as shown:
        shown.begin("a", 50)
        clock.now = 5
        shown.spent(80)  # more work than planned
        clock.now = 11
        shown.begin("b", 50)
        clock.now = 25
        shown.spent(25)
    assert [line.split()[1] for line in console.file.getvalue().splitlines()] == [
        "50%",
        "75%",
    ]


def test_a_terminal_gets_a_live_bar_and_no_lines(clock):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress.Progress(100, console) as shown:
        shown.begin("train SB seed 0", 100)
        clock.now = 30
        shown.trained(50, 1000.0, 0.5, 0.8)
        shown._bar.refresh()
    output = console.file.getvalue()
    assert "50%" in output
    assert "0:30 left" in output
    assert "1,000 examples/s" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3_723, "1:02:03")],
)
def test_durations_are_written_as_a_clock(seconds, text):
    assert progress.clock(seconds) == text
