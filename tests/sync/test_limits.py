"""What the other end takes is never exceeded, wherever a window is laid."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sync.limits import Limit, Load, SlidingLimits, SlidingWindow, most_of

gaps = st.floats(0, 3, allow_nan=False)


@given(
    limit=st.builds(Limit, st.just("bytes"), st.integers(1, 50), st.sampled_from([0.5, 1.0, 60.0])),
    steps=st.lists(st.tuples(gaps, st.integers(1, 60)), max_size=150),
)
def test_no_window_is_exceeded_and_what_waits_as_long_as_told_may_go(limit, steps):
    window, now_s, sent = SlidingWindow(limit), 100.0, []
    for gap_s, amount in steps:
        now_s += gap_s
        wait_s = window.wait_s(now_s, amount)
        if amount > limit.amount:
            assert wait_s == inf
            continue
        assert wait_s <= limit.period_s * (1 + 1 / 32)
        now_s += wait_s
        while window.wait_s(now_s, amount) > 0:  # a rounding of the clock
            assert window.wait_s(now_s, amount) < 1e-6
            now_s += 1e-6
        window.add(now_s, amount)
        sent.append((now_s, amount))
    for end_s, _ in sent:
        from_s = end_s - limit.period_s + 1e-9
        inside = sum(amount for at_s, amount in sent if from_s < at_s <= end_s)
        assert inside <= limit.amount


def test_a_part_of_a_limit_leaves_the_rest_to_others():
    window = SlidingWindow(Limit("messages", 8, 1.0))
    for _ in range(6):
        assert window.wait_s(0.0, 1, 0.75) == 0
        window.add(0.0, 1)
    assert window.wait_s(0.0, 1, 0.75) == 1.0
    assert window.wait_s(0.0, 1) == 0


def test_what_is_kept_as_one_counts_until_the_last_of_it_is_a_period_ago():
    window = SlidingWindow(Limit("messages", 10, 60.0))
    window.add(0.0, 5)
    window.add(0.9, 5)  # within a sixty-fourth of the period
    assert len(window._sent) == 1
    assert window.wait_s(60.5, 6) == pytest.approx(0.4)
    assert window.wait_s(60.9, 6) == 0


def test_what_alone_exceeds_a_part_may_have_the_whole():
    window = SlidingWindow(Limit("bytes", 100, 1.0))
    assert window.wait_s(0.0, 90, 0.5) == 0
    window.add(0.0, 90)
    assert window.wait_s(0.0, 90, 0.5) == 1.0


def test_a_window_of_an_hour_remembers_little():
    window = SlidingWindow(Limit("messages", 100_000, 3600.0))
    for second in range(20_000):
        window.add(second / 5, 1)
    assert len(window._sent) <= 66


def test_several_limits_all_hold():
    limits = SlidingLimits([Limit("messages", 2, 1.0), Limit("points", 10, 60.0)])
    limits.add(0.0, Load(100, 8))
    assert limits.wait_s(0.0, Load(100, 2)) == 0
    limits.add(0.0, Load(100, 1))
    assert limits.wait_s(0.0, Load(100, 1)) == 1.0
    assert limits.wait_s(1.0, Load(100, 2)) == 59.0


def test_a_limit_is_above_zero():
    with pytest.raises(ValueError, match="above zero"):
        Limit("bytes", 0, 1.0)
    assert most_of("bytes", [Limit("bytes", 10, 1), Limit("bytes", 5, 1)]) == 5
    assert most_of("points", [Limit("bytes", 10, 1)]) is None
