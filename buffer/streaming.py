"""Going through the durable records of a table, a few in memory at a time, leaving out what nobody wants."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from buffer.segment import DamagedSegment, Segment, parse_lines
from buffer.stored import StoredRecords
from buffer.summary import UNKNOWN, Summarizer

STREAM_RECORDS: Final = 500
"""Held in memory at a time (some 0.5 MB)."""


class StreamedRecords(StoredRecords):
    """The durable records of one table, and ways to go through them. Thread-safe."""

    def stream_stored(
        self, low: int, high: int, *, skip: Callable[[Segment], bool] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Durable records from `low` to `high`, ascending, a few in memory at a time.

        Args:
            low: The first id.
            high: The last; a durable one.
            skip: Says of each segment, before it is read, whether nothing in it is wanted. What is read
                as a whole is summed up on the way.

        Raises:
            DiskFault: The disk cannot be read.
        """
        while low <= high:
            segment = self.first_segment(low)
            if segment is None or segment.base > high:
                return
            stop = min(high, segment.last)
            if skip is None:
                yield from self._stream_range(low, high, None)
                return
            if not skip(segment):
                whole = segment.sealed is not None and low <= segment.base and stop == segment.last
                sums = whole and segment.summary is None and not self.deleted.count_within(low, stop)
                summarizer = Summarizer() if sums else None
                yield from self._stream_range(low, stop, summarizer)
                if summarizer is not None:
                    segment.summary = summarizer.summary()
            low = stop + 1

    def _stream_range(
        self, low: int, high: int, summarizer: Summarizer | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        position = None
        while low <= high:
            found = self.read(low, high, STREAM_RECORDS, position=position)
            position = found.position
            if summarizer is not None:
                summarizer.add(document for _, document in found.records)
            yield from found.records
            if found.complete:
                return
            low = found.reached + 1

    def summarize(self, segment: Segment) -> Iterator[None]:
        """Give a sealed segment its summary, a block at a time.

        Raises:
            DiskFault: The disk cannot be read.
        """
        summarizer, offset = Summarizer(), self.reader.first_offset()
        try:
            while segment.end < 0 or offset < segment.end:
                with self.reader.open(segment) as handle:
                    text = self.reader.block(segment, handle, offset)
                summarizer.add(document for _, document in parse_lines(text))
                offset += len(text)
                yield
        except FileNotFoundError:
            self._missing(segment)
        except (DamagedSegment, OSError, ValueError):
            segment.summary = UNKNOWN  # should the disk refuse, too, it is not read for this over and over
            self._rewrite_damaged(segment)
        else:
            segment.summary = summarizer.summary()
