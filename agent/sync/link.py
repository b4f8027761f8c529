"""How much a link carries, and how quickly: estimated from acknowledgements. Pure; time is given.

The method is that of BBR (Cardwell et al., 2016), reduced. The round trip without a queue is the shortest that was
seen of late. The bandwidth is what was acknowledged in an interval in which something was on its way at every
moment; the first acknowledgement on an idle link only says that it carries at least so much, and begins such an
interval, as does the first message after a pause that the sender made by itself. One that shows more at most doubles the estimate, since acknowledgements may come in one packet. A slower
one counts when round trips were longer than need be: else nobody asked the link for more.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

_INTERVAL_S: Final = 0.1
_ELAPSED_MIN_S: Final = 0.002
_SAMPLE_BYTES_MIN: Final = 1024
"""Less says more about latency than about the link."""
_MEMORY_S: Final = 30.0
"""The shortest round trip of this period and the one before counts."""
_QUEUED_S: Final = 0.1
"""A round trip longer by so much has waited behind others."""
_SETTLING: Final = 0.25
_PAUSES_MAX: Final = 100


class LinkEstimate:
    """What is known about one connection's link.

    Attributes:
        bandwidth_bytes_s: Bytes it carries in a second; None until there was enough to tell.
        round_trip_s: The shortest round trip of late; infinite before the first.
    """

    def __init__(self) -> None:
        self.bandwidth_bytes_s: float | None = None
        self.round_trip_s = inf
        self._this_s = self._before_s = inf
        self._period_from_s = 0.0
        self._in_flight = 0
        self._begun_s = 0.0
        self._last_s = 0.0
        self._from_idle = True
        self._bytes = 0
        self._queued = False
        self._pauses: deque[float] = deque(maxlen=_PAUSES_MAX)
        """When messages were sent that came after a pause."""

    def sent(self, now_s: float, *, after_pause: bool = False) -> None:
        """A message left; perhaps after a pause in which there was nothing to send, or nothing was allowed to go."""
        if self._in_flight == 0:
            self._begin(now_s, from_idle=True)
        elif after_pause:
            self._pauses.append(now_s)
        self._in_flight += 1

    def acknowledged(self, now_s: float, size_bytes: int, sent_s: float) -> None:
        """One of them was acknowledged."""
        round_trip_s = max(0.0, now_s - sent_s)
        self._note_round_trip(now_s, round_trip_s)
        self.ended()
        if self._pauses and sent_s >= self._pauses[0] and not self._from_idle:
            while self._pauses and sent_s >= self._pauses[0]:
                self._pauses.popleft()
            self._end_interval(self._last_s)
            self._begin(now_s)
            self._last_s = now_s
            return
        self._last_s = now_s
        self._bytes += size_bytes
        self._queued |= round_trip_s > self.round_trip_s + _QUEUED_S
        elapsed_s = now_s - self._begun_s
        if self._from_idle:
            self._note_bandwidth(self._bytes / max(elapsed_s, _ELAPSED_MIN_S), at_least=True)
        elif self._in_flight and elapsed_s < max(_INTERVAL_S, self.round_trip_s):
            return
        else:
            self._end_interval(now_s)
        self._begin(now_s)

    def _end_interval(self, now_s: float) -> None:
        elapsed_s = now_s - self._begun_s
        if elapsed_s >= _ELAPSED_MIN_S and self._bytes >= _SAMPLE_BYTES_MIN:
            self._note_bandwidth(self._bytes / elapsed_s)

    def ended(self) -> None:
        """One is no longer on its way."""
        self._in_flight = max(0, self._in_flight - 1)

    def cut(self) -> None:
        """The connection ended: nothing is on its way, and the next one may have another way."""
        self._in_flight = 0
        self._pauses.clear()
        self.round_trip_s = self._this_s = self._before_s = inf

    def _begin(self, now_s: float, *, from_idle: bool = False) -> None:
        self._begun_s, self._from_idle = now_s, from_idle
        self._bytes, self._queued = 0, False

    def _note_round_trip(self, now_s: float, round_trip_s: float) -> None:
        if now_s - self._period_from_s > _MEMORY_S:
            self._before_s, self._this_s, self._period_from_s = self._this_s, inf, now_s
        self._this_s = min(self._this_s, round_trip_s)
        self.round_trip_s = min(self._this_s, self._before_s)

    def _note_bandwidth(self, sample: float, *, at_least: bool = False) -> None:
        known = self.bandwidth_bytes_s
        if known is None:
            self.bandwidth_bytes_s = sample
        elif sample > known:
            self.bandwidth_bytes_s = min(sample, 2 * known)
        elif self._queued and not at_least:
            self.bandwidth_bytes_s = known + (sample - known) * _SETTLING
