"""What steps remember between readings, a series at a time, with a bound."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.models import Reading

SERIES_MAX: Final = 10_000

SeriesKey: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""Source and tags: readings that agree in both are one series."""

T = TypeVar("T")


def series_of(reading: Reading) -> SeriesKey:
    """Which series a reading belongs to."""
    tags = reading.tags
    if len(tags) < 2:  # noqa: PLR2004 (nothing to sort)
        return (reading.source, tuple(tags.items()))
    return (reading.source, tuple(sorted(tags.items())))


def elapsed_s(before: tuple[int, int, float], now: tuple[int, int, float]) -> float:
    """Seconds between two moments (`moment`): by the clock that never steps where both are of one boot."""
    if before[0] == now[0] and before[0] and before[1] and now[1]:
        return (now[1] - before[1]) * 1e-9
    return now[2] - before[2]


def moment(reading: Reading) -> tuple[int, int, float]:
    """When a reading was taken: boot, CLOCK_BOOTTIME in ns, wall clock in s."""
    return (reading.boot, reading.up, reading.t)


class SeriesMemory(Generic[T]):
    """What is remembered of each series; the longest unused is forgotten when there are too many."""

    def __init__(self) -> None:
        self._known: OrderedDict[SeriesKey, T] = OrderedDict()

    def get(self, key: SeriesKey) -> T | None:
        """What is remembered of a series."""
        return self._known.get(key)

    def put(self, key: SeriesKey, memory: T) -> tuple[SeriesKey, T] | None:
        """Remember; the series that was forgotten for it, if one was, and what was known of it."""
        self._known[key] = memory
        self._known.move_to_end(key)
        if len(self._known) > SERIES_MAX:
            return self._known.popitem(last=False)
        return None

    def pop(self, key: SeriesKey) -> T | None:
        """Forget a series."""
        return self._known.pop(key, None)

    def items(self) -> Iterator[tuple[SeriesKey, T]]:
        """All of them, the longest unused first."""
        return iter(list(self._known.items()))

    def __len__(self) -> int:
        return len(self._known)
