"""How old segments are, as far as the clock can be trusted. On the committing thread only.

A device without a battery-backed clock is at the mercy of its network for the time. Local history may
go a little early or late by that; what is not delivered must not: a clock that jumps ahead, or a file
written before the clock was set, is no proof of age.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from buffer.segment import DamagedSegment, parse_json, split_lines

if TYPE_CHECKING:
    from buffer.log import Log
    from buffer.options import BufferOptions
    from buffer.segment import Segment

_ROLLS: Final = 10
"""A segment is sealed after a tenth of the maximum age, so that what is in it goes not much later."""
_NS: Final = 1e9


class Ages:
    """The ages of one table's segments."""

    def __init__(self, options: BufferOptions, log: Log) -> None:
        self._options = options
        self._log = log
        self._begun: tuple[int, float] = (0, 0.0)
        """Base of the file being written, and when that was first looked at, on the clock that never steps."""
        self._seen_s: dict[int, float] = {}
        """By base: when a sealed one was first looked at, on that clock."""
        self._written_s: dict[int, float] = {}
        self._stamped: dict[int, bool] = {}
        """By base: whether its newest record was taken while the clock was right."""

    def over(self, segment: Segment, age_s: float) -> bool:
        """Whether a segment was written so long ago, by the wall clock."""
        written_s = self._written(segment)
        return written_s is not None and self._options.clock.now().timestamp() - written_s >= age_s

    def surely_over(self, segment: Segment, age_s: float) -> bool:
        """Whether a segment was written so long ago, beyond doubt."""
        now_s = self._running_s()
        if now_s - self._seen_s.setdefault(segment.base, now_s) >= age_s:
            return True
        return self._options.clock_trusted() and self.over(segment, age_s) and self._was_stamped(segment)

    def roll(self, max_age_s: float) -> None:
        """Seal the file being written when it has been for long; forget the files that went.

        Raises:
            DiskFault: The disk refused.
        """
        base, count = self._log.active_at
        now_s = self._running_s()
        if not count or self._begun[0] != base:
            self._begun = (base, now_s)
        elif now_s - self._begun[1] >= max_age_s / _ROLLS:
            self._log.roll()
        with self._log.lock:
            bases = {segment.base for segment in self._log.segments}
        for gone in self._seen_s.keys() - bases:
            del self._seen_s[gone]
            self._written_s.pop(gone, None)
            self._stamped.pop(gone, None)

    def _running_s(self) -> float:
        return self._options.clock.boottime_ns() / _NS

    def _written(self, segment: Segment) -> float | None:
        """When its file was last written (before it was thinned, if this process saw it then)."""
        known = self._written_s.get(segment.base)
        if known is None and segment.sealed is not None:
            try:
                known = self._options.fs.modified_s(f"{self._log.directory}/{segment.name}")
            except OSError:
                return None
            self._written_s[segment.base] = known
        return known

    def _was_stamped(self, segment: Segment) -> bool:
        known = self._stamped.get(segment.base)
        if known is None:
            try:
                *_, (_, raw) = split_lines(self._log.reader.newest(segment, 1))
            except (DamagedSegment, OSError, ValueError):
                return False
            known = self._stamped[segment.base] = parse_json(raw).get("clock") in {None, "synced"}
        return known
