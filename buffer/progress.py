"""How far one consumer is: what it acknowledged, and what it has out, lane by lane. Pure.

Draining is out of order: alarms first, then what is new, then the backlog. Each lane is counted as a
sequence of its own: a range of a lane says that all records of that lane with ids in the range are
acknowledged, whatever records of the other lane lie between. So taking a hundred thousand alarms out
of a backlog leaves one range, not a hundred thousand. Ids that are no records at all belong to both.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from buffer.lanes import LANES
from buffer.ranges import RangeSet

_RANGES_MAX: Final = 1_000
"""How many ranges of a lane beyond the mark are kept durable; the rest would only cost duplicates."""


@dataclass(frozen=True, slots=True)
class Span:
    """The records of some lanes with ids from `low` to `high`."""

    low: int
    high: int
    lanes: tuple[str, ...] = LANES


class Progress:
    """What is acknowledged and what is out.

    Attributes:
        mark: Everything up to this id is acknowledged, or was never a record.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        """As it was stored; see `state`."""
        self.mark: int = state["mark"]
        lanes = state.get("lanes", {})
        self._acked = {lane: _ranges(state["ranges"], lanes.get(lane, ())) for lane in LANES}
        self._taken = {lane: RangeSet() for lane in LANES}
        for ranges in self._acked.values():
            ranges.discard(0, self.mark)  # a trailer may be ahead of the row
        self._advance()

    # -- what is free

    def oldest(self, high: int, lanes: Sequence[str], after: int = 0) -> Span | None:
        """The lowest ids beyond `after` up to `high` that are free in one of the lanes at least, None when none are."""
        free = {lane: self._free_from(lane, after) for lane in lanes}
        low = min(free.values())
        if low > high:
            return None
        both = tuple(lane for lane in lanes if free[lane] == low)
        for lane in lanes:
            if lane in both:
                busy = (ranges.next_low(low) for ranges in (self._acked[lane], self._taken[lane]))
                high = min([high, *(start - 1 for start in busy if start is not None)])
            else:
                high = min(high, free[lane] - 1)
        return Span(low, high, both)

    def newest(self, high: int, lanes: Sequence[str], after: int = 0) -> Span | None:
        """The highest ids beyond `after` up to `high` that are free in one of the lanes at least, None when none are."""
        free = {lane: self._free_to(lane, high) for lane in lanes}
        high = max(free.values())
        low = max(self.mark, after) + 1
        if high < low:
            return None
        both = tuple(lane for lane in lanes if free[lane] == high)
        for lane in lanes:
            if lane in both:
                busy = (ranges.previous_high(high) for ranges in (self._acked[lane], self._taken[lane]))
                low = max([low, *(end + 1 for end in busy if end is not None)])
            else:
                low = max(low, free[lane] + 1)
        return Span(low, high, both)

    def _free_from(self, lane: str, after: int = 0) -> int:
        low = max(self.mark, after) + 1
        while True:
            start = low
            low = self._taken[lane].first_missing(self._acked[lane].first_missing(low))
            if low == start:
                return low

    def _free_to(self, lane: str, high: int) -> int:
        while True:
            start = high
            high = self._taken[lane].last_missing(self._acked[lane].last_missing(high))
            if high == start:
                return high

    def has_free(self, high: int, lanes: Sequence[str], after: int = 0) -> bool:
        """Whether any id beyond `after` up to `high` is free in one of the lanes."""
        return any(self._free_from(lane, after) <= high for lane in lanes)

    # -- taking and acknowledging

    def take(self, span: Span) -> None:
        """Nobody else gets it."""
        for lane in span.lanes:
            self._taken[lane].add(span.low, span.high)

    def give_back(self, span: Span) -> None:
        """It may be taken again."""
        for lane in span.lanes:
            self._taken[lane].discard(span.low, span.high)

    def settle(self, span: Span, apart: Iterable[int] = ()) -> None:
        """It is acknowledged, or there is nothing in it; apart from some ids."""
        for lane in span.lanes:
            self._acked[lane].add(max(span.low, self.mark + 1), span.high)
        for record_id in apart:
            self.unsettle(record_id, span.lanes)
        self._advance()

    def unsettle(self, record_id: int, lanes: Sequence[str]) -> None:
        """This one is not acknowledged in these lanes; fine when it was not, or is below the mark."""
        for lane in lanes:
            self._acked[lane].discard(record_id, record_id)

    def moved(self, record_ids: Iterable[int], lane: str) -> None:
        """Records come into a lane from another one: what was acknowledged there is here, too, and nothing else."""
        (other,) = (each for each in LANES if each != lane)
        for record_id in record_ids:
            if self.is_settled(record_id, other):
                self._acked[lane].add(max(record_id, self.mark + 1), record_id)
            else:
                self.unsettle(record_id, [lane])
        self._advance()

    def _advance(self) -> None:
        mark = min(ranges.first_missing(self.mark + 1) for ranges in self._acked.values()) - 1
        for ranges in self._acked.values():
            ranges.discard(0, mark)
        self.mark = mark

    # -- looking

    def is_settled(self, record_id: int, lane: str) -> bool:
        """Whether a record of a lane is acknowledged."""
        return record_id <= self.mark or record_id in self._acked[lane]

    def touches(self, span: Span) -> bool:
        """Whether any part of a span is acknowledged."""
        if span.low <= self.mark:
            return True
        return any(next(self._acked[lane].within(span.low, span.high), None) for lane in span.lanes)

    def done(self, lane: str) -> RangeSet:
        """All that is acknowledged of a lane, from the first id on."""
        found = RangeSet(self._acked[lane])
        found.add(0, self.mark)
        return found

    def open_parts(self, high: int) -> Iterator[Span]:
        """What is not acknowledged up to `high`, ascending."""
        low = self.mark + 1
        while low <= high:
            stop, lanes = high, []
            for lane, ranges in self._acked.items():
                if low in ranges:
                    stop = min(stop, ranges.first_missing(low) - 1)
                else:
                    lanes.append(lane)
                    following = ranges.next_low(low)
                    stop = stop if following is None else min(stop, following - 1)
            if lanes:
                yield Span(low, stop, tuple(lanes))
            low = stop + 1

    def state(self) -> dict[str, Any]:
        """What is to be durable: the mark, ranges acknowledged in all lanes, and further ones of each lane.

        A program that knows of no lanes reads the first two, and sends the rest again.
        """
        every = self._acked[LANES[0]]
        for lane in LANES[1:]:
            every = every.common(self._acked[lane])
        further = {}
        for lane in LANES:
            ranges = RangeSet(self._acked[lane])
            for low, high in every:
                ranges.discard(low, high)
            if ranges:
                further[lane] = ranges.largest(_RANGES_MAX)
        found: dict[str, Any] = {"mark": self.mark, "ranges": every.largest(_RANGES_MAX)}
        if further:
            found["lanes"] = further
        return found


def _ranges(*several: Iterable[tuple[int, int]]) -> RangeSet:
    return RangeSet((low, high) for ranges in several for low, high in ranges)
