"""The loss ledger: which ids will never be delivered, and why. Durable, bounded, and told to receivers.

An entry, under a running number:

    {"table":"readings","first":17,"last":4711,"count":4600,"lane":"normal","why":"full: oldest dropped",
     "since":1790000000.0,"until":1790003600.0,"v":12}

`count` records of the lane with ids from `first` to `last` are lost; without `lane`, of either. `count`
is 0 for ids that were never given to a record ("never issued"); it is all ids of the range where nobody knows how many
had one ("file unreadable: at most"); `first` is 0 for records that were lost before they had an id ("memory full"). `since` and `until` say when the loss was noticed, first
and last, by the clock of the device. Where consumers lost different numbers, because some of them had
been delivered to one of them, `of` says how many each.

Every gap in the ids that a receiver can see is explained by an entry, apart from ids that a user of
TinyDB's API passed over by choosing ids himself while there was no consumer.

A loss that goes on where the last one of its kind (table, identity, lane, reason) ended extends that
entry, and so does one whose range overlaps an entry's: a second damage of a file, say. So the ranges of
a kind never overlap. What is told again after a crash is recognised by the file that it befell, which is
replaced by another once its loss is entered (`files`: what each of the last ones cost, by name and last id). Beyond a thousand entries the oldest that every receiver knows are folded into `ledger_totals`,
sums by table and reason; while there is a receiver that does not know them, the two oldest of a kind
become one. So the ledger stays bounded and its sums right, and ranges are lost to nobody who was not told.

Each change of an entry gives it a new version `v`. A consumer's feed gives the entries beyond the last
version that its receiver acknowledged (in the small table `ledger_told`). For a receiver the key of an
entry is its kind and `first`: a range that contains another one of the same kind replaces it.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from buffer.journal import Journal
from buffer.loss import Loss
from buffer.ranges import RangeSet

LEDGER: Final = "ledger"
_TOTALS: Final = "ledger_totals"
_TOLD: Final = "ledger_told"
_FOLDED: Final = "folded"
_ENTRIES_MAX: Final = 1_000
_FILES_MAX: Final = 8
_PARTS_MAX: Final = 50
"""How many parts are looked at for what is absent in them: each may need a file to be read."""

_Rows = list[tuple[str, str, Any]]


@dataclass(frozen=True, slots=True)
class Lost:
    """A loss as it is entered."""

    table: str
    loss: Loss
    lane: str | None = None
    """Of this lane only; None: of either."""
    of: dict[str, int] | None = None
    """How many each consumer lost, where that differs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one consumer's receiver is told of an entry."""

    first: int
    last: int
    count: int
    lane: str | None
    why: str
    since: float
    until: float
    version: int


