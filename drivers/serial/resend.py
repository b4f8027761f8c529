"""What is missing from a sensor's count, and what to ask it for again. Pure: numbers in, requests out.

A sensor that keeps its latest readings in a ring and numbers them can be asked for those that did not arrive:
because a cable was pulled, because noise spoilt a frame, because this program was down. What a reading is to the
count must not be guessed:

- A **gap**: the count goes up by more than one. What the ring can still hold is asked for; what it cannot is lost.
- A **repetition**: a number that we asked for, and that had arrived by then: an answer that was slow, or came twice.
  Nothing else is ever taken for a repetition, since a reading that is stored twice does less harm than one that is
  thrown away.
- A **restart** of the sensor: another boot number, or a count that goes back. Its ring is gone. Readings of the new
  start that came before the first one we heard are asked for like any others.
- A **leap** beyond the ring: a long silence.

The last two are believed when a second reading goes on from there: without a check sequence, noise can turn a digit
into another, and one such reading must not make us forget what we have and ask for all of it again.

One request is under way at a time, for `REQUEST_READINGS_MAX` readings at most, so that a small sensor needs no
queue. An answer that does not come in time is asked for again, `ATTEMPTS` times in all.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

REQUEST_READINGS_MAX = 64
"""A sensor answers so many in under a second at 115,200 baud, and nothing else need be asked for again when one
request is lost."""

ATTEMPTS = 3
"""So often a reading is asked for. A line on which three requests or answers in a row are lost carries no readings,
either."""

DEPTH_MAX = 65_536


Boot: TypeAlias = int | str
"""Which start of the sensor: any number or text that its other starts do not have."""


class Place(Enum):
    """What a reading is to the count."""

    NEW = auto()
    """The newest so far."""
    LATE = auto()
    """One that was missing."""
    AGAIN = auto()
    """One that was asked for and has come before: it is stored already."""
    UNSURE = auto()
    """It does not go on from what came before; the next one will tell."""


class Request(NamedTuple):
    """Readings to be sent again."""

    boot: Boot
    first: int
    last: int


@dataclass(slots=True)
class ResendCounts:
    """What became of readings that were missing, since the tracker was made."""

    recovered: int = 0
    """They came when they were asked for."""
    repeated: int = 0
    """They came a second time, and were left out."""
    lost: int = 0
    """The ring no longer held them, or they did not come."""


class _Asked(Enum):
    WAITED_FOR = auto()
    GIVEN_UP = auto()
    ARRIVED = auto()


class ResendTracker:
    """Follows the count of one sensor, over all its connections.

    Args:
        depth: How many of its latest readings the sensor's ring holds.
        timeout_s: How long to wait for the next reading of an answer before asking again.
    """

    def __init__(self, depth: int, timeout_s: float) -> None:
        self.counts = ResendCounts()
        self._depth = depth
        self._timeout_s = timeout_s
        self._boot: Boot | None = None
        self._is_followed = False
        """Whether we have heard this sensor before: if not, what came before the first reading is no loss of ours."""
        self._begin_empty()

    def _begin_empty(self) -> None:
        self._highest = 0
        self._stored: set[int] = set()
        """Numbers that an earlier run has stored."""
        self._missing: OrderedDict[int, int] = OrderedDict()
        """Numbers that may still come, ascending, and how often an answer with them was waited for in vain."""
        self._asked: OrderedDict[int, _Asked] = OrderedDict()
        """What became of the latest numbers that were asked for."""
        self._outstanding: set[int] = set()
        self._deadline_s = 0.0
        self._suspect: tuple[Boot, int] | None = None
        """Boot and number of the latest reading, if it was strange."""
        self._is_confirmed = False
        """Whether the sensor has gone on with this count on the present connection."""

    @property
    def missing(self) -> int:
        """Readings that are missing now, and may still come."""
        return len(self._missing)

    def resume(self, kept: Iterable[tuple[Boot, int]]) -> None:
        """Begin where an earlier run has ended: boot and number of the newest readings that are stored, oldest first."""
        numbers: dict[Boot, set[int]] = {}
        newest = None
        for boot, number in kept:
            if numbers.setdefault(boot, set()):
                newest = boot  # a single reading may be one that noise has changed
            numbers[boot].add(number)
        if not numbers:
            return
        self._boot = newest if newest is not None else next(reversed(numbers))
        stored = self._stored = numbers[self._boot]
        self._highest = max({number for number in stored if number - 1 in stored} or stored)
        self._miss(max(1, self._highest - self._depth + 1), self._highest)
        self._is_followed = True

    def reconnected(self) -> None:
        """There is a new connection: an answer that was under way will not come, and this may be another sensor."""
        self._outstanding.clear()
        self._suspect = None
        self._is_confirmed = False

    def arrive(self, boot: Boot, number: int, now_s: float) -> Place:
        """A reading has arrived.

        Args:
            boot: Which start of the sensor it belongs to.
            number: Its number in that start, counted from 1.
            now_s: Monotonic time.
        """
        if boot == self._boot:
            if number in self._missing:
                return self._late(number, now_s)
            asked = self._asked.get(number)
            if asked is _Asked.ARRIVED:
                self.counts.repeated += 1
                return Place.AGAIN
            if asked is _Asked.GIVEN_UP:
                self.counts.lost -= 1
                return self._late(number, now_s)
        goes_on = boot == self._boot and self._highest < number <= self._highest + self._depth
        if self._boot is not None and not goes_on and not self._is_believed(boot, number):
            self._suspect = boot, number
            return Place.UNSURE
        if boot != self._boot or number <= self._highest:
            self._restart(boot)
        self._advance(number)
        self._suspect = None
        self._is_confirmed = True
        return Place.NEW

    def _is_believed(self, boot: Boot, number: int) -> bool:
        """Whether this goes on from a strange reading just before; if so, that one is taken into the count."""
        if self._suspect is None:
            return False
        before = self._suspect[1]
        if self._suspect[0] != boot or not before < number <= before + self._depth:
            return False
        if boot != self._boot or before <= self._highest:
            self._restart(boot)
        self._advance(before)
        return True

    def request(self, now_s: float) -> Request | None:
        """What to ask for now, if anything. To be called after each reading."""
        if not self._is_confirmed or self._suspect is not None:
            return None
        if self._outstanding:
            if now_s < self._deadline_s:
                return None
            self._count_attempt()
        self._give_up_what_left_the_ring()
        if not self._missing or self._boot is None:
            return None
        first = last = next(iter(self._missing))
        while last + 1 in self._missing and last + 1 - first < REQUEST_READINGS_MAX:
            last += 1
        self._outstanding = set(range(first, last + 1))
        self._deadline_s = now_s + self._timeout_s
        for number in self._outstanding:
            self._asked[number] = _Asked.WAITED_FOR
        while len(self._asked) > 2 * self._depth:
            self._asked.popitem(last=False)
        return Request(self._boot, first, last)

    def _restart(self, boot: Boot) -> None:
        """The sensor counts anew; what was missing of its former start is lost with the ring."""
        self.counts.lost += len(self._missing)
        self._begin_empty()
        self._is_followed = self._boot is not None
        self._boot = boot

    def _advance(self, number: int) -> None:
        """This is the newest; everything between the one before and this one is missing."""
        held = max(1, number - self._depth + 1)  # the lowest that the ring can hold
        if self._is_followed:
            self.counts.lost += max(0, held - self._highest - 1)
        self._miss(max(held, self._highest + 1), number)
        self._is_followed = True
        self._highest = number

    def _miss(self, first: int, end: int) -> None:
        for number in range(first, end):
            if number not in self._stored:
                self._missing[number] = 0

    def _late(self, number: int, now_s: float) -> Place:
        self._missing.pop(number, None)
        self._asked[number] = _Asked.ARRIVED
        self.counts.recovered += 1
        if number in self._outstanding:
            self._outstanding.remove(number)
            self._deadline_s = now_s + self._timeout_s
        return Place.LATE

    def _count_attempt(self) -> None:
        """What was asked for has not come in time."""
        for number in self._outstanding:
            self._missing[number] += 1
            if self._missing[number] >= ATTEMPTS:
                self._give_up(number)
        self._outstanding.clear()

    def _give_up_what_left_the_ring(self) -> None:
        while self._missing and (number := next(iter(self._missing))) <= self._highest - self._depth:
            self._give_up(number)

    def _give_up(self, number: int) -> None:
        del self._missing[number]
        self.counts.lost += 1
        if number in self._asked:
            self._asked[number] = _Asked.GIVEN_UP
