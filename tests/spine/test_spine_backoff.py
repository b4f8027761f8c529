import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.spine import Backoff, BackoffPolicy


class Highest(random.Random):
    """Always the top of the range, so that ceilings can be seen."""

    def uniform(self, a, b):
        assert a == 0
        return b


def test_ceiling_doubles_up_to_the_cap():
    backoff = Backoff(BackoffPolicy(base_s=1, cap_s=10), Highest())
    assert [backoff.delay_s(0) for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_first_retry_after_a_session_dropped_is_spread_over_first_s():
    backoff = Backoff(BackoffPolicy(first_s=30, base_s=1, cap_s=300, stable_s=60), Highest())
    backoff.established(0)
    assert backoff.delay_s(100) == 30
    assert backoff.delay_s(101) == 2  # the attempt after it failed


def test_stable_session_resets():
    backoff = Backoff(BackoffPolicy(first_s=5, base_s=1, cap_s=300, stable_s=60), Highest())
    for _ in range(8):
        backoff.delay_s(0)
    backoff.established(0)
    assert backoff.delay_s(60) == 5
    assert backoff.failures == 1


def test_flapping_session_does_not_reset():
    backoff = Backoff(BackoffPolicy(first_s=5, base_s=1, cap_s=300, stable_s=60), Highest())
    delays = []
    for _ in range(12):
        backoff.established(0)
        delays.append(backoff.delay_s(59))
    assert delays == [5, 5, 5, 8, 16, 32, 64, 128, 256, 300, 300, 300]


@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=50),
)
def test_delay_is_bounded_whatever_happens(seed, history):
    policy = BackoffPolicy()
    backoff = Backoff(policy, random.Random(seed))
    now_s = 0.0
    for established, lasted_s in history:
        if established:
            backoff.established(now_s)
        now_s += lasted_s
        assert 0 <= backoff.delay_s(now_s) <= max(policy.cap_s, policy.first_s)


def test_it_can_fail_for_years():
    backoff = Backoff(BackoffPolicy(), Highest())
    for _ in range(5000):
        delay_s = backoff.delay_s(0)
    assert delay_s == 300


@pytest.mark.parametrize(
    "numbers",
    [{"base_s": 0}, {"base_s": 301}, {"first_s": -1}, {"cap_s": float("inf")}, {"stable_s": float("nan")}],
)
def test_senseless_policies_are_refused(numbers):
    with pytest.raises(ValueError):
        BackoffPolicy(**numbers)


def test_a_fleet_whose_sessions_dropped_stays_spread_out():
    backoff = Backoff(BackoffPolicy(first_s=30, base_s=1, cap_s=300, stable_s=60, fleet=True), Highest())
    assert [backoff.delay_s(at) for at in range(3)] == [1, 2, 4], "nothing has dropped"
    backoff.established(100)
    assert [backoff.delay_s(at) for at in range(200, 205)] == [30, 60, 120, 240, 300]
    backoff.established(1000)
    assert backoff.delay_s(2000) == 30
