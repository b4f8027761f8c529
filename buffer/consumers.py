"""Consumers: who takes records out, in batches that are acknowledged one by one.

A consumer's state is a mark (everything up to it is acknowledged) and the ranges acknowledged
beyond it. It lives in a small durable table that is written lazily; the lowest mark of all
consumers also rides in every trailer, so that the usual single consumer loses nothing by that.
What is lost of it costs duplicates, never readings: the state on disk is never ahead of what was
acknowledged.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from buffer.errors import UnknownBatch
from buffer.identity import Identity
from buffer.journal import SmallTable
from buffer.log import Log
from buffer.ranges import RangeSet
from buffer.recovery import Recovered

if TYPE_CHECKING:
    from buffer.segment import Position

_RANGES_MAX: Final = 1_000
"""How many ranges beyond the mark are kept durable; the rest would only cost duplicates."""


@dataclass(frozen=True, slots=True)
class Record:
    """One durable record."""

    seq: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one identity: what is sent, and what is acknowledged, as one."""

    device_id: str
    store_id: str
    first: int
    last: int
    records: tuple[Record, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.records)


class Consumer:
    """One reader of a log table. Thread-safe. Made by `BufferDB.consumer`.

    Attributes:
        name: Its name; its state is kept under it.
        mark: Everything up to this id is acknowledged, or was never a record.
    """

    def __init__(self, name: str, log: Log, epochs: list[Identity], state: dict[str, Any]) -> None:
        self.name = name
        self._log = log
        self._epochs = epochs
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self.mark: int = state["mark"]
        self.floor: tuple[int, int] = (state["floor"][0], state["floor"][1])
        """Trailers up to this one were written without regard to this consumer."""
        self._acked = RangeSet((low, high) for low, high in state["ranges"])
        self._acked.discard(0, self.mark)  # a trailer may be ahead of the row
        self._taken = RangeSet()
        self._covers: dict[tuple[int, int], tuple[int, int]] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._position: Position | None = None
        self.dirty = False
        """Its state is ahead of what is on disk."""
        self._backlog_lock = threading.Lock()
        self._backlog: int | None = None
        self._backlog_at = 0
        self._advance()

    # -- taking

    def take(self, n: int, max_bytes: int | None = None) -> Batch | None:
        """The oldest records that are durable, and neither acknowledged nor taken. None if there are none.

        Guarantees ascending order within the batch, and that no batch spans two identities.

        Args:
            n: At most so many records.
            max_bytes: At most so many bytes of stored JSON, though at least one record.

        Raises:
            DiskFault: The disk cannot be read.
        """
        assert n > 0
        with self._taking:
            low = self.mark + 1
            while True:
                span = self._reserve(low)
                if span is None:
                    return None
                low, high = span
                try:
                    found = self._log.read(low, high, n, max_bytes, self._position)
                except BaseException:
                    self._unreserve(low, high)
                    raise
                self._position = found.position
                if found.records:
                    return self._give(low, high, found.records, complete=found.complete)
                with self._lock:
                    self._taken.discard(low, high)
                    if found.complete:  # these ids are no records
                        self._acked.add(low, high)
                        self._advance()
                low = high + 1 if found.complete else low

    def _give(
        self, low: int, high: int, records: list[tuple[int, dict[str, Any]]], *, complete: bool
    ) -> Batch:
        first, last = records[0][0], records[-1][0]
        upto = high if complete else last
        with self._lock:
            self._taken.discard(upto + 1, high)
            self._covers[first, last] = (low, upto)
            self._counts[first, last] = len(records)
        epoch = self._epoch(first)
        return Batch(
            epoch.device_id, epoch.store_id, first, last, tuple([Record(*record) for record in records])
        )

    def _reserve(self, low: int) -> tuple[int, int] | None:
        """Mark the next free ids of one identity as taken, so that nobody else takes them."""
        durable = self._log.durable_id
        with self._lock:
            low = max(low, self.mark + 1)
            while True:
                start = low
                low = self._taken.first_missing(self._acked.first_missing(low))
                if low == start:
                    break
            if low > durable:
                return None
            bounds = [durable]
            for ranges in (self._acked, self._taken):
                following = ranges.next_low(low)
                if following is not None:
                    bounds.append(following - 1)
            bounds += [epoch.first_seq - 1 for epoch in self._epochs if epoch.first_seq > low]
            high = min(bounds)
            self._taken.add(low, high)
            return low, high

    def _unreserve(self, low: int, high: int) -> None:
        with self._lock:
            self._taken.discard(low, high)

    def _epoch(self, record_id: int) -> Identity:
        return [each for each in self._epochs if each.first_seq <= record_id][-1]

    # -- giving back

    def ack(self, batch: Batch) -> None:
        """The batch arrived: its records, exactly those, are never taken again. Harmless when repeated.

        Durable a little later; losing that costs a second delivery.

        Raises:
            UnknownBatch: The batch is of another store, or names ids that are not durable.
        """
        self._require_ours(batch)
        key = (batch.first, batch.last)
        with self._lock:
            low, high = self._covers.pop(key, key)
            known = self._counts.pop(key, None)
            self._taken.discard(low, high)
            if known is None or next(self._acked.within(low, high), None) is not None:
                self._forget_backlog()
            elif self._backlog is not None:
                self._backlog -= known
            self._acked.add(max(low, self.mark + 1), high)
            self._advance()

    def release(self, batch: Batch) -> None:
        """The batch did not arrive: its records may be taken again. Harmless when repeated."""
        self._require_ours(batch)
        key = (batch.first, batch.last)
        with self._lock:
            covered = self._covers.pop(key, None)
            self._counts.pop(key, None)
            if covered is not None:
                self._taken.discard(*covered)

    def _require_ours(self, batch: Batch) -> None:
        if (
            not 1 <= batch.first <= batch.last <= self._log.durable_id
            or self._epoch(batch.first).store_id != batch.store_id
        ):
            raise UnknownBatch(
                f"batch {batch.first} to {batch.last} of store {batch.store_id} is not from here"
            )

    def _advance(self) -> None:
        mark = self._acked.first_missing(self.mark + 1) - 1
        if mark > self.mark:
            assert mark <= self._log.durable_id
            self._acked.discard(0, mark)
            self.mark = mark
        self.dirty = True

    # -- looking

    @property
    def taken(self) -> int:
        """How many batches are out, neither acknowledged nor released."""
        return len(self._covers)

    @property
    def ready(self) -> bool:
        """Whether there may be something to take."""
        low = self.mark + 1
        with self._lock:
            while True:
                start = low
                low = self._taken.first_missing(self._acked.first_missing(low))
                if low == start:
                    return low <= self._log.durable_id

    @property
    def backlog(self) -> int:
        """How many durable records it has not acknowledged. Counts files the first time."""
        with self._backlog_lock:
            with self._lock:
                known, at = self._backlog, self._backlog_at
            if known is None:
                known, at = self._count()
            return known + self._log.committed - at

    def _count(self) -> tuple[int, int]:
        """Count anew, until nothing is acknowledged or committed while counting."""
        while True:
            with self._lock:
                mark, ranges = self.mark, list(self._acked)
            with self._log.lock:
                committed, durable = self._log.committed, self._log.durable_id
            total = self._log.count(mark + 1, durable)
            total -= sum(self._log.count(low, high) for low, high in ranges)
            with self._lock:
                if (mark, ranges) == (self.mark, list(self._acked)):
                    self._backlog, self._backlog_at = total, committed
                    return total, committed

    def _forget_backlog(self) -> None:
        self._backlog = None

    def recount(self) -> None:
        """Records went without being acknowledged: count the backlog anew when it is asked for."""
        with self._lock:
            self._counts.clear()  # of what is out, some may have gone: acknowledging it counts anew, too
            self._forget_backlog()

    # -- state

    def state(self) -> dict[str, Any]:
        """What is to be durable of it."""
        with self._lock:
            self.dirty = False
            return {
                "mark": self.mark,
                "ranges": list(self._acked)[:_RANGES_MAX],
                "floor": list(self.floor),
            }


