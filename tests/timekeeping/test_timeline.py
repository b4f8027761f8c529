"""The rules by which a moment gets its time. A truth is made up, and must lie within each bound that is stated."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.timekeeping.timeline import DRIFT_PPM, Anchor, Timeline
from collectors.enums import ClockQuality

S = 10**9
NOON = 1_790_000_000.0


def near(expected):
    """To the millisecond: approx's own tolerance is relative, and half an hour for a time of today."""
    return pytest.approx(expected, rel=0, abs=1e-3)


def timeline(*boots):
    """Boots from (alive_s, [(first_s, last_s), ...], began_t)."""
    made = Timeline()
    for number, (alive_s, stretches, began_t) in enumerate(boots, start=1):
        for first_s, last_s in stretches:
            made.anchor(number, Anchor(first_s * S, began_t + first_s, 0.01), continues=False)
            if last_s > first_s:
                made.anchor(number, Anchor(last_s * S, began_t + last_s, 0.01), continues=True)
        made.alive(number, alive_s * S)
    return made


def test_before_the_first_anchor_time_is_counted_back():
    span = timeline((900, [(600, 900)], NOON)).span(1, 100 * S, 0.0, present_boot=1)
    assert (span.low_ns, span.high_ns, span.quality) == (0, 600 * S, ClockQuality.CORRECTED)
    assert span.t(100 * S) == near(NOON + 100)
    assert span.error_at(100 * S) == pytest.approx(0.01 + 500 * DRIFT_PPM * 1e-6)
    assert not span.provisional


def test_between_two_stretches_time_is_on_the_line_between_them():
    known = timeline((0, [(100, 200)], NOON))
    known.anchor(1, Anchor(1200 * S, NOON + 1200.1, 0.01), continues=False)  # the crystal lost 0.1 s in 1000
    span = known.span(1, 700 * S, 0.0, present_boot=1)
    assert span.t(700 * S) == near(NOON + 700.05)
    assert span.error_at(700 * S) == pytest.approx(0.01 + 500 * DRIFT_PPM * 1e-6)


def test_after_the_last_anchor_time_is_counted_on_for_now():
    known = timeline((1000, [(100, 200)], NOON))
    span = known.span(1, 700 * S, 0.0, present_boot=1)
    assert span.t(700 * S) == near(NOON + 700)
    assert span.error_at(700 * S) == pytest.approx(0.01 + 500 * DRIFT_PPM * 1e-6)
    assert span.provisional, "the next anchor of this boot will say more"
    assert not known.span(1, 700 * S, 0.0, present_boot=2).provisional, "there will be none"


def test_a_boot_that_never_knew_lies_between_its_neighbours():
    known = timeline((500, [(100, 500)], NOON), (300, [], 0.0), (100, [(50, 100)], NOON + 2000))
    span = known.span(2, 200 * S, 0.0, present_boot=3)
    assert span.quality is ClockQuality.ESTIMATED
    earliest, latest = NOON + 500 + 200, NOON + 2000 - 100
    assert span.t(200 * S) == pytest.approx((earliest + latest) / 2, rel=0, abs=0.1)
    assert span.error_at(200 * S) == pytest.approx((latest - earliest) / 2, abs=0.2)


def test_a_clock_on_a_battery_says_where_between_them():
    known = timeline((500, [(100, 500)], NOON), (300, [], 0.0), (100, [(50, 100)], NOON + 2000))
    known.boot(2).battery = True
    span = known.span(2, 200 * S, NOON + 900.0, present_boot=3)
    assert span.t(200 * S) == near(NOON + 900)
    assert span.error_at(200 * S) == pytest.approx(1000, abs=1)
    absurd = known.span(2, 200 * S, 12.0, present_boot=3)
    assert absurd.t(200 * S) == pytest.approx(NOON + 1300, rel=0, abs=0.1), "its battery was empty"


def test_without_a_boot_before_it_the_wall_clock_has_a_say_if_it_can_be():
    known = timeline((300, [], 0.0), (100, [(50, 100)], NOON + 2000))
    assert known.span(1, 200 * S, 200.0, present_boot=2).t(200 * S) == pytest.approx(
        NOON + 1900, rel=0, abs=0.1
    )
    believed = known.span(1, 200 * S, NOON, present_boot=2)
    assert believed.t(200 * S) == near(NOON)
    assert believed.error_at(200 * S) is None
    alone = timeline((300, [], 0.0)).span(1, 200 * S, 200.0, present_boot=1)
    assert (alone.t(200 * S), alone.error_at(200 * S)) == (pytest.approx(200.0), None)
    assert alone.provisional


@st.composite
def histories(draw):
    """Boots with crystals that drift, off for unknown times; the truth of every moment, and what was seen of it."""
    truth, known, t = [], Timeline(), NOON
    for boot in range(1, draw(st.integers(1, 6)) + 1):
        t += draw(st.floats(0, 1e6))
        ppm = draw(st.floats(-50, 50))
        lasted_s = draw(st.integers(2, 200_000))
        truth.append((t, ppm))
        continues = False
        for at_s in sorted(set(draw(st.lists(st.integers(1, lasted_s), max_size=8)))):
            error_s = draw(st.floats(0, 1))
            wrong_s = draw(st.floats(-error_s, error_s))
            anchor = Anchor(at_s * S, true_t(truth[-1], at_s * S) + wrong_s, error_s)
            known.anchor(boot, anchor, continues=continues)
            continues = draw(st.booleans())
        known.alive(boot, lasted_s * S)
        t = true_t(truth[-1], lasted_s * S)
    return truth, known


def true_t(boot, up_ns):
    began, ppm = boot
    return began + up_ns * 1e-9 * (1 + ppm * 1e-6)


@given(histories(), st.data())
def test_each_bound_that_is_stated_holds_the_truth(history, data):
    truth, known = history
    boot = data.draw(st.integers(1, len(truth)))
    up_ns = data.draw(st.integers(0, known.boot(boot).alive_ns))
    raw_t = data.draw(st.one_of(st.floats(0, 2e9), st.just(true_t(truth[boot - 1], up_ns))))
    known.boot(boot).battery = data.draw(st.booleans())
    span = known.span(boot, up_ns, raw_t, present_boot=len(truth))
    assert span.low_ns <= up_ns <= span.high_ns
    assert math.isfinite(span.t(up_ns))
    error_s = span.error_at(up_ns)
    if error_s is not None:
        assert abs(span.t(up_ns) - true_t(truth[boot - 1], up_ns)) <= error_s + 1e-5
    assert (error_s is None) <= (span.quality is ClockQuality.ESTIMATED), "what was corrected has a bound"


@given(histories(), st.data())
def test_within_a_boot_time_never_runs_backwards_further_than_its_bounds(history, data):
    truth, known = history
    boot = data.draw(st.integers(1, len(truth)))
    moments = sorted(data.draw(st.lists(st.integers(0, known.boot(boot).alive_ns), min_size=2, max_size=2)))
    (low, low_error), (high, high_error) = (
        (span.t(up_ns), span.error_at(up_ns))
        for up_ns in moments
        for span in [known.span(boot, up_ns, NOON, present_boot=len(truth))]
    )
    if low_error is not None and high_error is not None:
        assert high - low >= -(low_error + high_error) - 1e-5
