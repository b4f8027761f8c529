"""One consumer: it takes records out, in batches that are acknowledged one by one.

Its state is a mark (everything up to it is acknowledged) and the ranges acknowledged beyond it, lane by
lane (`buffer.progress`).
"""

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

from buffer.blocks import Block
from buffer.errors import UnknownBatch
from buffer.identity import Identity
from buffer.lane_queries import count_lane, read_newest
from buffer.lanes import LANES
from buffer.log import Log
from buffer.progress import Progress, Span
from buffer.ranges import RangeSet

if TYPE_CHECKING:
    from buffer.segment import Position

_serials = count(1)


@dataclass(frozen=True, slots=True)
class Record:
    """One durable record."""

    seq: int
    document: dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """Records of one identity: what is sent, and what is acknowledged, as one.

    Between `first` and `last` there may be records that are not in it: of another lane, or taken before.
    Documents are parsed when `records` is first asked for, and not at all for `encoded`.
    """

    device_id: str
    store_id: str
    first: int
    last: int
    block: Block = field(repr=False, compare=False)
    serial: int = field(default=0, repr=False, compare=False)
    """Tells it from every other batch that was given in this process."""

    def __len__(self) -> int:
        return self.block.count

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The records, ascending. One that is no JSON object, though somebody had vouched for it, is left out."""
        return tuple([Record(*record) for record in self.block.records])

    @property
    def encoded(self) -> bytes:
        """All records as one compact JSON object, `{"<seq>":<document>,...}`: as stored, without parsing any."""
        return self.block.encoded

    def forget_parsed(self) -> None:
        """Hold the records as bytes only, a tenth of the memory; `records` parses them anew."""
        self.__dict__.pop("records", None)
        self.block.forget_parsed()


@dataclass(frozen=True, slots=True)
class Reach:
    """Which ids a consumer was to get, and how far it is."""

    begins: int
    """The lowest that there was when it was made."""
    since: int
    """The highest then."""
    absent: int
    """How many ids between the two had no record then, and are in no entry of the ledger."""
    settled: int
    """Up to here it has acknowledged everything, or it is in the ledger."""
    newest: int
    """The highest that is durable."""


@dataclass(slots=True)
class _Out:
    """A batch that is out."""

    span: Span
    count: int | None
    """How many records acknowledging it takes off the backlog; None when that has to be counted."""
    apart: set[int] = field(default_factory=set)
    """Ids in the span that are not in the batch: they came into its lane after it was taken."""
    along: set[int] = field(default_factory=set)
    """Ids of the batch that are in another lane by now."""

    def moved(self, record_ids: Collection[int], lane: str) -> None:
        """Records come into a lane from the other one."""
        if self.span.lanes == LANES:
            return
        inside = {each for each in record_ids if self.span.low <= each <= self.span.high}
        if self.span.lanes == (lane,):
            self.apart |= inside - self.along
        else:
            self.along |= inside - self.apart


class Consumer:
    """One reader of a log table. Thread-safe. Made by `BufferDB.consumer`.

    Attributes:
        name: Its name; its state is kept under it.
    """

    def __init__(self, name: str, log: Log, epochs: list[Identity], state: dict[str, Any]) -> None:
        self.name = name
        self._log = log
        self._epochs = epochs
        self._lock = threading.Lock()
        self.taking = threading.Lock()
        """Held while a batch is taken; taken before the locks of the log."""
        self._progress = Progress(state)
        self.floor: tuple[int, int] = (state["floor"][0], state["floor"][1])
        """Trailers up to this one were written without regard to this consumer."""
        self._origin = origin_of(state)
        self._out: dict[int, _Out] = {}
        self._positions: dict[tuple[str | None, bool], Position | None] = {}
        """Where reading goes on, by lane and by whether it began in the middle."""
        self.dirty = True
        """Its state is ahead of what is on disk."""
        self._backlog_lock = threading.Lock()
        self._backlog: int | None = None
        self._backlog_at = 0

    @property
    def mark(self) -> int:
        """Everything up to this id is acknowledged, or was never a record."""
        return self._progress.mark

    @property
    def reach(self) -> Reach:
        """Which ids it was to get, and how far it is. Of one that an older version made, only from its making on."""
        since = self._origin.get("since", self.floor[0] - 1)
        begins = self._origin.get("begins", since + 1)
        newest = self._log.durable_id
        return Reach(begins, since, self._origin.get("absent", 0), min(self.mark, newest), newest)

    # -- taking

    def take(
        self,
        n: int,
        max_bytes: int | None = None,
        *,
        newest: bool = False,
        lane: str | None = None,
        after: int = 0,
        upto: int | None = None,
    ) -> Batch | None:
        """Durable records that are neither acknowledged nor taken. None if there are none.

        Guarantees ascending order within the batch, and that no batch spans two identities.

        Args:
            n: At most so many records.
            max_bytes: At most so many bytes of stored JSON, though at least one record.
            newest: The newest that are free, instead of the oldest: after an outage, what is measured
                now need not wait for what was measured meanwhile.
            lane: Of this lane only, `alarm` or `normal`. Those between stay for others to take.
            after: Only ids beyond this one.
            upto: Only ids up to this one.

        Raises:
            DiskFault: The disk cannot be read.
            ValueError: There is no such lane.
        """
        while True:
            batch, paused = self.take_some(n, max_bytes, newest=newest, lane=lane, after=after, upto=upto)
            if not paused:
                return batch

    def take_some(
        self,
        n: int,
        max_bytes: int | None,
        *,
        newest: bool,
        lane: str | None,
        after: int = 0,
        upto: int | None = None,
    ) -> tuple[Batch | None, bool]:
        """As `take`, but it may pause on a long search: then the second value is true, and it goes on when called again.

        Raises:
            DiskFault, ValueError: As `take`.
        """
        assert n > 0
        lanes = _lanes(lane)
        with self.taking:
            while True:
                span = self._reserve(lanes, newest=newest, after=after, upto=upto)
                if span is None:
                    return None, False
                try:
                    found = self._read(span, n, max_bytes, newest=newest, inside=after > 0)
                except BaseException:
                    self._unreserve(span)
                    raise
                low, high = (found.reached, span.high) if newest else (span.low, found.reached)
                looked_at = Span(low, high, span.lanes)
                if found.count:
                    return self._give(span, looked_at, found), False
                with self._lock:
                    self._progress.give_back(span)
                    self._settle(looked_at)  # these ids are no records, or of no lane in question
                if found.paused:
                    return None, True

    def _read(self, span: Span, n: int, max_bytes: int | None, *, newest: bool, inside: bool) -> Block:
        lane = None if span.lanes == LANES else span.lanes[0]
        if newest:
            return read_newest(self._log, span.low, span.high, n, max_bytes, lane)
        place = lane, inside
        found = self._log.read(span.low, span.high, n, max_bytes, self._positions.get(place), lane)
        self._positions[place] = found.position
        return found

    def _give(self, reserved: Span, given: Span, found: Block) -> Batch:
        serial = next(_serials)
        with self._lock:
            self._progress.give_back(reserved)
            self._progress.take(given)
            self._out[serial] = _Out(given, found.count)
        epoch = self._epoch(found.first)
        return Batch(epoch.device_id, epoch.store_id, found.first, found.last, found, serial)

    def _reserve(self, lanes: tuple[str, ...], *, newest: bool, after: int, upto: int | None) -> Span | None:
        """Mark free ids of one identity as taken, so that nobody else takes them."""
        high = self._highest(upto)
        with self._lock:
            span = (self._progress.newest if newest else self._progress.oldest)(high, lanes, after)
            if span is None:
                return None
            at = span.high if newest else span.low
            begun = max([1, *(each.first_seq for each in self._epochs if each.first_seq <= at)])
            ends = [each.first_seq - 1 for each in self._epochs if each.first_seq > at]
            span = Span(max(span.low, begun) if newest else span.low, min([span.high, *ends]), span.lanes)
            self._progress.take(span)
            return span

    def _unreserve(self, span: Span) -> None:
        with self._lock:
            self._progress.give_back(span)

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
        with self._lock:
            out = self._out.pop(batch.serial, None)
            if out is None:  # repeated, or late: what was taken with it may be out in another one by now
                self._backlog = None
                for record in batch.records:
                    self._settle(Span(record.seq, record.seq))
                return
            self._progress.give_back(out.span)
            if out.count is None or self._progress.touches(out.span):
                self._backlog = None
            elif self._backlog is not None:
                self._backlog -= out.count
            self._settle(out.span, out.apart)
            for record_id in out.along:
                self._settle(Span(record_id, record_id))

    def release(self, batch: Batch) -> None:
        """The batch did not arrive: its records may be taken again. Harmless when repeated."""
        self._require_ours(batch)
        with self._lock:
            out = self._out.pop(batch.serial, None)
            if out is not None:
                self._progress.give_back(out.span)

    def _require_ours(self, batch: Batch) -> None:
        if (
            not 1 <= batch.first <= batch.last <= self._log.durable_id
            or self._epoch(batch.first).store_id != batch.store_id
        ):
            raise UnknownBatch(
                f"batch {batch.first} to {batch.last} of store {batch.store_id} is not from here"
            )

    def _settle(self, span: Span, apart: Collection[int] = ()) -> None:
        self._progress.settle(span, apart)
        assert self._progress.mark <= self._log.durable_id
        self.dirty = True

    # -- looking

    @property
    def taken(self) -> int:
        """How many batches are out, neither acknowledged nor released."""
        return len(self._out)

    @property
    def ready(self) -> bool:
        """Whether there may be something to take."""
        return self.ready_in()

    def ready_in(self, lane: str | None = None, after: int = 0, upto: int | None = None) -> bool:
        """Whether there may be something to take of a lane, beyond one id and up to another.

        Raises:
            ValueError: There is no such lane.
        """
        with self._lock:
            return self._progress.has_free(self._highest(upto), _lanes(lane), after)

    @property
    def newest_id(self) -> int:
        """The highest id that is durable; 0 when none is."""
        return self._log.durable_id

    def _highest(self, upto: int | None) -> int:
        return self._log.durable_id if upto is None else min(upto, self._log.durable_id)

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
            with self._log.lock:
                committed, durable = self._log.committed, self._log.durable_id
            with self._lock:
                parts = list(self._progress.open_parts(durable))
            total = sum(map(self._count_part, parts))
            with self._lock:
                if parts == list(self._progress.open_parts(durable)):
                    self._backlog, self._backlog_at = total, committed
                    return total, committed

    def _count_part(self, part: Span) -> int:
        if part.lanes == LANES:
            return self._log.count(part.low, part.high)
        return count_lane(self._log, part.low, part.high, part.lanes[0])

    def recount(self) -> None:
        """Records went without being acknowledged: count the backlog anew when it is asked for."""
        with self._lock:
            for out in self._out.values():
                out.count = None  # some of it may have gone
            self._backlog = None

    def done(self, lane: str) -> RangeSet:
        """All that is acknowledged of a lane, from the first id on."""
        with self._lock:
            return self._progress.done(lane)

    # -- changes of what is stored

    def moved(self, record_ids: Collection[int], lane: str) -> None:
        """Records come into a lane from another one; see `Progress.moved`."""
        with self._lock:
            self._progress.moved(record_ids, lane)
            for out in self._out.values():
                out.moved(record_ids, lane)
            self._backlog = None
            self.dirty = True

    def gone(self, runs: Iterable[tuple[int, int]]) -> None:
        """There is nothing more in these ids, in either lane; see `Consumers.gone`."""
        with self._lock:
            for low, high in runs:
                self._progress.settle(Span(low, high, LANES))
            self.dirty = True

    # -- state

    def state(self) -> dict[str, Any]:
        """What is to be durable of it."""
        with self._lock:
            self.dirty = False
            return {**self._progress.state(), **self._origin}


def origin_of(row: dict[str, Any]) -> dict[str, Any]:
    """What a consumer's row says for good: how things stood when it was made."""
    return {key: row[key] for key in ("floor", "since", "begins", "absent") if key in row}


def _lanes(lane: str | None) -> tuple[str, ...]:
    if lane is None:
        return LANES
    if lane not in LANES:
        raise ValueError(f"there is no lane {lane!r}; it is one of {', '.join(LANES)}")
    return (lane,)
