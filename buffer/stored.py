"""What is durable of a table: its records, read from its files."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable
from typing import Any

from buffer.blocks import Block, Records, bare, first_id, last_id
from buffer.errors import DiskFault
from buffer.lane_reading import alarms_from, learn_alarms
from buffer.lanes import ALARM, NORMAL, without_alarms
from buffer.layout import lines, record_ids
from buffer.loss import NOT_JSON, Loss
from buffer.segment import (
    DamagedSegment,
    Position,
    Segment,
    is_object,
    parse_json,
    parse_lines,
    split_lines,
    take_lines,
)
from buffer.segment_files import SegmentFiles

_VISIT_RECORDS = 200
"""Held in memory at a time while records are visited (some 0.2 MB)."""
_MENDED_MAX = 2
"""So often a file is written anew in one go; a disk that does not give back what it just took is at fault itself."""
LEARNT_AT_ONCE = 4
"""So many files are searched for alarms in one go (16 MiB: half a second from a slow card)."""


class StoredRecords(SegmentFiles):
    """The durable records of one table. Thread-safe."""

    def read(
        self,
        low: int,
        high: int,
        n: int,
        bytes_max: int | None = None,
        position: Position | None = None,
        lane: str | None = None,
    ) -> Block:
        """Durable records from `low` to `high`, ascending; at most `n`; those of one lane when it is named.

        Raises:
            DiskFault: The disk cannot be read.
        """
        high = min(high, self.durable_id)
        found = self.block(high, position)
        size, learnt = 0, 0
        mended: Counter[int] = Counter()
        while found.count < n and (bytes_max is None or size < bytes_max or not found.count):
            segment = self.first_segment(low)
            if segment is None or segment.base > high or low > high:
                return found
            left = None if bytes_max is None else bytes_max - size
            try:
                if lane == ALARM:
                    if segment.alarms is None:
                        if learnt >= LEARNT_AT_ONCE:
                            found.paused = True
                            break
                        learnt += 1
                        learn_alarms(self.reader, segment)
                    text, position = alarms_from(
                        self.reader, segment, (low, high), n - found.count, left, found.position
                    )
                else:
                    text, position = self._read_lines(segment, low, n - found.count, left, found.position)
            except (DamagedSegment, OSError) as error:
                mended[segment.base] += 1
                if mended[segment.base] > _MENDED_MAX:
                    raise DiskFault(f"{segment.name} cannot be read, though written anew: {error}") from error
                self.mend(segment, error)
                continue
            if left is not None and found.count and len(text) > left:
                break  # the next record alone is too much
            if lane == NORMAL:
                text = without_alarms(text)
            size += len(text)
            found.position = position
            low = position.next_id or segment.last + 1
            found.add(self.chosen(text, high))
        found.complete = low > high
        found.reached = min(low - 1, high)
        return found

    def block(self, reached: int, position: Position | None = None) -> Block:
        """One without records yet."""
        return Block(self._parsed, position=position, reached=reached)

    def chosen(self, text: bytes, high: int) -> bytes:
        """Whole lines up to an id, without those that were deleted."""
        text = bare(text)
        if not text:
            return text
        last = last_id(text)
        if last <= high and not self.deleted.count_within(first_id(text), last):
            return text
        kept = [each for each in split_lines(text) if each[0] <= high and each[0] not in self.deleted]
        return lines(kept, first=True) if kept else b""

    def _parsed(self, text: bytes) -> Records:
        """The records of whole lines; where somebody vouched for what is no JSON, it is left out, and told."""
        try:
            return parse_lines(text)
        except ValueError:
            pass
        records, wrong = [], []
        for record_id, raw in split_lines(text):
            if is_object(raw):
                records.append((record_id, parse_json(raw)))
            else:
                wrong.append(record_id)
        self._leave_out(wrong)
        return records

    def _leave_out(self, wrong: list[int]) -> None:
        """These records are no JSON: take them out of their files, or see no more of them where that cannot be."""
        while wrong:
            segment = self.first_segment(wrong[0])
            here = [each for each in wrong if segment is None or each <= segment.last]
            wrong = wrong[len(here) :]
            try:
                if segment is not None and segment.sealed is not None:
                    if set(here) & set(self.reader.ids(segment)):  # nobody else was faster
                        self._rewrite_damaged(segment)
                    continue
            except (DamagedSegment, DiskFault, OSError):
                pass  # whoever reads it next will deal with that
            for each in here:
                if each not in self.deleted:
                    self.deleted.add(each, each)
                    self._losses.note(self.table, Loss(each, each, 1, NOT_JSON))

    def _read_lines(
        self, segment: Segment, low: int, n: int, bytes_max: int | None, position: Position | None
    ) -> tuple[bytes, Position]:
        with self.reader.open(segment) as handle:
            if position and (position.base, position.rev, position.next_id) == (
                segment.base,
                segment.rev,
                low,
            ):
                offset = position.offset
            elif low <= segment.base:
                offset = self.reader.first_offset()
            else:
                offset = self.reader.seek(segment, handle, low)
            text = self.reader.block(segment, handle, offset)
        text, used = take_lines(text, n, bytes_max)
        after = Position(segment.base, segment.rev, offset + used, 0)
        if text:
            after.next_id = last_id(text) + 1
        return text, after

    def count(self, low: int, high: int) -> int:
        """How many durable records there are from `low` to `high`, both included.

        Raises:
            DiskFault: The disk cannot be read.
        """
        if high < low:
            return 0
        with self.lock:
            segments = [(segment, segment.base, segment.last, segment.count) for segment in self.segments]
        total = 0
        for segment, base, last, records in segments:
            if low <= base and last <= high:
                total += records
            elif base <= high and low <= last:
                try:
                    ids = self.reader.ids(segment)
                except (DamagedSegment, OSError) as error:
                    self.mend(segment, error)
                    return self.count(low, high)
                total += bisect_right(ids, high) - bisect_left(ids, low)
        return total - self.deleted.count_within(low, high)

    def durable_total(self) -> int:
        """How many durable records there are."""
        with self.lock:
            return self._durable_total()

    def _durable_total(self) -> int:
        stored = sum(segment.count for segment in self.segments)
        return stored - self.deleted.count_within(1, self.durable_id)

    def recent(self, n: int) -> list[tuple[int, dict[str, Any]]]:
        """The newest `n` durable records, ascending.

        Raises:
            DiskFault: The disk cannot be read.
        """
        with self.lock:
            segments, high = list(reversed(self.segments)), self.durable_id
        found: list[tuple[int, dict[str, Any]]] = []
        for segment in segments:
            if len(found) >= n:
                break
            if not segment.count:
                continue
            want = n - len(found)
            first = self._nth_from_end(segment, want + self.deleted.count_within(segment.base, segment.last))
            block = self.read(first, min(segment.last, high), segment.count)
            found = block.records[-want:] + found
        return found

    def visit_recent(self, n: int, visit: Callable[[int, dict[str, Any]], None]) -> None:
        """Call `visit(id, document)` for the newest `n` durable records, ascending, a few in memory at a time.

        Where some were deleted, a few older ones may come before them.

        Raises:
            DiskFault: The disk cannot be read.
        """
        with self.lock:
            segments, high = list(reversed(self.segments)), self.durable_id
        low, missing = high + 1, n
        for segment in segments:
            if missing <= 0:
                break
            deleted = self.deleted.count_within(segment.base, segment.last)
            if missing + deleted < segment.count:
                low = self._nth_from_end(segment, missing + deleted)
            elif segment.count:
                low = segment.base
            missing -= segment.count - deleted
        position = None
        while low <= high:
            block = self.read(low, high, _VISIT_RECORDS, position=position)
            for record_id, document in block.records:
                visit(record_id, document)
            if block.complete or not block.records:
                return
            position, low = block.position, block.records[-1][0] + 1

    def _nth_from_end(self, segment: Segment, n: int) -> int:
        """The id of the n-th last record of a segment."""
        try:
            ids = record_ids(self.reader.newest(segment, n))
        except (DamagedSegment, OSError):
            return segment.base  # `read` will deal with what is wrong
        return ids[-n] if len(ids) >= n else segment.base
