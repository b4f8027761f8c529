"""What a buffer has promised, and whether it keeps it.

A workload tells events, each before or after the call that it speaks of, so that a crash at any
moment finds the promises as they stood. `check` holds an opened buffer to them. Events are lists of
JSON values, so that another process can tell them, too:

    offered TABLE FIRST DOCUMENTS     these are about to get ids from FIRST up
    durable TABLE UPTO                all offered up to this id were reported durable
    editing TABLE MARK IDS            MARK is about to be added to these records; all or none
    edited TABLE MARK                 it was
    removing TABLE IDS                these are about to go; all or none
    removed TABLE IDS                 they did
    registered NAME                   this consumer is durable
    taken STORE_ID IDS                these left the device under this identity
    acked NAME IDS                    these are about to be acknowledged
    settled                           all acknowledgements of the present life are durable
    putting KEY VALUE                 a row of a small table is about to be set
    put KEY                           it was
    rotten TABLE IDS                  one frame, with these records, is about to be damaged
    ended                             the process is no more
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tinydb import Storage, TinyDB

from buffer.ranges import RangeSet
from buffer.segment import DamagedSegment, split_lines

if TYPE_CHECKING:
    from buffer import Batch, BufferDB
    from buffer.filesystem import FileSystem

Event = list[Any]
READINGS = "readings"
FULL = {"full: oldest dropped", "full: newest dropped", "too old"}
REMOVED = "removed"
TORN = "damaged or torn at the end"
NEVER = "never issued"
FAR = 1 << 22
"""Ids so far ahead were given out while the disk took nothing: nothing on it can say so."""

_MARKS = re.compile(rb',"e":\[([\d,]*)\]\}$')


def marked(document: bytes, marks: list[int]) -> bytes:
    """A document as it is stored after edits."""
    if not marks:
        return document
    return document[:-1] + b',"e":[%b]}' % b",".join(b"%d" % mark for mark in marks)


def marks_of(stored: bytes) -> list[int]:
    """Which edits a stored document shows."""
    found = _MARKS.search(stored)
    return [int(each) for each in found.group(1).split(b",")] if found else []


@dataclass
class Doubt:
    """A change of several records of which nobody knows whether it happened; all or none, though."""

    ids: frozenset[int]
    mark: int | None
    """None: a removal."""


@dataclass
class TablePromises:
    """Those about the records of one table."""

    given: dict[int, bytes] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    """Given out in the present life, not known to be durable."""
    durable: set[int] = field(default_factory=set)
    void: set[int] = field(default_factory=set)
    """Not there at an opening: they must not turn up later."""
    gone: set[int] = field(default_factory=set)
    marks: dict[int, list[int]] = field(default_factory=dict)
    doubts: list[Doubt] = field(default_factory=list)
    rotten: list[frozenset[int]] = field(default_factory=list)

    def alive(self) -> list[int]:
        """Ids that are durable, and not removed as far as is known."""
        doubtful = {each for doubt in self.doubts if doubt.mark is None for each in doubt.ids}
        return sorted(self.durable - self.gone - doubtful)

    # -- what is told

    def offered(self, first: int, documents: list[str]) -> None:
        for record_id, document in enumerate(documents, first):
            assert record_id not in self.given, f"id {record_id} was given out twice"
            self.given[record_id] = document.encode()
            self.waiting.add(record_id)

    def became_durable(self, upto: int) -> None:
        now = {each for each in self.waiting if each <= upto}
        self.durable |= now
        self.waiting -= now

    def edited(self, mark: int) -> None:
        (doubt,) = (each for each in self.doubts if each.mark == mark)
        self._decide(doubt, happened=True)

    def removed(self, ids: list[int]) -> None:
        for doubt in [each for each in self.doubts if each.mark is None and each.ids == frozenset(ids)]:
            self._decide(doubt, happened=True)

    def _decide(self, doubt: Doubt, *, happened: bool) -> None:
        self.doubts.remove(doubt)
        if not happened:
            return
        if doubt.mark is None:
            self.gone |= doubt.ids
        else:
            for each in doubt.ids:
                self.marks[each] = sorted([*self.marks.get(each, []), doubt.mark])

    # -- what is held against it

    def check(self, present: dict[int, bytes], excused: set[int]) -> None:
        """Present is right, and what is missing may be.

        Args:
            present: What there is, by id.
            excused: Of what is missing, what a policy let go.
        """
        assert present.keys() <= self.given.keys(), f"never given out: {present.keys() - self.given.keys()}"
        assert not present.keys() & self.void, f"back again: {sorted(present.keys() & self.void)[:5]}"
        assert not present.keys() & self.gone, f"removed: {sorted(present.keys() & self.gone)[:5]}"
        for record_id, stored in present.items():
            if stored != self.given[record_id] or record_id in self.marks:
                self._check_marked(record_id, stored)
        for doubt in self.doubts:
            seen = {self._shows(doubt, each, present) for each in doubt.ids & self.durable - excused}
            assert len(seen - {None}) <= 1, f"half of a change: {doubt}"
        hit = {each for frame in self.rotten for each in frame}
        doubtful = {each for doubt in self.doubts if doubt.mark is None for each in doubt.ids}
        lost = self.durable - self.gone - present.keys() - excused - hit - doubtful
        assert not lost, f"lost: {sorted(lost)[:10]}"

    def _check_marked(self, record_id: int, stored: bytes) -> None:
        marks = marks_of(stored)
        assert stored == marked(self.given[record_id], marks), f"{record_id}: {stored!r}"
        assert all(a < b for a, b in pairwise(marks)), f"{record_id}: edits out of order: {marks}"
        sure = set(self.marks.get(record_id, []))
        possible = sure | {d.mark for d in self.doubts if d.mark is not None and record_id in d.ids}
        assert sure <= set(marks) <= possible, f"{record_id}: edits {marks}, told {sorted(sure)}"

    def _shows(self, doubt: Doubt, record_id: int, present: dict[int, bytes]) -> bool | None:
        """Whether a record shows that a change happened; None when it cannot say."""
        if any(record_id in frame for frame in self.rotten):
            return None
        if doubt.mark is None:
            overlapping = any(d is not doubt and d.mark is None and record_id in d.ids for d in self.doubts)
            return None if overlapping or record_id in self.gone else record_id not in present
        return doubt.mark in marks_of(present[record_id]) if record_id in present else None

    def settle(self, present: dict[int, bytes]) -> None:
        """What an opening found stays so."""
        for doubt in list(self.doubts):
            shown = {self._shows(doubt, each, present) for each in doubt.ids}
            gone = not doubt.ids & present.keys()
            self._decide(doubt, happened=gone if doubt.mark is None else True in shown)
        self.durable |= present.keys()
        self.waiting.clear()
        self.void |= self.given.keys() - present.keys()
        self.durable -= {each for frame in self.rotten for each in frame} - present.keys()
        self.rotten.clear()


@dataclass
class ConsumerPromises:
    """Those about one consumer."""

    since: int
    """The highest durable id when it was registered: what went before that was nothing to it."""
    acked: set[int] = field(default_factory=set)
    lately: set[int] = field(default_factory=set)
    """Acknowledged in the present life, perhaps in memory only."""
    settled: set[int] = field(default_factory=set)


class Promises:
    """All that a buffer has promised so far."""

    def __init__(self) -> None:
        self.tables: dict[str, TablePromises] = {}
        self.consumers: dict[str, ConsumerPromises] = {}
        self.keys: dict[int, str] = {}
        """Under which store id a record left the device."""
        self.rows: dict[str, list[Any]] = {}
        """What a row may be: the last value that was reported durable, and those tried since."""

        self._numbers = 0

    def next_number(self) -> int:
        """One that nothing has yet: for what is stored, and for marks, which ascend."""
        self._numbers += 1
        return self._numbers

    def copy(self) -> Promises:
        """One that goes its own way."""
        return copy.deepcopy(self)

    def table(self, name: str) -> TablePromises:
        """Those about a table."""
        return self.tables.setdefault(name, TablePromises())

    # -- what is told

    def tell(self, event: Event) -> None:
        """Take in what happened."""
        kind, *details = event
        getattr(self, f"_{kind}")(*details)

    def _offered(self, table: str, first: int, documents: list[str]) -> None:
        self.table(table).offered(first, documents)

    def _durable(self, table: str, upto: int) -> None:
        self.table(table).became_durable(upto)

    def _editing(self, table: str, mark: int, ids: list[int]) -> None:
        self.table(table).doubts.append(Doubt(frozenset(ids), mark))

    def _edited(self, table: str, mark: int) -> None:
        self.table(table).edited(mark)

    def _removing(self, table: str, ids: list[int]) -> None:
        self.table(table).doubts.append(Doubt(frozenset(ids), None))

    def _removed(self, table: str, ids: list[int]) -> None:
        self.table(table).removed(ids)

    def _rotten(self, table: str, ids: list[int]) -> None:
        self.table(table).rotten.append(frozenset(ids))

    def _putting(self, key: str, value: Any) -> None:
        self.rows.setdefault(key, [None]).append(value)

    def _put(self, key: str) -> None:
        self.rows[key] = self.rows[key][-1:]

    def _registered(self, name: str) -> None:
        since = max(self.table(READINGS).durable, default=0)
        self.consumers.setdefault(name, ConsumerPromises(since))

    def _taken(self, store_id: str, ids: list[int]) -> None:
        for each in ids:
            assert self.keys.setdefault(each, store_id) == store_id, f"{each} has two keys"

    def _acked(self, name: str, ids: list[int]) -> None:
        self.consumers[name].acked.update(ids)
        self.consumers[name].lately.update(ids)

    def _settled(self) -> None:
        for each in self.consumers.values():
            each.settled |= each.lately

    def _ended(self) -> None:
        for table in self.tables.values():
            table.waiting.clear()
        for consumer in self.consumers.values():
            consumer.lately.clear()

    # -- checking

    def check(self, db: BufferDB) -> dict[str, dict[int, bytes]]:
        """Hold an opened buffer to all promises; gives what it has, by table and id.

        Nothing is written to it but what it writes by itself, and the disk must not fail.
        """
        every = {name: stored(db, name) for name in self.tables}
        db.flush()  # what reading found damaged is in the ledger now
        for name, present in every.items():
            excused = self._excused(db, name, present)
            self.tables[name].check(present, excused)
            self._check_ledger(db, name, present)
            highest = max(self.tables[name].durable | present.keys(), default=0)
            assert db.durable_id(name) >= highest
            following = db.log(name).next_id
            again = [each for each in self.tables[name].given if following <= each < following + FAR // 2]
            assert not again, f"ids would be given out again: {again[:5]}"
            assert db.log(name).durable_total() == len(present)
            self._check_gaps(db, name, present)
        for name in self.consumers:
            self._check_consumer(db, name, every.get(READINGS, {}))
        for key, possible in self.rows.items():
            assert db.small_table("device_state").get(key) in possible, key
        check_files(db.options.fs, db.path)
        return every

    def settle(self, every: dict[str, dict[int, bytes]]) -> None:
        """What an opening that was checked has, it keeps: the promises grow by that."""
        for name, present in every.items():
            self.tables[name].settle(present)

    def settle_rows(self, db: BufferDB) -> None:
        """Likewise the small tables."""
        for key in self.rows:
            self.rows[key] = [db.small_table("device_state").get(key)]

    def _excused(self, db: BufferDB, name: str, present: dict[int, bytes]) -> set[int]:
        """Of what is missing, what may have been let go: delivered to all, or dropped and told."""
        table = self.tables[name]
        missing = table.durable - table.gone - present.keys()
        if not missing:
            return missing
        told = entries(db, name)
        excused = {
            each
            for each in missing
            if any(entry["why"] in FULL and covers(entry, each, lane_of(table.given[each])) for entry in told)
        }
        if name == READINGS and self.consumers:
            consumers = self.consumers.values()
            excused |= {
                each
                for each in missing
                if any(each in consumer.acked for consumer in consumers)
                and all(each in consumer.acked or each <= consumer.since for consumer in consumers)
            }
        for frame in table.rotten:
            silent = {
                each
                for each in frame & missing - excused
                if not any(covers(entry, each, lane_of(table.given[each])) for entry in told)
            }
            assert not silent, f"damaged, and not in the ledger: {sorted(silent)[:5]}"
        return excused

    def _check_ledger(self, db: BufferDB, name: str, present: dict[int, bytes]) -> None:
        """The ledger says nothing that is not so, and nothing twice."""
        table = self.tables[name]
        hit = {each for frame in table.rotten for each in frame}
        doubtful = {each for doubt in table.doubts if doubt.mark is None for each in doubt.ids}
        counted = dropped_count = 0
        dropped: set[int] = set()
        for entry in entries(db, name):
            assert entry["first"] <= entry["last"], entry
            ids = {each for each in table.given if covers(entry, each, lane_of(table.given[each]))}
            assert entry["count"] <= len(ids), entry
            if entry["why"] == REMOVED:  # several runs of ids may be told as one
                assert ids & (table.gone | doubtful | table.void), entry
                continue
            assert not ids & present.keys(), f"the ledger says lost, but is there: {entry}"
            counted += entry["count"]
            durable = ids & table.durable - table.gone - hit
            if entry["why"] in FULL:  # ranges may overlap, counts do not
                dropped |= {each for each in durable - doubtful if not self._delivered(name, each)}
                dropped_count += entry["count"]
            elif entry["why"] in {NEVER, TORN}:
                assert not durable, f"{sorted(durable)[:5]} were durable: {entry}"
                assert entry["why"] == TORN or not entry["count"], entry
            else:
                assert entry["why"] == "damaged", entry
                assert not durable - table.void, f"{sorted(durable)[:5]} were not damaged: {entry}"
        assert len(dropped) <= dropped_count, "more was dropped than the ledger counts"
        assert counted <= len(table.given.keys() - present.keys()), "something is in the ledger twice"

    def _delivered(self, name: str, record_id: int) -> bool:
        return name == READINGS and any(record_id in each.acked for each in self.consumers.values())

    def _check_gaps(self, db: BufferDB, name: str, present: dict[int, bytes]) -> None:
        """Each id that was passed is stored, removed, delivered, or in the ledger."""
        table = self.tables[name]
        explained = RangeSet()
        for entry in entries(db, name):
            explained.add(entry["first"], entry["last"])
        known = present.keys() | table.durable | table.gone | {e for d in table.doubts for e in d.ids}
        if (
            name == READINGS
        ):  # also what nobody was told is durable: its commit had failed, but it was found on the disk
            known |= {e for each in self.consumers.values() for e in each.acked}
        for first, last in runs(known):
            explained.add(first, last)
        gap = explained.first_missing(1)
        assert gap >= db.log(name).next_id, f"nobody says what became of {gap} of {name}"

    def _check_consumer(self, db: BufferDB, name: str, present: dict[int, bytes]) -> None:
        promised = self.consumers[name]
        consumer = db.consumer(name)
        backlog = consumer.backlog
        delivered: set[int] = set()
        batches: list[Batch] = []
        while (batch := consumer.take(40)) is not None:
            batches.append(batch)
            ids = [record.seq for record in batch.records]
            assert ids == sorted(set(ids)), ids
            assert not delivered & set(ids), "taken twice"
            delivered.update(ids)
            for record in batch.records:
                assert record.document == _parsed(present[record.seq])
                assert self.keys.get(record.seq, batch.store_id) == batch.store_id
        owed = present.keys() - promised.acked
        assert owed <= delivered, f"{name} never gets {sorted(owed - delivered)[:10]}"
        again = delivered & promised.settled
        assert not again, f"{name} gets {sorted(again)[:10]} again, though that was durably acknowledged"
        assert backlog == len(delivered), f"{name}: backlog {backlog}, delivered {len(delivered)}"
        for batch in batches:
            consumer.release(batch)


def entries(db: BufferDB, table: str) -> list[dict[str, Any]]:
    """What the ledger has of a table."""
    return [entry for _, entry in db.ledger.items() if entry["table"] == table]


def covers(entry: dict[str, Any], record_id: int, lane: str) -> bool:
    """Whether an entry of the ledger tells of a record."""
    return entry["first"] <= record_id <= entry["last"] and entry.get("lane", lane) == lane


def lane_of(document: bytes) -> str:
    """The lane of a document as `Workload` makes it."""
    return "alarm" if b'"lane":"alarm"' in document else "normal"


def runs(ids: set[int]) -> list[tuple[int, int]]:
    """Ids as closed ranges."""
    found: list[tuple[int, int]] = []
    for each in sorted(ids):
        if found and found[-1][1] + 1 == each:
            found[-1] = (found[-1][0], each)
        else:
            found.append((each, each))
    return found


def stored(db: BufferDB, table: str) -> dict[int, bytes]:
    """All durable records of a table, as their very bytes. What is damaged is repaired by this."""
    log = db.log(table)
    try:
        every = [log.reader.raw(segment) for segment in log.segments]
    except DamagedSegment:
        for _ in log.stream():  # reads all; what is damaged is written anew
            pass
        every = [log.reader.raw(segment) for segment in log.segments]
    found: dict[int, bytes] = {}
    before = 0
    for record_id, raw in split_lines(b"\n".join(every)):
        assert record_id > before, f"{record_id} is there twice, or not in its place"
        before = record_id
        if record_id not in log.deleted:
            found[record_id] = raw
    return found


@lru_cache(maxsize=4096)
def _parsed(stored: bytes) -> Any:
    return json.loads(stored)


class _Content(Storage):
    """A file's content, as stock TinyDB reads it."""

    def __init__(self, content: bytes) -> None:
        self._found: dict[str, dict[str, Any]] = json.loads(content)

    def read(self) -> dict[str, dict[str, Any]] | None:
        return self._found

    def write(self, data: Any) -> None:
        raise AssertionError("read only")


def check_files(fs: FileSystem, root: str) -> None:
    """Stock TinyDB opens every segment."""
    for directory in fs.list_directory(root):
        if directory.startswith("."):
            continue
        for name in fs.list_directory(f"{root}/{directory}"):
            if name.startswith("t."):
                continue
            handle = fs.open(f"{root}/{directory}/{name}")
            content = fs.read(handle, fs.size(handle), 0)
            fs.close(handle)
            db = TinyDB(storage=_Content, content=content)
            assert db.tables() == {directory}, name
            db.table(directory).all()
