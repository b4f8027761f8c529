"""Readings on their way upstream get their final time: once, before they are first sent.

What was measured while the clock was right goes as it is. Everything else is looked up in the chronicle; a time
that is not final yet becomes so first, durably. Readings that an anchor of this boot would place better wait for it a while
after the link came back, since the network that brings the link brings the time, too. Who does not wait: alarms; and
live readings of a boot that has known the time, since counting on from there is good to milliseconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from collectors.enums import ClockQuality, Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.timekeeping.chronicle import Chronicle
    from agent.timekeeping.watch import ClockWatch
    from collectors.clock import Clock

SYNC_WAIT_S: Final = 60.0
"""How long after the link came back what was collected without it waits for the time."""
LIVE_S: Final = 10.0
"""A reading this young is live."""
_ESTIMATED: Final = ClockQuality.ESTIMATED.value
_IN_DOUBT: Final = f'"clock":"{_ESTIMATED}"'.encode()


@dataclass(frozen=True, slots=True)
class Corrected:
    """A record whose time is final."""

    seq: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """A moment whose time is not final yet."""

    boot: int
    up_ns: int
    raw_t: float


class Correction:
    """Gives records their final time.

    Args:
        chronicle: What is known about time.
        watch: Tells when the clock is synchronised.
        clock: Tells how old a reading of this boot is.
    """

    def __init__(self, chronicle: Chronicle, watch: ClockWatch, clock: Clock) -> None:
        self._chronicle = chronicle
        self._watch = watch
        self._clock = clock
        self._wait_until_s = 0.0

    def linked(self) -> None:
        """The link is back: from now on, what can get better times waits for them a while."""
        self._wait_until_s = self._clock.monotonic_s() + SYNC_WAIT_S

    def concerns(self, encoded: bytes) -> bool:
        """Whether records, as they are stored, may need another time: whether any says that its own is estimated."""
        return _IN_DOUBT in encoded

    async def apply(self, records: Sequence[Any]) -> Sequence[Any]:
        """The records (`seq`, `document`) with their final times; the same object when none needs one."""
        if not any(_in_doubt(record.document) for record in records):
            return records
        await self._await_synchronisation(records)
        # Whatever still may get a better time soon must not be given one along with what cannot wait.
        only_this = self._may_wait() and not self._watch.synchronised.is_set()
        while (unsettled := self._first_unsettled(records)) is not None:
            await self._chronicle.settle(
                unsettled.boot, unsettled.up_ns, unsettled.raw_t, only_this=only_this
            )
        await self._chronicle.written()  # another upstream may have made them final just now
        return [self._corrected(record) for record in records]

    async def _await_synchronisation(self, records: Sequence[Any]) -> None:
        """Wait for an anchor where one would help, as long as there is time for that."""
        if not self._may_wait() or self._watch.synchronised.is_set():
            return
        if not any(map(self._gains_by_waiting, records)):
            return
        try:
            async with asyncio.timeout(self._wait_until_s - self._clock.monotonic_s()):
                await self._watch.synchronised.wait()
        except TimeoutError:
            self._watch.may_come = False  # this network does not bring the time: nothing waits for it again

    def _may_wait(self) -> bool:
        return self._watch.may_come and self._clock.monotonic_s() < self._wait_until_s

    def _gains_by_waiting(self, record: Any) -> bool:
        document = record.document
        if not _in_doubt(document) or document.get("lane") == Lane.ALARM.value:
            return False
        boot, up_ns = document["boot"], document["up"]
        if self._chronicle.final(boot, up_ns) is not None:
            return False
        span = self._chronicle.propose(boot, up_ns, document["t"])
        is_live = boot == self._chronicle.boot and up_ns >= self._clock.boottime_ns() - LIVE_S * 1e9
        return span.provisional and (span.quality is ClockQuality.ESTIMATED or not is_live)

    def _first_unsettled(self, records: Sequence[Any]) -> _Unsettled | None:
        for record in records:
            document = record.document
            if _in_doubt(document) and self._chronicle.final(document["boot"], document["up"]) is None:
                return _Unsettled(document["boot"], document["up"], document["t"])
        return None

    def _corrected(self, record: Any) -> Any:
        document = record.document
        if not _in_doubt(document):
            return record
        up_ns = document["up"]
        span = self._chronicle.final(document["boot"], up_ns)
        assert span is not None
        corrected = {**document, "t": round(span.t(up_ns), 6), "clock": span.quality.value}
        error_s = span.error_at(up_ns)
        if error_s is not None:
            corrected["t_error"] = round(error_s, 3)
        return Corrected(record.seq, corrected)


def _in_doubt(document: dict[str, Any]) -> bool:
    """Whether a document's time was stamped by a clock that was not synchronised, and can be made better."""
    return document.get("clock") == _ESTIMATED and bool(document.get("boot")) and bool(document.get("up"))
