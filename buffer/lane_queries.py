"""What consumers ask of a table beside reading on: the newest records, and how many a lane has."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from buffer.lane_reading import lane_ids, learn_alarms, newest_before
from buffer.lanes import ALARM, joined
from buffer.segment import DamagedSegment
from buffer.stored import LEARNT_AT_ONCE

if TYPE_CHECKING:
    from buffer.blocks import Block
    from buffer.segment import Segment
    from buffer.stored import StoredRecords


def read_newest(
    records: StoredRecords, low: int, high: int, n: int, bytes_max: int | None = None, lane: str | None = None
) -> Block:
    """The last `n` durable records from `low` to `high`, ascending, from one segment; those of one lane when it is named.

    Raises:
        DiskFault: The disk cannot be read.
    """
    found = records.block(high + 1)
    learnt = 0
    while not found.count and found.reached > low:
        top = found.reached - 1
        segment = _last_segment(records, top)
        if segment is None or segment.last < low:
            found.reached = low
            break
        if lane == ALARM and segment.alarms is None:
            learnt += 1
            if learnt > LEARNT_AT_ONCE:
                found.paused = True
                break
        try:
            newest = newest_before(records.reader, segment, (low, top), n, bytes_max, lane)
            found.add(records.chosen(joined(newest.lines), high))
        except (DamagedSegment, OSError) as error:
            records.mend(segment, error)
            continue
        found.reached = newest.reached
    found.complete = found.reached <= low
    return found


def _last_segment(records: StoredRecords, record_id: int) -> Segment | None:
    """The last segment that may have a record of at most this id."""
    with records.lock:
        at = bisect_right(records.segments, record_id, key=lambda segment: segment.base) - 1
        return records.segments[at] if at >= 0 else None


def count_lane(records: StoredRecords, low: int, high: int, lane: str) -> int:
    """How many durable records of a lane there are from `low` to `high`, both included.

    Raises:
        DiskFault: The disk cannot be read.
    """
    with records.lock:
        segments = [each for each in records.segments if each.base <= high and low <= each.last]
    total = 0
    for segment in segments:
        try:
            total += _count_in(records, segment, low, high, alarm=lane == ALARM)
        except (DamagedSegment, OSError) as error:
            records.mend(segment, error)
            return count_lane(records, low, high, lane)
    return total


def _count_in(records: StoredRecords, segment: Segment, low: int, high: int, *, alarm: bool) -> int:
    whole = low <= segment.base and segment.last <= high
    if whole and not records.deleted.count_within(segment.base, segment.last):
        with records.lock:
            count = segment.count
            alarms = segment.alarms
        known = (alarms or learn_alarms(records.reader, segment)).count
        return known if alarm else count - known
    return sum(
        is_one is alarm and low <= record_id <= high and record_id not in records.deleted
        for record_id, is_one in lane_ids(records.reader, segment)
    )
