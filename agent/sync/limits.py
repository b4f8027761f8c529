"""What the other end takes in a time: messages, bytes and data points, in sliding windows. Pure; time is given.

A window is never exceeded, wherever it is laid: what was sent at one moment counts until a whole period later.
So that a window of an hour needs no list of thousands, what is sent within a sixty-fourth of the period is kept
as one, with the time of the last of it: a little too long, never too short.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from collectors.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable

Unit = Literal["messages", "bytes", "points"]

_SLOTS: Final = 64
_LIMIT: Final = re.compile(
    r"\s*(?P<amount>\d+)\s*(?P<unit>messages?|points?)\s*/\s*(?P<period>.+?)\s*|"
    r"\s*(?P<size>[^/]*[A-Za-z])\s*/\s*(?P<of>.+?)\s*"
)


@dataclass(frozen=True, slots=True)
class Load:
    """What one message weighs."""

    size_bytes: int
    points: int = 1
    """Values in it: what ThingsBoard and others count as data points."""

    def of(self, unit: Unit) -> int:
        """How much it takes of a limit."""
        if unit == "messages":
            return 1
        return self.size_bytes if unit == "bytes" else self.points


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so much of a unit in any period."""

    unit: Unit
    amount: int
    period_s: float

    def __post_init__(self) -> None:
        if self.amount < 1 or not 0 < self.period_s < float("inf"):
            raise ValueError(f"a limit needs an amount and a period above zero: {self}")

    def __str__(self) -> str:
        unit = "B" if self.unit == "bytes" else self.unit
        return f"{self.amount} {unit}/{self.period_s:g} s"


def parse_limit(text: str) -> Limit:
    """A limit as people write it: `8 messages/s`, `512 KB/s`, `10000 points/10 min`.

    Raises:
        ValueError: It is none.
    """
    example = f'{text!r} is no limit; write it like "8 messages/s", "512 KB/s" or "1000 points/10 min"'
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise ValueError(example)
    try:
        if found["unit"]:
            unit: Unit = "messages" if found["unit"].startswith("message") else "points"
            return Limit(unit, int(found["amount"]), _period_s(found["period"]))
        return Limit("bytes", int(parse_size(found["size"])), _period_s(found["of"]))
    except ValueError as error:
        raise ValueError(example) from error


def _period_s(text: str) -> float:
    return float(parse_duration(text if text[:1].isdigit() else f"1 {text}"))


class SlidingWindow:
    """What was sent under one limit."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._sent: deque[list[float]] = deque()
        """First and last moment of a slot, and how much."""
        self._used = 0

    def wait_s(self, now_s: float, amount: int, part: float = 1.0) -> float:
        """How long until so much may be sent; 0 now, infinite when it never fits.

        Args:
            now_s: A monotonic time.
            amount: How much.
            part: Of the limit, this part may be used; what is alone in the window may have all of it.
        """
        self._expire(now_s)
        allowed = max(amount, int(self.limit.amount * part)) if amount <= self.limit.amount else 0
        if allowed < amount:
            return float("inf")
        used = self._used
        if used + amount <= allowed:
            return 0.0
        for _, last_s, sent in self._sent:
            used -= int(sent)
            if used + amount <= allowed:
                return max(0.0, last_s + self.limit.period_s - now_s)
        raise AssertionError("an empty window takes what is within its limit")

    def add(self, now_s: float, amount: int) -> None:
        """It is sent."""
        self._expire(now_s)
        if self._sent and now_s - self._sent[-1][0] < self.limit.period_s / _SLOTS:
            slot = self._sent[-1]
            slot[1], slot[2] = now_s, slot[2] + amount
        else:
            self._sent.append([now_s, now_s, amount])
        self._used += amount

    def _expire(self, now_s: float) -> None:
        while self._sent and self._sent[0][1] + self.limit.period_s <= now_s:
            self._used -= int(self._sent.popleft()[2])


class SlidingLimits:
    """Several limits that all hold."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self._windows = [SlidingWindow(limit) for limit in limits]

    def wait_s(self, now_s: float, load: Load, part: float = 1.0) -> float:
        """How long until a message may be sent; 0 now, infinite when it never may."""
        waits = (window.wait_s(now_s, load.of(window.limit.unit), part) for window in self._windows)
        return max(waits, default=0.0)

    def add(self, now_s: float, load: Load) -> None:
        """It is sent."""
        for window in self._windows:
            window.add(now_s, load.of(window.limit.unit))


def most_of(unit: Unit, limits: Iterable[Limit]) -> int | None:
    """How much of a unit one message can have at most; None without a limit."""
    return min((limit.amount for limit in limits if limit.unit == unit), default=None)
