"""What is missing of a device's readings, and why. Pure.

A buffer numbers its readings without a gap, and a device that tells its losses also tells how far it is: from which number on
its readings are for this receiver, up to which all of them have found their end, and which one is the newest (`agent.sync.extent`).
So of each number in that range that has not come it can be said that it was

- **never issued**: no reading ever had it (a recovery skipped it), says the device's loss ledger;
- **dropped**: lost, and the ledger says why: a full disk, a damaged file;
- **set aside**: it was refused, and lies on the device as a dead letter;
- **under way**: the device has not got rid of it yet: it waits there, or is overtaken by live readings;
- **not judged**: the upstream has a route, and so it may never have been meant for this receiver;
- **unexplained**: the device says that it has found its end, but it has not come, and no ledger knows why.

A device that tells no extent owes each number between the first and the last that came; then what is under way counts as unexplained.

An entry of the ledger may count fewer readings than its range has numbers, since those between were of another lane or had been
delivered before. So many of those missing in its range are explained, and no more. Where ranges overlap each entry explains what
others cannot: as many are explained as the counts allow at all.

Nothing here needs a list of what is missing: the range of all numbers is cut where an entry or an extent begins or ends, the
database counts what has come between two cuts, and the sums are exact however many gaps there are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.receiver.store import Coverage, KnownExtent, Part

Range = tuple[int, int]
_ASIDE = "\0aside"
"""No reason of a ledger: these are no losses."""


class Fate(StrEnum):
    """What a number that has not come, and of which no ledger says anything, is."""

    UNEXPLAINED = "unexplained"
    UNDER_WAY = "under way"
    NOT_JUDGED = "not judged"
    NOT_OWED = "not owed"
    """The upstream was made later."""


@dataclass(slots=True)
class Missing:
    """What one device, or one buffer of it, misses: counts of readings."""

    never_issued: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """By the reason in the ledger."""
    set_aside: int = 0
    unexplained: int = 0
    under_way: int = 0
    not_judged: int = 0
    suspects: list[Range] = field(default_factory=list)
    """Numbers among which those unexplained are, ascending; what has come lies between."""
    dropped_without_number: Counter[str] = field(default_factory=Counter)
    """By reason; readings that were lost before they had a number, which leave no gap."""

    @property
    def total(self) -> int:
        """Of all that have a number."""
        explained = self.never_issued + self.dropped.total() + self.set_aside
        return explained + self.unexplained + self.under_way + self.not_judged

    def by_kind(self) -> dict[str, int]:
        """As counts by kind."""
        return {
            "dropped": self.dropped.total() + self.dropped_without_number.total(),
            "never issued": self.never_issued,
            "set aside": self.set_aside,
            "under way": self.under_way,
            "not judged": self.not_judged,
            "unexplained": self.unexplained,
        }

    def add(self, other: Missing) -> None:
        """Take in what another buffer of the device misses, but for its suspects."""
        self.never_issued += other.never_issued
        self.dropped += other.dropped
        self.set_aside += other.set_aside
        self.unexplained += other.unexplained
        self.under_way += other.under_way
        self.not_judged += other.not_judged
        self.dropped_without_number += other.dropped_without_number

    def explained(self, why: str | None, count: int) -> None:
        """So many are explained by an entry of this reason."""
        if why == _ASIDE:
            self.set_aside += count
        elif why is not None:
            self.dropped[why] += count

    def left(self, fate: Fate, count: int) -> None:
        """So many are explained by no ledger."""
        if fate is Fate.UNEXPLAINED:
            self.unexplained += count
        elif fate is Fate.UNDER_WAY:
            self.under_way += count
        elif fate is Fate.NOT_JUDGED:
            self.not_judged += count


def cuts(coverage: Coverage) -> list[Range]:
    """The ranges of which the database is to count what has come: all numbers that anything is known of, ascending."""
    bounds = set()
    ranges = [(coverage.first, coverage.last)] if coverage.readings else []
    ranges += [(loss.first, loss.last) for loss in coverage.losses if loss.first]
    highest = max([last for _, last in ranges] + [extent.newest for extent in coverage.extents], default=0)
    for extent in coverage.extents:
        ranges += [(extent.begins, last) for last in (extent.since, extent.settled, extent.newest, highest)]
        ranges += [(first, last) for first, last, _ in extent.aside]
    for first, last in ranges:
        if first <= last:
            bounds |= {first, last + 1}
    ordered = sorted(bounds)
    return [(first, following - 1) for first, following in pairwise(ordered)]


def missing_of(coverage: Coverage) -> Missing:
    """What is missing of the numbers that have come, that the ledger tells of, and that the device says it issued."""
    found = Missing()
    numbered, never = [], []
    for loss in coverage.losses:
        if not loss.first:
            found.dropped_without_number[loss.why] += loss.count
        elif loss.count:
            numbered.append(_Counted(loss.first, loss.last, loss.count, loss.why))
        else:
            never.append((loss.first, loss.last))
    never = _merged(never)
    numbered += _absent(coverage.extents)
    asides = {
        each for extent in coverage.extents for each in extent.aside
    }  # of each upstream the same readings
    numbered += [_Counted(*each, _ASIDE) for each in asides]
    numbered.sort(key=lambda each: (each.first, each.last))
    left: list[_Left] = []
    for part in coverage.parts:
        missing = part.last - part.first + 1 - part.came
        if missing and _covers(never, part.first):
            found.never_issued += missing
        elif missing:
            left.append(_Left(part, missing, _fate_of(part, coverage)))
    # First those that are owed: an entry's range may begin before the upstream was made.
    _explain(found, [each for each in left if each.fate is not Fate.NOT_OWED], numbered)
    _explain(found, [each for each in left if each.fate is Fate.NOT_OWED], numbered)
    for each in left:
        found.left(each.fate, each.count)
    found.suspects = _suspects(left, numbered)
    return found


def by_device(coverages: Iterable[Coverage]) -> dict[str, Missing]:
    """The sums of each device's buffers."""
    found: dict[str, Missing] = {}
    for coverage in coverages:
        found.setdefault(coverage.device_id, Missing()).add(missing_of(coverage))
    return found


