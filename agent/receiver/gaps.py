"""What is missing of a device's readings, and why. Pure.

A buffer numbers its readings without a gap, so each number between the first and the last that came should have come too. One
that has not was

- **never issued**: no reading ever had it (a recovery skipped it), says the device's loss ledger;
- **dropped**: lost, and the ledger says why: a full disk, a damaged file;
- **unexplained**: still on its way (live readings overtake a backlog), or lost without a word.

An entry of the ledger may count fewer readings than its range has numbers, since those between were of another lane or had been
delivered before. So many of those missing in its range are explained, and no more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.receiver.store import Coverage, KnownLoss

Range = tuple[int, int]


@dataclass(slots=True)
class Missing:
    """What one device, or one buffer of it, misses: counts of readings."""

    never_issued: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """By the reason in the ledger."""
    unexplained: int = 0
    suspects: list[Range] = field(default_factory=list)
    """Numbers among which those unexplained are: exactly those, where no entry of the ledger touches them."""
    dropped_without_number: Counter[str] = field(default_factory=Counter)
    """By reason; readings that were lost before they had a number, which leave no gap."""

    @property
    def total(self) -> int:
        """Of all that have a number."""
        return self.never_issued + self.dropped.total() + self.unexplained

    def by_kind(self) -> dict[str, int]:
        """As counts by `dropped`, `never issued` and `unexplained`."""
        return {
            "dropped": self.dropped.total() + self.dropped_without_number.total(),
            "never issued": self.never_issued,
            "unexplained": self.unexplained,
        }

    def add(self, other: Missing) -> None:
        """Take in what another buffer of the device misses, but for its suspects."""
        self.never_issued += other.never_issued
        self.dropped += other.dropped
        self.unexplained += other.unexplained
        self.dropped_without_number += other.dropped_without_number


def missing_of(coverage: Coverage) -> Missing:
    """What is missing between the first and the last reading that came, or that the ledger tells of."""
    found = Missing()
    holes = list(coverage.holes)
    numbered = []
    for loss in coverage.losses:
        if loss.first:
            numbered.append(loss)
        else:
            found.dropped_without_number[loss.why] += loss.count
    before = [_clipped(loss, 1, coverage.first - 1) for loss in numbered]
    after = [_clipped(loss, coverage.last + 1, loss.last) for loss in numbered]
    outside = _merged(each for each in (*before, *after) if each is not None)
    holes = sorted([*holes, *outside])
    for loss in numbered:
        if not loss.count:
            left = _without(holes, (loss.first, loss.last))
            found.never_issued += _size(holes) - _size(left)
            holes = left
    for cluster in _clusters([loss for loss in numbered if loss.count]):
        _explain(found, holes, cluster)
        holes = _without(holes, (cluster[0].first, max(loss.last for loss in cluster)))
    found.unexplained += _size(holes)
    found.suspects = sorted([*found.suspects, *holes])
    return found


def by_device(coverages: Iterable[Coverage]) -> dict[str, Missing]:
    """The sums of each device's buffers."""
    found: dict[str, Missing] = {}
    for coverage in coverages:
        found.setdefault(coverage.device_id, Missing()).add(missing_of(coverage))
    return found


def _explain(found: Missing, holes: Sequence[Range], cluster: Sequence[KnownLoss]) -> None:
    """Explain what is missing in ranges that overlap, as far as their counts reach."""
    first, last = cluster[0].first, max(loss.last for loss in cluster)
    inside = [(max(a, first), min(b, last)) for a, b in holes if a <= last and b >= first]
    left = _size(inside)
    for loss in cluster:
        here = min(loss.count, left)
        if here:
            found.dropped[loss.why] += here
        left -= here
    if left:
        found.unexplained += left
        found.suspects += inside


def _clusters(losses: Sequence[KnownLoss]) -> list[list[KnownLoss]]:
    """Losses whose ranges overlap, together; ascending."""
    found: list[list[KnownLoss]] = []
    reach = 0
    for loss in sorted(losses, key=lambda loss: (loss.first, loss.last)):
        if not found or loss.first > reach:
            found.append([])
        found[-1].append(loss)
        reach = max(reach, loss.last)
    return found


def _clipped(loss: KnownLoss, first: int, last: int) -> Range | None:
    first, last = max(first, loss.first), min(last, loss.last)
    return (first, last) if first <= last else None


def _merged(ranges: Iterable[Range]) -> list[Range]:
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def _without(ranges: Iterable[Range], taken: Range) -> list[Range]:
    found: list[Range] = []
    for first, last in ranges:
        if last < taken[0] or first > taken[1]:
            found.append((first, last))
            continue
        if first < taken[0]:
            found.append((first, taken[0] - 1))
        if last > taken[1]:
            found.append((taken[1] + 1, last))
    return found


def _size(ranges: Iterable[Range]) -> int:
    return sum(last - first + 1 for first, last in ranges)
