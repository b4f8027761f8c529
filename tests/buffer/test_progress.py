"""How far a consumer is, against a model that knows the state of each id in each lane."""

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from buffer.lanes import LANES
from buffer.progress import Progress, Span
from buffer.ranges import RangeSet

HIGH = 60
FREE, TAKEN, ACKED = "free", "taken", "acked"
ids = st.integers(1, HIGH)
lanes = st.sampled_from([LANES, ("alarm",), ("normal",)])


class ProgressAgainstCells(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.progress = Progress({"mark": 0, "ranges": []})
        self.cells = {(lane, each): FREE for lane in LANES for each in range(1, HIGH + 1)}
        self.out: list[Span] = []

    def put(self, span, state):
        for lane in span.lanes:
            for each in range(span.low, span.high + 1):
                self.cells[lane, each] = state

    @rule(wanted=lanes, high=ids, newest=st.booleans(), share=st.floats(0, 1))
    def take(self, wanted, high, newest, share):
        free = [each for each in range(1, high + 1) if any(self.cells[lane, each] == FREE for lane in wanted)]
        span = (self.progress.newest if newest else self.progress.oldest)(high, wanted)
        if not free:
            assert span is None
            return
        end = free[-1] if newest else free[0]
        assert (span.high if newest else span.low) == end
        assert set(span.lanes) == {lane for lane in wanted if self.cells[lane, end] == FREE}
        for each in range(span.low, span.high + 1):
            for lane in span.lanes:
                assert self.cells[lane, each] == FREE
            for lane in set(wanted) - set(span.lanes):
                assert self.cells[lane, each] != FREE, "one of the other lane would be passed over"
        width = int((span.high - span.low) * share)
        low, high = (span.high - width, span.high) if newest else (span.low, span.low + width)
        part = Span(low, high, span.lanes)
        self.progress.take(part)
        self.put(part, TAKEN)
        self.out.append(part)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), arrived=st.booleans())
    def settle(self, data, arrived):
        span = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.progress.give_back(span)
        if arrived:
            self.progress.settle(span)
        self.put(span, ACKED if arrived else FREE)

    @rule()
    def reopen(self):
        self.progress = Progress(self.progress.state())
        for span in self.out:
            self.put(span, FREE)
        self.out = []

    @rule(each=ids, lane=st.sampled_from(LANES))
    def move(self, each, lane):
        other = LANES[1 - LANES.index(lane)]
        if not self.out:
            self.progress.moved([each], lane)
            self.cells[lane, each] = ACKED if self.cells[other, each] == ACKED else FREE

    @invariant()
    def is_the_same(self):
        both = [each for each in range(1, HIGH + 1) if any(self.cells[lane, each] != ACKED for lane in LANES)]
        assert self.progress.mark == (both[0] - 1 if both else HIGH)
        for lane in LANES:
            acked = {each for each in range(1, HIGH + 1) if self.cells[lane, each] == ACKED}
            assert {
                each for low, high in self.progress.done(lane) for each in range(max(low, 1), high + 1)
            } == acked
            free = [each for each in range(1, HIGH + 1) if self.cells[lane, each] == FREE]
            assert self.progress.has_free(HIGH, [lane]) is bool(free)
        parts = {
            (lane, each)
            for part in self.progress.open_parts(HIGH)
            for lane in part.lanes
            for each in range(part.low, part.high + 1)
        }
        assert parts == {cell for cell, state in self.cells.items() if state != ACKED}


TestProgressAgainstCells = ProgressAgainstCells.TestCase
TestProgressAgainstCells.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_state_of_a_program_without_lanes_is_read_and_its_reader_sends_no_less():
    progress = Progress({"mark": 10, "ranges": [[21, 30]]})
    for lane in LANES:
        assert list(progress.done(lane)) == [(0, 10), (21, 30)]
    progress.settle(Span(35, 40, ("alarm",)))
    assert progress.state() == {"mark": 10, "ranges": [(21, 30)], "lanes": {"alarm": [(35, 40)]}}


def test_the_largest_ranges_are_kept_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr("buffer.progress._RANGES_MAX", 2)
    progress = Progress({"mark": 0, "ranges": []})
    for low, high in [(2, 2), (10, 30), (40, 41), (50, 90)]:
        progress.settle(Span(low, high))
    assert progress.state() == {"mark": 0, "ranges": [(10, 30), (50, 90)]}


sets = st.lists(st.tuples(ids, st.integers(0, 9)), max_size=8).map(
    lambda pairs: RangeSet((low, low + width) for low, width in pairs)
)


def members(ranges):
    return {each for low, high in ranges for each in range(low, high + 1)}


@given(one=sets, other=sets, low=ids, high=ids)
def test_sets_of_ranges_are_sets(one, other, low, high):
    assert members(one.common(other)) == members(one) & members(other)
    within = set(range(low, high + 1))
    assert members(one.missing_within(low, high)) == within - members(one)
    assert one.covers(low, high) is (within <= members(one))
    assert one.last_missing(high) == max({*range(high + 1)} - members(one))
    below = {end for _, end in one if end < low}
    assert one.previous_high(low) == max(below, default=None)
    assert one.largest(99) == list(one)
    assert {end - start for start, end in one.largest(1)} == (
        {max(end - start for start, end in one)} if one else set()
    )