class Ledger:
    """All entries. Thread-safe; its lock is taken after those of logs, never before."""

    def __init__(
        self, journal: Journal, told_table: str, now_s: Callable[[], float], epoch_of: Callable[[int], str]
    ) -> None:
        """Read what there is.

        Args:
            journal: Where it is kept.
            told_table: The table whose losses receivers are told.
            now_s: The wall clock, seconds since 1970.
            epoch_of: The store id that a record's id belongs to.
        """
        self._journal = journal
        self._told_table = told_table
        self._now_s = now_s
        self._epoch_of = epoch_of
        self._lock = threading.Lock()
        self._entries: dict[int, dict[str, Any]] = {
            int(key): row for key, row in sorted(journal.items(LEDGER), key=lambda item: int(item[0]))
        }

    # -- entering

    def add(self, table: str, loss: Loss, *, lane: str | None = None, once: bool = False) -> None:
        """Enter a loss; durable when it returns.

        Args:
            table: Whose it is.
            loss: What is lost.
            lane: Of which lane; None: of either.
            once: What an entry of its kind covers already is the same loss, entered before a crash.

        Raises:
            DiskFault: The disk refused; nothing was entered.
        """
        self.add_all([Lost(table, loss, lane)], once=once)

    def add_all(self, losses: Sequence[Lost], *, once: bool = False) -> None:
        """Enter several, all or none; durable when it returns.

        Raises:
            DiskFault: The disk refused; nothing was entered.
        """
        with self.entering(losses, once=once) as rows:
            if rows:
                self._journal.put(rows)

    @contextmanager
    def entering(self, losses: Sequence[Lost], *, once: bool = False) -> Iterator[_Rows]:
        """Gives the rows that enter losses, to be made durable together with what causes them."""
        with self._lock:
            version = max((told for _, told in self._journal.items(_TOLD)), default=0)
            draft = _Draft(self._entries, version, self._now_s(), self._epoch_of)
            for lost in losses:
                draft.enter(lost, once=once)
            totals = self._bound(draft)
            yield [*draft.rows(), *totals]
            self._entries = draft.entries

    def _bound(self, draft: "_Draft") -> _Rows:
        """Make room for what is entered; gives the rows of the totals that it changes."""
        told = self._told_to_all()
        folded: Counter[str] = Counter()
        up_to = 0
        while len(draft.entries) > _ENTRIES_MAX:
            oldest = draft.oldest(lambda entry: self._may_go(entry, told))
            if oldest is None and draft.merge_oldest():
                continue
            row = draft.remove(draft.first() if oldest is None else oldest)
            folded[f"{row['table']}/{row['why']}"] += row["count"]
            up_to = max(up_to, row["last"])
        rows: _Rows = []
        for key, count in folded.items():
            rows.append((_TOTALS, key, self._total(key) + count))
        if up_to:
            rows.append((_TOTALS, _FOLDED, max(up_to, self._total(_FOLDED))))
        return rows

    def _may_go(self, entry: dict[str, Any], told: int | None) -> bool:
        """Whether every receiver that is to know an entry does."""
        return entry["table"] != self._told_table or told is None or entry.get("v", 0) <= told

    def _told_to_all(self) -> int | None:
        """Up to which version every receiver knows all entries; None when there is none to tell."""
        return min((version for _, version in self._journal.items(_TOLD)), default=None)

    def _total(self, key: str) -> int:
        total: int | None = self._journal.get(_TOTALS, key)
        return total or 0

    # -- looking

    def items(self) -> list[tuple[int, dict[str, Any]]]:
        """All entries with their numbers, oldest first."""
        return [(number, dict(entry)) for number, entry in self._entries.items()]

    def lost(self) -> Counter[str]:
        """How many records are lost, by reason."""
        found: Counter[str] = Counter()
        for entry in self._entries.values():
            found[entry["why"]] += entry["count"]
        for key, count in self._journal.items(_TOTALS):
            if key != _FOLDED:
                found[key.partition("/")[2]] += count
        return +found

    @property
    def dropped(self) -> int:
        """How many records are lost in all."""
        return self.lost().total()

    def highest(self, table: str) -> int:
        """The highest id of a table that an entry names: so far at least they were handed out."""
        known: list[int] = [entry["last"] for entry in self._entries.values() if entry["table"] == table]
        folded = self._total(_FOLDED) if table == self._told_table else 0
        return max([folded, *known])

    def unexplained(self, table: str, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The ids of a table, as ranges, of which no entry says what became of them, or said so before it was folded."""
        known = RangeSet()
        if table == self._told_table:
            known.add(0, self._total(_FOLDED))
        for entry in self._entries.values():
            if entry["table"] == table:
                known.add(entry["first"], entry["last"])
        return known.missing_within(first, last)

    def explained(self, table: str, first: int, last: int, absent: Callable[[int, int], int]) -> int:
        """Of how many ids of a table, from one to another, entries say what became of them, at most.

        Args:
            table: Whose ids.
            first: The lowest.
            last: The highest.
            absent: How many ids between two have no record.
        """
        never, counted, counts = RangeSet(), RangeSet(), list[tuple[int, int]]()
        for entry in self._entries.values():
            low, high = max(first, entry["first"]), min(last, entry["last"])
            if entry["table"] != table or high < low:
                continue
            (counted if entry["count"] else never).add(low, high)
            counts.append((low, entry["count"]))
        found = never.count_within(first, last)
        for low, high in islice(counted, _PARTS_MAX):
            entered = sum(count for at, count in counts if low <= at <= high)
            found += min(entered, absent(low, high) - never.count_within(low, high))
        return found

    # -- telling

    def feed(self, consumer: str) -> None:
        """From now on keep entries until this consumer's receiver knows them. Harmless when repeated.

        Raises:
            DiskFault: The disk refused.
        """
        if self._journal.get(_TOLD, consumer) is None:
            self._journal.put([(_TOLD, consumer, 0)])

    def forget(self, consumer: str) -> None:
        """Tell a consumer's receiver no more. Fine when it was not told.

        Raises:
            DiskFault: The disk refused.
        """
        if self._journal.get(_TOLD, consumer) is not None:
            self._journal.put([(_TOLD, consumer, None)])

    def untold(self, consumer: str) -> list[Entry]:
        """The entries that a consumer's receiver does not know yet, in the order of their versions."""
        told = self._journal.get(_TOLD, consumer) or 0
        found = []
        for entry in list(self._entries.values()):
            if entry["table"] != self._told_table or entry.get("v", 0) <= told:
                continue
            count = entry.get("of", {}).get(consumer, entry["count"])
            if entry["count"] and not count:
                continue  # this one had all of it
            found.append(
                Entry(
                    entry["first"],
                    entry["last"],
                    count,
                    entry.get("lane"),
                    entry["why"],
                    entry.get("since", 0.0),
                    entry.get("until", 0.0),
                    entry.get("v", 0),
                )
            )
        return sorted(found, key=lambda entry: entry.version)

    def told(self, consumer: str, version: int) -> None:
        """A consumer's receiver has all entries up to a version; durable when it returns.

        Raises:
            DiskFault: The disk refused; they will be told again.
        """
        if version > (self._journal.get(_TOLD, consumer) or 0):
            self._journal.put([(_TOLD, consumer, version)])


class _Draft:
    """The entries as they will be."""

    def __init__(
        self,
        entries: dict[int, dict[str, Any]],
        version: int,
        now_s: float,
        epoch_of: Callable[[int], str],
    ) -> None:
        self.entries = dict(entries)
        self._before = entries
        self._now_s = round(now_s, 3)
        self._epoch_of = epoch_of
        self._version = max([version, *(entry.get("v", 0) for entry in entries.values())])
        self._changed: set[int] = set()

    def _kind(self, entry: dict[str, Any]) -> tuple[object, ...]:
        epoch = self._epoch_of(entry["first"]) if entry["first"] else ""
        return entry["table"], epoch, entry.get("lane"), entry["why"], entry["first"] == 0

    def enter(self, lost: Lost, *, once: bool) -> None:
        """Take a loss in."""
        loss = lost.loss
        entry: dict[str, Any] = {
            "table": lost.table,
            "first": loss.first,
            "last": loss.last,
            "count": loss.count,
            "why": loss.why,
            "since": self._now_s,
            "until": self._now_s,
        }
        if lost.lane is not None:
            entry["lane"] = lost.lane
        if lost.of is not None and set(lost.of.values()) != {loss.count}:
            entry["of"] = lost.of
        if once and loss.file:
            entry["files"] = {f"{loss.file}/{loss.last}": loss.count}
        kind = self._kind(entry)
        alike = [number for number, each in self.entries.items() if self._kind(each) == kind]
        if once and any(self._is_told_again(number, entry) for number in reversed(alike)):
            return
        touched = [number for number in alike if _touch(self.entries[number], entry)]
        if not touched:
            self._set(max(self.entries, default=0) + 1, entry)
            return
        # The newest that it goes on with; where it overlaps several, the oldest takes them all.
        number, *others = touched if loss.first else touched[-1:]
        whole = self.entries[number]
        for other in others:
            whole = _together(whole, self.remove(other))
        self._set(number, _together(whole, entry))

    def _is_told_again(self, number: int, entry: dict[str, Any]) -> bool:
        """Whether a loss is in an entry already; one that is larger by now becomes so there."""
        known = self.entries[number]
        files, ((place, count),) = known.get("files", {}), entry.get("files", {"": 0}).items()
        if place in files:
            first, more = min(known["first"], entry["first"]), max(0, count - files[place])
            if more or first < known["first"]:
                grown = {
                    "first": first,
                    "count": known["count"] + more,
                    "files": {**files, place: files[place] + more},
                }
                self._set(number, {**known, **grown})
            return True
        # Where nothing says that it is another one, it is what covers it.
        covered = known["first"] <= entry["first"] and entry["last"] <= known["last"]
        return bool(covered and not (files and place))

    def _set(self, number: int, entry: dict[str, Any]) -> None:
        self._version += 1
        self.entries[number] = {**entry, "v": self._version}
        self._changed.add(number)

    def first(self) -> int:
        """The oldest entry."""
        return next(number for number, entry in self.entries.items() if entry["first"])

    def oldest(self, may_go: Callable[[dict[str, Any]], bool]) -> int | None:
        """The oldest entry that may go, None when none may. Those without ids are a few, and stay."""
        numbers = (number for number, entry in self.entries.items() if entry["first"] and may_go(entry))
        return next(numbers, None)

    def remove(self, number: int) -> dict[str, Any]:
        """Take an entry out."""
        self._changed.add(number)
        return self.entries.pop(number)

    def merge_oldest(self) -> bool:
        """Make one of the two oldest entries of the kind that has most; False when each kind has one only."""
        kinds: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
        for number, entry in self.entries.items():
            kinds[self._kind(entry)].append(number)
        older, *newer = max(kinds.values(), key=len)
        if newer:
            self._set(older, _together(self.entries[older], self.remove(newer[0])))
        return bool(newer)

    def rows(self) -> _Rows:
        """What is to be written."""
        return [
            (LEDGER, str(number), self.entries.get(number))
            for number in sorted(self._changed)
            if number in self.entries or number in self._before
        ]


def _touch(known: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a loss goes on where an entry ends, or overlaps it; of those without ids there is but one entry."""
    if not new["first"]:
        return True
    return bool(known["first"] <= new["last"] and new["first"] <= known["last"] + 1)


def _together(older: dict[str, Any], newer: dict[str, Any]) -> dict[str, Any]:
    found = {
        **older,
        "first": min(older["first"], newer["first"]),
        "last": max(older["last"], newer["last"]),
        "count": older["count"] + newer["count"],
        "until": newer.get("until", 0.0),
    }
    if "of" in older or "of" in newer:
        of_each = [(each.get("of", {}), each["count"]) for each in (older, newer)]
        names: Iterable[str] = {name for of, _ in of_each for name in of}
        found["of"] = {name: sum(of.get(name, count) for of, count in of_each) for name in sorted(names)}
    files = {**older.get("files", {}), **newer.get("files", {})}
    if files:
        found["files"] = dict(list(files.items())[-_FILES_MAX:])
    return found
