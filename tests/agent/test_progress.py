"""The progress bar: on a terminal, of long work, and gone at its end."""

import io
import re

from agent.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def lines(stream):
    return [line for line in re.split(r"\r|\x1b\[K", stream.getvalue()) if line]


def test_long_work_is_shown_with_speed_and_time_left():
    stream, clock = Terminal(), Clock()
    with Progress("checking", stream, clock) as progress:
        for second in range(11):
            clock.now_s = 100.0 + second
            progress(second * 50_000_000, 500_000_000)
        shown = lines(stream)
        assert len(shown) == 10
        assert shown[3].startswith("checking [####")
        assert shown[3].endswith(" 40 %  200.0 MB of 500.0 MB, 50.0 MB/s, 6 s left")
        assert all(len(line) < 80 for line in shown)
    assert stream.getvalue().endswith("\r\x1b[K")


def test_short_work_shows_nothing():
    stream, clock = Terminal(), Clock()
    with Progress("checking", stream, clock) as progress:
        for part in range(5):
            clock.now_s += 0.09
            progress(part, 5)
    assert stream.getvalue() == ""


def test_it_is_drawn_ten_times_a_second_at_most():
    stream, clock = Terminal(), Clock()
    with Progress("checking", stream, clock) as progress:
        for part in range(1000):
            clock.now_s += 0.002
            progress(part, 1000)
        assert len(lines(stream)) <= 16


def test_what_is_no_terminal_gets_nothing():
    stream, clock = io.StringIO(), Clock()
    with Progress("checking", stream, clock) as progress:
        clock.now_s += 10
        progress(1, 2)
    assert stream.getvalue() == ""


def test_a_narrow_terminal_gets_what_it_has_room_for(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    stream, clock = Terminal(), Clock()
    with Progress("checking", stream, clock) as progress:
        clock.now_s += 1
        progress(0, 0)
        (line,) = lines(stream)
        assert len(line) < 30