class Consumers:
    """All consumers of one log, and their state on disk."""

    def __init__(self, log: Callable[[], Log], table: SmallTable, epochs: list[Identity]) -> None:
        self._log = log
        self._table = table
        self._epochs = epochs
        self._open: dict[str, Consumer] = {}
        self._closed_marks: dict[str, int] = {}
        self._rows: dict[str, dict[str, Any]] = dict(table.items())

    def recovered(self, found: Recovered) -> None:
        """Take in what the newest trailer says: all consumers it knew have acknowledged up to there."""
        for row in self._rows.values():
            if found.cursor_at > (row["floor"][0], row["floor"][1]):
                row["mark"] = max(row["mark"], found.cursor)
        self._closed_marks = {name: row["mark"] for name, row in self._rows.items()}

    def get(self, name: str) -> Consumer:
        """The consumer of this name; a new one begins with the oldest record there is.

        Raises:
            DiskFault: A new one cannot be made durable.
        """
        consumer = self._open.get(name)
        if consumer is not None:
            return consumer
        log = self._log()
        with log.io:  # no trailer is being written that does not know of it
            row = self._rows.get(name)
            if row is None:
                row = {"mark": 0, "ranges": [], "floor": list(log.active_at)}
                # First here: should the disk refuse, the row may be on it all the same, and trailers
                # from now on must not claim more than this consumer has acknowledged.
                self._closed_marks[name] = 0
                self._table.put(name, row)
                self._rows[name] = row
            return self._open.setdefault(name, Consumer(name, log, self._epochs, row))

    def names(self) -> list[str]:
        """All consumers there ever were and that were not forgotten."""
        return list(self._rows)

    def forget(self, name: str) -> None:
        """Remove a consumer for good: nothing is kept for it any more. Fine when there is none.

        Raises:
            DiskFault: The disk refused; it is still there.
        """
        self._table.remove(name)
        self._rows.pop(name, None)
        self._open.pop(name, None)
        self._closed_marks.pop(name, None)

    def lowest_mark(self) -> int:
        """Up to which id all have acknowledged; 0 without consumers."""
        marks = dict(self._closed_marks)
        marks.update({name: consumer.mark for name, consumer in list(self._open.items())})
        return min(marks.values(), default=0)

    def persist(self) -> None:
        """Write what changed.

        Raises:
            DiskFault: The disk refused; it is tried again the next time.
        """
        changed = [consumer for consumer in self._open.values() if consumer.dirty]
        if not changed:
            return
        try:
            self._table.put_all({consumer.name: consumer.state() for consumer in changed})
        except BaseException:
            for consumer in changed:
                consumer.dirty = True
            raise

    def recount(self) -> None:
        """Records went without being acknowledged."""
        for consumer in list(self._open.values()):
            consumer.recount()
