"""Sets of ids as sorted, disjoint ranges: small, however many ids they hold. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from heapq import nlargest


class RangeSet:
    """A set of integers, kept as closed ranges `[low, high]` that neither overlap nor touch."""

    __slots__ = ("_highs", "_lows")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        for low, high in ranges:
            self.add(low, high)

    def __bool__(self) -> bool:
        return bool(self._lows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._lows, self._highs, strict=True)))

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._lows, number) - 1
        return at >= 0 and number <= self._highs[at]

    def __len__(self) -> int:
        """How many ranges (not how many integers)."""
        return len(self._lows)

    def add(self, low: int, high: int) -> None:
        """Add every integer from `low` to `high`; nothing when `high` is below `low`."""
        if high < low:
            return
        first = bisect_left(self._highs, low - 1)
        after = bisect_right(self._lows, high + 1)
        if first < after:
            low = min(low, self._lows[first])
            high = max(high, self._highs[after - 1])
        self._lows[first:after] = [low]
        self._highs[first:after] = [high]

    def discard(self, low: int, high: int) -> None:
        """Take out every integer from `low` to `high`."""
        if high < low:
            return
        first = bisect_left(self._highs, low)
        after = bisect_right(self._lows, high)
        if first >= after:
            return
        lows, highs = [], []
        if self._lows[first] < low:
            lows.append(self._lows[first])
            highs.append(low - 1)
        if self._highs[after - 1] > high:
            lows.append(high + 1)
            highs.append(self._highs[after - 1])
        self._lows[first:after] = lows
        self._highs[first:after] = highs

    def first_missing(self, start: int) -> int:
        """The lowest integer from `start` up that is not in the set."""
        at = bisect_right(self._lows, start) - 1
        return self._highs[at] + 1 if at >= 0 and self._highs[at] >= start else start

    def last_missing(self, start: int) -> int:
        """The highest integer from `start` down that is not in the set."""
        at = bisect_right(self._lows, start) - 1
        return self._lows[at] - 1 if at >= 0 and self._highs[at] >= start else start

    def next_low(self, start: int) -> int | None:
        """The lowest range bound above `start`, None when there is none."""
        at = bisect_right(self._lows, start)
        return self._lows[at] if at < len(self._lows) else None

    def previous_high(self, start: int) -> int | None:
        """The highest range bound below `start`, None when there is none."""
        at = bisect_left(self._highs, start) - 1
        return self._highs[at] if at >= 0 else None

    def within(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The parts of the ranges that lie from `low` to `high`."""
        if high < low:
            return
        first = bisect_left(self._highs, low)
        after = bisect_right(self._lows, high)
        for at in range(first, after):
            yield max(low, self._lows[at]), min(high, self._highs[at])

    def missing_within(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The parts from `low` to `high` that are not in the set, as ranges."""
        for start, end in self.within(low, high):
            if low < start:
                yield low, start - 1
            low = end + 1
        if low <= high:
            yield low, high

    def count_within(self, low: int, high: int) -> int:
        """How many integers from `low` to `high` are in the set."""
        return sum(end - start + 1 for start, end in self.within(low, high))

    def covers(self, low: int, high: int) -> bool:
        """Whether every integer from `low` to `high` is in the set."""
        return self.first_missing(low) > high

    def common(self, other: "RangeSet") -> "RangeSet":
        """What is in both sets."""
        both = RangeSet()
        for low, high in self:
            for part in other.within(low, high):
                both.add(*part)
        return both

    def largest(self, n: int) -> list[tuple[int, int]]:
        """The `n` ranges that hold most integers, ascending."""
        if len(self) <= n:
            return list(self)
        return sorted(nlargest(n, self, key=lambda bounds: bounds[1] - bounds[0]))
