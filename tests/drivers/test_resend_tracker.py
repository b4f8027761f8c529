"""What a sensor's count says: gaps, repetitions, restarts, leaps."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from drivers.serial.resend import ATTEMPTS, REQUEST_READINGS_MAX, Place, ResendTracker

DEPTH = 20


@pytest.fixture
def tracker():
    return ResendTracker(DEPTH, timeout_s=1.0)


def arrive(tracker, numbers, *, boot=1, now=0.0):
    return [tracker.arrive(boot, number, now) for number in numbers]


def test_a_count_that_goes_up_asks_for_nothing(tracker):
    assert arrive(tracker, range(1, 100)) == [Place.NEW] * 99
    assert tracker.request(0) is None
    assert (tracker.missing, tracker.counts.lost) == (0, 0)


def test_a_gap_is_asked_for_and_filled(tracker):
    arrive(tracker, [1, 2, 6])
    assert tracker.request(0) == (1, 3, 5)
    assert arrive(tracker, [3, 7, 4, 5]) == [Place.LATE, Place.NEW, Place.LATE, Place.LATE]
    assert tracker.request(0) is None
    assert tracker.counts.recovered == 3
    assert tracker.missing == 0


def test_what_came_before_the_first_reading_heard_is_asked_for_as_far_as_the_ring_goes(tracker):
    arrive(tracker, [1000])
    assert tracker.request(0) == (1, 1000 - DEPTH + 1, 999)
    assert tracker.counts.lost == 0, "nobody listened before"


def test_an_answer_that_comes_twice_is_stored_once(tracker):
    arrive(tracker, [1, 3])
    assert tracker.request(0) == (1, 2, 2)
    assert tracker.request(0.9) is None
    assert tracker.request(1.0) == (1, 2, 2)
    assert arrive(tracker, [2, 4, 2]) == [Place.LATE, Place.NEW, Place.AGAIN]
    assert tracker.counts.repeated == 1


def test_an_answer_that_does_not_come_is_given_up_and_welcome_all_the_same(tracker):
    arrive(tracker, [1, 3])
    for attempt in range(ATTEMPTS):
        assert tracker.request(attempt) == (1, 2, 2)
    assert tracker.request(ATTEMPTS) is None
    assert tracker.counts.lost == 1
    assert arrive(tracker, [2, 2]) == [Place.LATE, Place.AGAIN]
    assert (tracker.counts.lost, tracker.counts.recovered) == (0, 1)


def test_an_answer_under_way_is_waited_for(tracker):
    arrive(tracker, [1, 10])
    assert tracker.request(0) == (1, 2, 9)
    for number in range(2, 6):
        arrive(tracker, [number], now=number * 0.9)
        assert tracker.request(number * 0.9) is None
    assert tracker.request(5 * 0.9 + 1) == (1, 6, 9)


def test_a_large_gap_is_asked_for_in_pieces():
    tracker = ResendTracker(1000, timeout_s=1.0)
    arrive(tracker, [1, 202])
    assert tracker.request(0) == (1, 2, 1 + REQUEST_READINGS_MAX)
    arrive(tracker, range(2, 2 + REQUEST_READINGS_MAX))
    assert tracker.request(0) == (1, 66, 129)


def test_what_has_left_the_ring_is_lost(tracker):
    arrive(tracker, range(1, 11))
    assert arrive(tracker, [100, 101]) == [Place.UNSURE, Place.NEW]
    # 100 came first, when the ring still held 81.
    assert tracker.counts.lost == 80 - 10
    assert tracker.request(0) == (1, 82, 99)
    assert tracker.counts.lost == 81 - 10


def test_another_boot_is_a_restart_and_its_first_readings_are_asked_for(tracker):
    arrive(tracker, [1, 2, 5])
    assert arrive(tracker, [3, 4], boot=2) == [Place.UNSURE, Place.NEW]
    assert tracker.counts.lost == 2
    assert tracker.request(0) == (2, 1, 2)


def test_a_count_that_goes_back_is_a_restart(tracker):
    arrive(tracker, range(1, 11))
    assert arrive(tracker, [3, 4]) == [Place.UNSURE, Place.NEW]
    assert tracker.request(0) == (1, 1, 2)


@pytest.mark.parametrize("noise", [(1, 9006), (1, 3), (8, 6)], ids=["leap", "back", "boot"])
def test_a_digit_that_noise_has_changed_forgets_nothing(tracker, noise):
    arrive(tracker, range(1, 6))
    assert tracker.arrive(*noise, 0) is Place.UNSURE
    assert tracker.request(0) is None
    arrive(tracker, [7])
    assert tracker.request(0) == (1, 6, 6)
    assert tracker.counts.lost == 0


def test_noise_inside_the_ring_costs_a_question(tracker):
    arrive(tracker, [1, 2, 13])
    assert tracker.request(0) == (1, 3, 12)
    assert arrive(tracker, range(4, 13)) == [Place.LATE] * 9
    assert arrive(tracker, [14]) == [Place.NEW]


def test_after_an_interruption_nothing_is_asked_before_the_sensor_was_heard(tracker):
    arrive(tracker, [1, 5])
    assert tracker.request(0) == (1, 2, 4)
    tracker.reconnected()
    assert tracker.request(100) is None
    arrive(tracker, [7])
    assert tracker.request(100) == (1, 2, 4)
    arrive(tracker, [2, 3, 4], now=100)
    assert tracker.request(100) == (1, 6, 6)


def test_a_new_run_goes_on_where_the_last_has_ended(tracker):
    tracker.resume([(6, 3000), (6, 3001), (7, 5), (7, 6), (7, 9), (7, 10)])
    assert arrive(tracker, [12], boot=7) == [Place.NEW]
    assert tracker.request(0) == (7, 1, 4)
    arrive(tracker, range(1, 5), boot=7)
    assert tracker.request(0) == (7, 7, 8)
    arrive(tracker, [7, 8], boot=7)
    assert tracker.request(0) == (7, 11, 11)
    assert tracker.counts.lost == 0


def test_a_new_run_begins_amid_an_answer_to_the_last(tracker):
    tracker.resume([(7, n) for n in (1, 2, 3, 9, 10)])
    assert arrive(tracker, [6, 7], boot=7) == [Place.LATE] * 2
    assert tracker.request(0) is None
    arrive(tracker, [11], boot=7)
    assert tracker.request(0) == (7, 4, 5)


def test_a_new_run_is_not_misled_by_one_reading_that_noise_has_changed(tracker):
    tracker.resume([(7, 1), (7, 2), (1, 3), (7, 4), (7, 9005), (7, 5), (3, 6)])
    assert arrive(tracker, [6], boot=7) == [Place.NEW]
    assert tracker.request(0) == (7, 3, 3)


def test_a_new_run_does_not_ask_for_a_single_reading_that_the_last_has_stored(tracker):
    tracker.resume([(7, 1), (7, 2), (7, 6)])
    assert arrive(tracker, [8], boot=7) == [Place.NEW]
    assert tracker.request(0) == (7, 3, 5)
    arrive(tracker, [3, 4, 5], boot=7)
    assert tracker.request(0) == (7, 7, 7)


def test_a_new_run_with_nothing_stored(tracker):
    tracker.resume([])
    assert arrive(tracker, [3]) == [Place.NEW]
    assert tracker.request(0) == (1, 1, 2)


class SensorAndReceiver(RuleBasedStateMachine):
    """A sensor with a ring, a line that loses what it likes, and a receiver that is killed now and then."""

    @initialize()
    def begin(self):
        self.boot, self.number = 1, 0
        self.now = 0.0
        self.answers = []
        self.stored = Counter()
        self.order = []
        self.tracker = ResendTracker(DEPTH, timeout_s=1.0)

    def hear(self, reading):
        if self.tracker.arrive(*reading, self.now) is not Place.AGAIN:
            self.stored[reading] += 1
            self.order.append(reading)
        request = self.tracker.request(self.now)
        if request is not None and not self.deaf:
            boot, first, last = request
            if boot == self.boot:
                self.answers = [(boot, n) for n in range(first, last + 1)]

    deaf = False

    @rule(count=st.integers(1, 5), arrives=st.booleans(), deaf=st.booleans())
    def measure(self, count, arrives, deaf):
        self.deaf = deaf
        for _ in range(count):
            self.number += 1
            self.now += 0.3
            if arrives:
                self.hear((self.boot, self.number))

    @rule(count=st.integers(1, 30), arrives=st.lists(st.booleans(), min_size=30, max_size=30))
    def answer(self, count, arrives):
        for arrived in arrives[:count]:
            if not self.answers:
                return
            reading = self.answers.pop(0)
            in_ring = max(1, self.number - DEPTH + 1) <= reading[1] <= self.number
            if arrived and in_ring and reading[0] == self.boot:
                self.hear(reading)

    @rule()
    def unplug(self):
        self.tracker.reconnected()
        self.answers = []

    @rule()
    def restart_sensor(self):
        self.boot += 1
        self.number = 0
        self.answers = []

    @rule(lost=st.integers(0, 4))
    def kill_receiver(self, lost):
        """The last few are not durable."""
        for reading in self.order[len(self.order) - lost :]:
            self.stored[reading] -= 1
        self.order = self.order[: len(self.order) - lost]
        self.answers = []
        self.tracker = ResendTracker(DEPTH, timeout_s=1.0)
        self.tracker.resume(self.order[-2 * DEPTH :])

    @invariant()
    def nothing_is_stored_twice(self):
        assert not [reading for reading, times in getattr(self, "stored", {}).items() if times > 1]

    def teardown(self):
        if not hasattr(self, "boot"):
            return
        # A quiet while: what the ring still holds then, has arrived.
        self.answers = []
        for _ in range(12):
            self.measure(1, arrives=True, deaf=False)
            self.answer(30, [True] * 30)
        held = range(max(1, self.number - DEPTH + 1), self.number + 1)
        assert [n for n in held if not self.stored[self.boot, n]] == []


TestSensorAndReceiver = SensorAndReceiver.TestCase
TestSensorAndReceiver.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