@dataclass(slots=True)
class _Counted:
    """An entry that explains so many in its range; without a reason those are nobody's loss."""

    first: int
    last: int
    count: int
    why: str | None


@dataclass(slots=True)
class _Left:
    """What is missing in a part, and not explained."""

    part: Part
    count: int
    fate: Fate


def _absent(extents: Sequence[KnownExtent]) -> list[_Counted]:
    """Numbers that the buffer had no readings of when the upstream was made: of several, as the oldest says it."""
    whole = [extent for extent in extents if not extent.routed and extent.absent]
    if not whole:
        return []
    oldest = min(whole, key=lambda extent: extent.begins)
    return [_Counted(oldest.begins, oldest.since, oldest.absent, None)]


def _fate_of(part: Part, coverage: Coverage) -> Fate:
    if not coverage.extents:
        return Fate.UNEXPLAINED
    owing = [extent for extent in coverage.extents if extent.begins <= part.first]
    whole = [extent for extent in owing if not extent.routed]
    if any(part.first <= extent.settled for extent in whole):
        return Fate.UNEXPLAINED
    if whole:
        return Fate.UNDER_WAY
    return Fate.NOT_JUDGED if owing else Fate.NOT_OWED


def _explain(found: Missing, left: Iterable[_Left], entries: Sequence[_Counted]) -> None:
    """Explain as many as can be: from the lowest number on, each by that entry whose range ends first."""
    following = 0
    open_entries: list[tuple[int, int]] = []
    for each in left:
        while following < len(entries) and entries[following].first <= each.part.first:
            heappush(open_entries, (entries[following].last, following))
            following += 1
        while open_entries and each.count:
            last, at = open_entries[0]
            entry = entries[at]
            here = min(entry.count, each.count) if last >= each.part.first else 0
            entry.count -= here
            each.count -= here
            if here:
                found.explained(entry.why, here)
            if not entry.count or last < each.part.first:
                heappop(open_entries)


def _suspects(left: Sequence[_Left], entries: Sequence[_Counted]) -> list[Range]:
    """Where those may be that are unexplained: where entries overlap each other or a part, anywhere in their reach."""
    reaches = _merged((entry.first, entry.last) for entry in entries)
    touched = {
        at
        for each in left
        if each.count
        and each.fate is Fate.UNEXPLAINED
        and (at := _reach(reaches, each.part.first)) is not None
    }
    found = [
        (each.part.first, each.part.last)
        for each in left
        if each.fate is Fate.UNEXPLAINED and (each.count or _reach(reaches, each.part.first) in touched)
    ]
    return _merged(found)


def _merged(ranges: Iterable[Range]) -> list[Range]:
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def _reach(ranges: Sequence[Range], number: int) -> int | None:
    """Which of these ranges, ascending and apart, has a number."""
    at = bisect_right(ranges, number, key=lambda each: each[0]) - 1
    return at if at >= 0 and number <= ranges[at][1] else None


def _covers(ranges: Sequence[Range], number: int) -> bool:
    return _reach(ranges, number) is not None
