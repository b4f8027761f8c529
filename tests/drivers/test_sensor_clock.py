"""When a reading was measured, by the uptime of the sensor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.serial.sensor_clock import SensorClock

S = 1_000_000_000


@pytest.fixture
def clock():
    return SensorClock()


def test_nothing_is_known_before_a_reading_came_straight_away(clock):
    assert clock.measured_ns(1, 500, 10 * S) is None
    assert not clock.was_delayed(1, 500, 10 * S)
    clock.heard(1, 1000, 10 * S)
    assert clock.measured_ns(2, 500, 10 * S) is None


def test_the_uptime_says_when_it_was(clock):
    clock.heard(1, 60_000, 100 * S)
    assert clock.measured_ns(1, 12_500, 101 * S) == 52.5 * S


def test_the_reading_with_the_least_delay_is_the_reference(clock):
    for second, delay_s in enumerate([0.4, 0.02, 0.3, 0.1], start=1):
        clock.heard(1, second * 1000, round((second + delay_s) * S))
    assert clock.measured_ns(1, 500, 10 * S) == 0.52 * S


def test_nothing_was_measured_after_it_arrived(clock):
    clock.heard(1, 1000, 10 * S)
    assert clock.measured_ns(1, 5000, 11 * S) == 11 * S


def test_uptime_may_begin_anew(clock):
    clock.heard(1, 200, 10_000 * S)
    assert clock.measured_ns(1, 2**32 - 800, 10_000 * S) == 9_999 * S
    clock.heard(2, 2**32 - 800, 20_000 * S)
    assert clock.measured_ns(2, 200, 20_002 * S) == 20_001 * S


def test_what_waited_somewhere_is_noticed_and_a_poor_crystal_is_not_taken_for_it(clock):
    clock.heard(1, 0, 0)
    clock.reconnected()
    hour = 3600
    assert not clock.was_delayed(1, hour * 1000, (hour + 18) * S), "0.5 % off"
    assert clock.was_delayed(1, 10_000, 13 * S)
    assert not clock.was_delayed(1, 10_000, 11 * S)


def test_a_new_connection_prefers_its_own_readings(clock):
    clock.heard(1, 0, 0)
    clock.reconnected()
    assert clock.measured_ns(1, 1000, 5 * S) == 1 * S
    clock.heard(1, 3_600_000, 3618 * S)  # the sensor is slow by 0.5 %
    assert clock.measured_ns(1, 3_599_000, 3618 * S) == 3617 * S


@given(
    delays=st.lists(st.floats(0, 0.9), min_size=1, max_size=40),
    ago_ms=st.integers(0, 20_000),
)
def test_the_error_is_never_more_than_the_least_recent_delay(delays, ago_ms):
    clock = SensorClock()
    for place, delay in enumerate(delays):
        clock.heard(1, place * 50, round((place * 0.05 + delay) * S))
    now_ms = len(delays) * 50
    measured = clock.measured_ns(1, now_ms - ago_ms, 10**15)
    assert measured is not None
    error_s = measured / S - (now_ms - ago_ms) / 1000
    assert -1e-6 < error_s <= min(delays[-16:]) + 1e-6
