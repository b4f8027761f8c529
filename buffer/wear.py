"""What the buffer costs the card: bytes written, counted over restarts, and how long a card lasts at that rate.

Counted is what is handed to the file system: commits (whole blocks of the disk, written past the cache where
that can be done), space written ahead, segments written anew, the journal of small tables. Not counted are
what the file system adds for itself (its journal: little, since commits change no metadata), the sidecar of
time ranges, and what the card's controller makes of it: it writes and erases in larger units than it is
given, two to ten times as much for small writes. So the years are an upper bound; the trend is exact.

The count is kept in the small table `wear`, written once an hour and at closing: a crash costs an hour of it.
Beside it stands the highest id that the files of the readings told of then, and whether the buffer was open: from its
first commit on until it is closed there is always a file that is being written. So it sees at opening when the last of them are gone.
"""

from dataclasses import dataclass
from typing import Any, Final

from buffer.journal import SmallTable
from collectors.clock import Clock

WEAR: Final = "wear"
_KEY: Final = "total"
_DAY_S: Final = 86_400.0
_YEAR_S: Final = 365.25 * _DAY_S
_MEASURED_S_MIN: Final = 3_600.0
"""A rate of less than an hour says nothing about a year."""
_WRITE_EVERY_S: Final = 3_600.0
_NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Wear:
    """How much was written, and what that means for a card."""

    bytes_total: int
    """Since the buffer was made."""
    running_s: float
    """How long it was open in all."""
    bytes_per_day: float | None
    """While it is open; None before there was an hour to measure."""
    life_years: float | None
    """How long a new card of the stated endurance lasts at this rate; None when it is not stated."""


def wear_of(row: dict[str, Any] | None, endurance_bytes: int | None = None) -> Wear:
    """What a row of the table `wear` says.

    Args:
        row: As it is stored; None when there is none.
        endurance_bytes: How much can be written to the card in its life (TBW), as its maker states it.
    """
    total, running_s = (row["bytes"], row["running_s"]) if row else (0, 0.0)
    if running_s < _MEASURED_S_MIN:
        return Wear(total, running_s, None, None)
    per_day = total / running_s * _DAY_S
    years = endurance_bytes / (per_day / _DAY_S * _YEAR_S) if endurance_bytes and per_day else None
    return Wear(total, running_s, per_day, years)


def stored_wear(table: SmallTable, endurance_bytes: int | None = None) -> Wear:
    """What the table `wear` says, as it was last written: see `wear_of`."""
    return wear_of(table.get(_KEY), endurance_bytes)


def stored_reached(table: SmallTable) -> int:
    """The highest id that the files of the readings told of when the row was written; 0 when it does not say."""
    row = table.get(_KEY)
    reached: int = row.get("reached", 0) if row else 0
    return reached


def stored_open(table: SmallTable) -> bool:
    """Whether something was committed since the buffer was opened, and it was not closed since."""
    row = table.get(_KEY)
    return bool(row and row.get("open"))


class WearMeter:
    """Counts on where the last process ended."""

    def __init__(self, table: SmallTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._before = stored_wear(table)
        self._noted_open = stored_open(table)
        self._begun_s = self._written_s = self._now_s()

    def _now_s(self) -> float:
        return self._clock.boottime_ns() / _NS

    def row(self, bytes_written: int) -> dict[str, Any]:
        """The count as it is now.

        Args:
            bytes_written: By this process.
        """
        running_s = self._before.running_s + self._now_s() - self._begun_s
        return {"bytes": self._before.bytes_total + bytes_written, "running_s": round(running_s, 1)}

    def write(self, bytes_written: int, reached: int, *, closing: bool = False) -> None:
        """Make it durable, when it is time.

        Args:
            bytes_written: By this process.
            reached: The highest id that the files of the readings tell of.
            closing: It is time.

        Raises:
            DiskFault: The disk refused.
        """
        if closing or self._now_s() - self._written_s >= _WRITE_EVERY_S:
            self._write(bytes_written, reached, is_open=not closing)

    def note_open(self, bytes_written: int, reached: int) -> None:
        """Make it durable that the buffer is open; called before each commit, and does something before the first.

        Args:
            bytes_written: As in `write`.
            reached: As in `write`.

        Raises:
            DiskFault: The disk refused.
        """
        if not self._noted_open:
            self._write(bytes_written, reached, is_open=True)

    def _write(self, bytes_written: int, reached: int, *, is_open: bool) -> None:
        noted = {"reached": reached} | ({"open": True} if is_open else {})
        self._table.put(_KEY, self.row(bytes_written) | noted)
        self._noted_open = is_open
        self._written_s = self._now_s()
