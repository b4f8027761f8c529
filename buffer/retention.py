"""What may go, and what must when it is full.

Delivered segments stay for local history and go first: by age, or as soon as room is needed.
Undelivered ones go only by the full policy, each loss entered in the ledger, durably, before it
happens. The dead letters have a bound of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from buffer.errors import DiskFault
from buffer.recovery import Loss
from buffer.segment import DamagedSegment

if TYPE_CHECKING:
    from buffer.consumers import Consumers
    from buffer.database import BufferDB
    from buffer.log import Log
    from buffer.segment import Segment

_ALARM: Final = b'"lane":"alarm"'


class Retention:
    """Keeps a buffer within its limits. Works on the committing thread only."""

    def __init__(self, db: BufferDB, readings: Log, consumers: Consumers) -> None:
        self._db = db
        self._readings = readings
        self._consumers = consumers
        self._options = db.options

    def commit(self, log: Log) -> None:
        """Commit all that waits in a log, making room first where a limit says so.

        Raises:
            DiskFault: The disk refused, or it is full and the policy is to block.
        """
        if log is not self._readings:
            more = True
            while more:
                more = log.commit_once()
                self._bound_dead_letters(log)
            return
        while True:
            if self._over() and log.flight() and not self._make_room(log):
                if self._options.full == "drop_newest":
                    self._drop_newest(log)
                    continue
                log.fault = "full: " + self._limit()
                raise DiskFault(log.fault)
            if not log.commit_once():
                return

    def trim(self) -> None:
        """Let go of delivered segments whose time is over.

        Raises:
            DiskFault: The disk refused.
        """
        now_s = self._options.clock.now().timestamp()
        while True:
            oldest = self._oldest_delivered()
            if oldest is None:
                return
            path = f"{self._readings.directory}/{oldest.name}"
            try:
                age_s = now_s - self._options.fs.modified_s(path)
            except OSError:
                return
            if age_s < self._options.keep_delivered_s:
                return
            self._drop(self._readings, oldest)

    # -- how much there is

    def _over(self) -> bool:
        options = self._options
        if (
            options.quota_bytes is not None
            and self._readings.disk_bytes + self._readings.flight_bytes > options.quota_bytes
        ):
            return True
        if options.reserve_bytes:
            try:
                free = options.fs.free_bytes(self._db.path)
            except OSError:
                return False  # writing will tell
            return free < options.reserve_bytes
        return False

    def _limit(self) -> str:
        options = self._options
        if options.quota_bytes is not None:
            return f"the quota of {options.quota_bytes:,} bytes is used up by readings not delivered yet"
        return f"less than {options.reserve_bytes:,} bytes are free on the disk"

    # -- making room

    def _make_room(self, log: Log) -> bool:
        """Unlink until there is room; False when nothing more may go."""
        while self._over():
            segment = self._oldest_delivered()
            if segment is None and self._options.full == "drop_oldest":
                segment = self._oldest(log)
                if segment is not None:
                    self._enter_loss(log, segment)
            if segment is None:
                return False
            self._drop(log, segment)
        return True

    def _oldest(self, log: Log) -> Segment | None:
        """The oldest segment, when it is not the last."""
        with log.lock:
            return log.segments[0] if len(log.segments) > 1 else None

    def _oldest_delivered(self) -> Segment | None:
        oldest = self._oldest(self._readings)
        if oldest is None or not self._consumers.names():
            return None
        return oldest if oldest.last <= self._consumers.lowest_mark() else None

    def _enter_loss(self, log: Log, segment: Segment) -> None:
        low = (
            max(segment.base, self._consumers.lowest_mark() + 1) if self._consumers.names() else segment.base
        )
        # Whatever keeps it from being read, it must go: then its own count has to do.
        try:
            count = log.count(low, segment.last)
            alarms = log.reader.raw(segment).count(_ALARM)
        except (DiskFault, DamagedSegment, OSError):
            count, alarms = segment.count, 0
        self._db.ledger.add(
            log.table, Loss(low, segment.last, count, "full: oldest dropped"), alarms=min(alarms, count)
        )

    def _drop(self, log: Log, segment: Segment) -> None:
        try:
            log.drop(segment)
        except OSError as error:
            raise DiskFault(f"{segment.name} cannot be removed: {error}") from error
        if log is self._readings:
            self._consumers.recount()

    def _drop_newest(self, log: Log) -> None:
        flight = log.flight()
        loss = Loss(flight[0][0], flight[-1][0], len(flight), "full: newest dropped")
        alarms = sum(_ALARM in document for _, document in flight)
        self._db.ledger.add(log.table, loss, alarms=alarms)
        log.skip_flight()

    def _bound_dead_letters(self, log: Log) -> None:
        if log.table != "dead_letters":
            return
        while log.disk_bytes > self._options.dead_letter_bytes_max:
            segment = self._oldest(log)
            if segment is None:
                return
            loss = Loss(segment.base, segment.last, segment.count, "dead letters full: oldest dropped")
            self._db.ledger.add(log.table, loss)
            self._drop(log, segment)
