"""What may go, and what must when it is full.

Delivered segments stay for local history and go first: by age, or as soon as room is needed. What is
not delivered goes only by `max_age_s` and by the policies, each loss entered in the ledger in the same
frame of the journal that decides on it, before anything is removed.

The lane of a record decides what becomes of it. Normal readings go before any alarm does: a segment
that has both is written anew with its alarms alone, and small neighbours of that kind become one file.

| what is over a limit | what happens |
| --- | --- |
| a delivered segment is left | it is unlinked |
| `drop_oldest` for normal readings | the oldest segment's go, its alarms stay |
| `drop_oldest` for alarms, and no normal reading is left that may go | the oldest segment's alarms go |
| otherwise | of what is to be written next, the lanes with a dropping policy are dropped; with `block` it waits |

Since records are kept in the order of their ids, one that waits holds up those behind it, of both lanes.

The dead letters have a bound of their own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

from buffer.ages import Ages
from buffer.consumers import CONSUMERS
from buffer.edit import DELETED, Edit
from buffer.errors import DiskFault
from buffer.lanes import ALARM, LANES, NORMAL, is_alarm
from buffer.ledger import Lost
from buffer.limits import Limits
from buffer.loss import Loss
from buffer.naming import DEAD_LETTERS
from buffer.ranges import RangeSet
from buffer.segment import DamagedSegment
from buffer.thinning import LiveRecord, live_records, salvaged_records, thin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffer.consumers import Consumers
    from buffer.database import BufferDB
    from buffer.journal import Journal
    from buffer.log import Log
    from buffer.options import BufferOptions
    from buffer.segment import Segment

_OLDEST: Final = "full: oldest dropped"
_NEWEST: Final = "full: newest dropped"


class Retention:
    """Keeps a buffer within its limits. Works on the committing thread only."""

    def __init__(self, db: BufferDB, readings: Log, consumers: Consumers, journal: Journal) -> None:
        self._db = db
        self._readings = readings
        self._consumers = consumers
        self._journal = journal
        self._options = db.options
        self._ages = Ages(db.options, readings)
        self.limits = Limits(db.options, db.path, readings)
        self._freed_bytes = 0
        """What was made free on a full disk since something could be written."""
        self._undecided = False
        """The ledger may have on disk, though the disk says it has not, that what waits was dropped."""

    def change(self, options: BufferOptions) -> None:
        """Go by other limits from now on; from any thread. What is being decided just then may still go by the old ones."""
        self._options = options
        self.limits.change(options)

    # -- committing

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
        more = True
        while more:
            if (
                self.limits.any
                and log.prepare_flight()
                and (limit := self.limits.over())
                and not self._make_room()
            ):
                if not self._drop_newest(log):
                    log.fault = f"full: {limit}"
                    raise DiskFault(log.fault)
                more = log.waits
                continue
            more = self._commit_once(log)

    def _commit_once(self, log: Log) -> bool:
        """Commit one frame; where there is no room on the disk at all, make some.

        Undelivered readings only as long as what became free is there: what somebody else takes is not to be made
        free for him again, and what a write that failed has taken is not known from that.
        """
        while True:
            try:
                more = log.commit_once()
            except DiskFault as fault:
                gone = self._freed_bytes and self.limits.free_bytes() < self._freed_bytes
                if not fault.full or (gone and not self._delivered()):
                    raise
                before = log.disk_bytes
                if not self._free_one():
                    raise
                self._freed_bytes += max(1, before - log.disk_bytes)
            else:
                self._freed_bytes = 0
                return more

    def settle(self) -> None:
        """Make sure that no decision to drop what waits stands, of which the disk said that it does not.

        Raises:
            DiskFault: The disk refused.
        """
        if self._undecided:
            self._journal.settle()
            self._undecided = False

    def _make_room(self) -> bool:
        """Let go until there is room; False when nothing more may go."""
        while self.limits.over():
            if not self._free_one():
                return False
        return True

    def _free_one(self) -> bool:
        """Let go of what is to go first; False when nothing may."""
        delivered = next(iter(self._delivered()), None)
        if delivered is not None:
            self._drop_delivered(delivered)
            return True
        if not self.limits.any:
            return False  # nobody asked for a limit: then a full disk is no reason to lose anything
        for lane in (NORMAL, ALARM):
            if self._options.policy(lane) == "drop_oldest" and self._free_oldest(lane):
                return True
        # There is no room for writing one lane of a segment anew.
        whole = all(self._options.policy(lane) == "drop_oldest" for lane in LANES)
        return whole and any(self._give_up(each, LANES, _OLDEST) for each in self._sealed())

    def _drop_newest(self, log: Log) -> bool:
        """Give up what is to be written next, of the lanes whose policy allows it; False when none does.

        Raises:
            DiskFault: The disk refused; all of it waits still.
        """
        flight = [(record_id, raw, ALARM if is_alarm(raw) else NORMAL) for record_id, raw in log.flight()]
        dropping = [lane for lane in LANES if self._options.policy(lane) != "block"]
        losses = []
        for lane in dropping:
            ids = [record_id for record_id, _, its in flight if its == lane]
            if ids:
                loss = Loss(ids[0], ids[-1], len(ids), _NEWEST)
                losses.append(Lost(log.table, loss, lane))
        if not losses:
            return False
        log.tidy()  # a write of them that failed may be on the disk all the same: such a file goes before they are told
        self._undecided = True
        self._db.ledger.add_all(losses)
        self._undecided = False
        log.keep_of_flight([(record_id, raw) for record_id, raw, lane in flight if lane not in dropping])
        return True

    # -- what goes by itself

    def trim(self) -> None:
        """Let go of what is too old: delivered segments, and undelivered ones where there is a maximum age.

        Raises:
            DiskFault: The disk refused.
        """
        for segment in self._delivered():
            if (
                not self._ages.over(segment, self._options.keep_delivered_s)
                and not self.limits.short_of_reserve()
            ):
                break
            self._drop_delivered(segment)
        max_age_s = self._options.max_age_s
        if max_age_s is None:
            return
        self._ages.roll(max_age_s)
        for segment in self._sealed():
            if self._ages.surely_over(segment, max_age_s):
                self._give_up(segment, LANES, "too old")

    def _delivered(self) -> list[Segment]:
        """Sealed segments that nobody needs any more, oldest first."""
        done = self._consumers.done_in_all_lanes()
        deleted = self._readings.deleted
        return [
            each
            for each in self._sealed()
            if done.covers(each.base, each.last)
            or (deleted and deleted.count_within(each.base, each.last) == each.count)
        ]

    def delivered_bytes(self) -> int:
        """What segments take that nobody needs any more."""
        return sum(max(0, segment.size) for segment in self._delivered())

    def _sealed(self) -> list[Segment]:
        """All segments but the last, which carries the high-water mark. One that failed before may not be sealed yet."""
        with self._readings.lock:
            return self._readings.segments[:-1]

    # -- giving up

    def _free_oldest(self, lane: str) -> bool:
        """Give up the oldest readings of a lane that are in a sealed segment; False when there are none.

        When the disk has no room for writing the alarms among them anew, a segment without any goes instead.
        """
        done = self._consumers.done(lane)
        no_room = False
        for segment in self._sealed():
            if done.covers(segment.base, segment.last) or not _may_have(segment, lane):
                continue
            try:
                if self._give_up(segment, (lane,), _OLDEST, unlink_only=no_room):
                    return True
            except DiskFault as fault:
                if no_room or not fault.full:
                    raise
                no_room = True
        return False

    def _give_up(
        self, segment: Segment, lanes: Sequence[str], why: str, *, unlink_only: bool = False
    ) -> bool:
        """Let the undelivered readings of some lanes go from a segment; False when it has none.

        Raises:
            DiskFault: The disk refused; nothing happened, or it will have at the next opening.
        """
        log = self._readings
        with log.io:
            Edit(log, self._journal, self._options.fs).carry_out()  # what an earlier change left undone
            if segment not in log.segments:
                return False
            try:
                records = live_records(log, segment)
            except FileNotFoundError as error:
                log.mend(segment, error)
                return True
            except (DamagedSegment, OSError) as error:
                self._give_up_damaged(segment, why, error)
                return True
            losses = self._losses(segment, records, lanes, why)
            if not losses:
                return False
            owed = [record for record in records if record.lane not in lanes and self._is_owed(record)]
            thins = (
                segment.sealed is not None and not unlink_only
            )  # one that failed is first written anew as it is
            if not owed:
                self._give_up_file(log, segment, records, losses)
            elif thins:
                thin(self._db, log, segment, owed, losses)
                self._consumers.recount()
            return thins or not owed

    def _is_owed(self, record: LiveRecord) -> bool:
        return record.id not in self._consumers.done(record.lane)

    def _losses(
        self, segment: Segment, records: Sequence[LiveRecord], lanes: Sequence[str], why: str
    ) -> list[Lost]:
        """What giving up some lanes of a segment costs: as much as not everybody has."""
        losses = []
        for lane in lanes:
            ids = [record.id for record in records if record.lane == lane]
            done_by = self._consumers.done_by(lane)
            for low, high in self._consumers.done(lane).missing_within(segment.base, segment.last):
                lost = ids[bisect_left(ids, low) : bisect_right(ids, high)]
                if lost:
                    of = {name: sum(each not in done for each in lost) for name, done in done_by.items()}
                    losses.append(Lost(self._readings.table, Loss(low, high, len(lost), why), lane, of))
        return losses

    def _give_up_file(
        self, log: Log, segment: Segment, records: Sequence[LiveRecord], losses: Sequence[Lost]
    ) -> None:
        """Enter what is lost with a file, and hide what is in it, in one step; then unlink it.

        That nobody waits for anything else in it becomes durable in that step, too: else a crash would
        make what was delivered, and what are no records, missing ones.
        """
        with log.io:
            tombstones, rest = RangeSet(log.deleted), RangeSet([(segment.base, segment.last)])
            for record in records:
                tombstones.add(record.id, record.id)
                if self._is_owed(record):
                    rest.discard(record.id, record.id)
            states = self._consumers.gone(rest)
            with self._db.ledger.entering(losses) as rows:
                told = [(CONSUMERS, name, state) for name, state in states.items()]
                self._journal.put([*rows, *told, (DELETED, log.table, list(tombstones))])
            self._consumers.written(states)
            with log.lock:
                log.deleted = tombstones
                log.version += 1
            self._drop(log, segment)

    def _give_up_damaged(self, segment: Segment, why: str, error: DamagedSegment | OSError) -> None:
        """A damaged file is written anew, and looked at again; where there is no room for that, it goes at once.

        Raises:
            DiskFault: It cannot be read, or the disk refuses.
        """
        log = self._readings
        try:
            log.mend(segment, error)
        except DiskFault as fault:
            if not fault.full:
                raise
            try:
                records = salvaged_records(log, segment)
            except OSError as refused:
                raise DiskFault(f"{segment.name} cannot be read: {refused}") from refused
            self._give_up_file(log, segment, records, self._losses(segment, records, LANES, why))

    def _drop_delivered(self, segment: Segment) -> None:
        """Let go of a segment that nobody needs; it stays where that turns out to be wrong."""
        log = self._readings
        with log.io:
            if segment not in log.segments:
                return
            if self._consumers.done_in_all_lanes().covers(segment.base, segment.last):
                self._consumers.remember(segment.base, segment.last)  # else it would be missed after a crash
            elif not self._forget_deleted(segment):
                return
            self._drop(log, segment)

    def _forget_deleted(self, segment: Segment) -> bool:
        """Nobody waits for anything in a segment of which all was deleted: so much is durable when this returns.

        False when there is something in it after all.
        """
        log = self._readings
        try:
            if log.forget_strays(segment):
                return False
        except (DamagedSegment, OSError) as error:
            log.mend(segment, error)
            return False
        rows = self._consumers.gone(RangeSet([(segment.base, segment.last)]))
        if rows:
            self._journal.put([(CONSUMERS, name, row) for name, row in rows.items()])
            self._consumers.written(rows)
        return True

    def _drop(self, log: Log, segment: Segment) -> None:
        try:
            log.drop(segment)
        except OSError as error:
            raise DiskFault(f"{segment.name} cannot be removed: {error}") from error
        if log is self._readings:
            self._consumers.recount()

    def _bound_dead_letters(self, log: Log) -> None:
        if log.table != DEAD_LETTERS:
            return
        while log.disk_bytes > self._options.dead_letter_bytes_max:
            with log.lock:
                if len(log.segments) < 2:  # noqa: PLR2004 (the last one stays)
                    return
                segment = log.segments[0]
            count = segment.count - log.deleted.count_within(segment.base, segment.last)
            if count:
                loss = Loss(segment.base, segment.last, count, "dead letters full: oldest dropped")
                self._db.ledger.add(log.table, loss, once=True)
            self._drop(log, segment)


def _may_have(segment: Segment, lane: str) -> bool:
    """Whether a segment may have records of a lane, as far as is known without reading it."""
    if segment.alarms is None:
        return True
    return segment.alarms.count > 0 if lane == ALARM else segment.alarms.count < segment.count
