"""How much the readings may take on disk: the quota, and the reserve of free disk.

The reserve is for others: the system, other programs, our own rewriting of a segment. It is never more
than a tenth of the file system, so that a small one can be used at all. When less than that is free, the
readings must not grow beyond what they take just then; but nothing undelivered is given up to win the
reserve back, since what goes might only be taken by whoever filled the disk.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from buffer.log import Log
    from buffer.options import BufferOptions

_RESERVE_SHARE: Final = 10


class Limits:
    """The limits of one table. Asked on the committing thread only, apart from `bound_bytes`.

    Attributes:
        any: Whether there is one.
    """

    def __init__(self, options: BufferOptions, path: str, readings: Log) -> None:
        self._options = options
        self._path = path
        self._readings = readings
        self._ceiling_bytes: int | None = None
        """What the readings took when the reserve was reached; None while there is more than that."""
        self.any = _any(options)

    def change(self, options: BufferOptions) -> None:
        """Go by other limits from now on."""
        self._options = options
        self._ceiling_bytes = None
        self.any = _any(options)

    def over(self) -> str | None:
        """Which limit what waits would pass, in words; None while there is room."""
        options, readings = self._options, self._readings
        needed = readings.disk_bytes + readings.flight_bytes
        if options.quota_bytes is not None and needed > options.quota_bytes:
            return f"the quota of {options.quota_bytes:,} bytes is used up by readings not delivered yet"
        if not self.short_of_reserve():
            self._ceiling_bytes = None
            return None
        if self._ceiling_bytes is None:
            self._ceiling_bytes = readings.disk_bytes
        if needed > self._ceiling_bytes:
            return f"less than {self.reserve_bytes:,} bytes are free on the disk"
        return None

    def short_of_reserve(self) -> bool:
        """Whether less than the reserve is free; the disk is not asked when there is none."""
        return self._options.reserve_bytes > 0 and self.free_bytes() < self.reserve_bytes

    @property
    def reserve_bytes(self) -> int:
        """How much of the disk is to stay free."""
        if not self._options.reserve_bytes:
            return 0
        try:
            total = self._options.fs.total_bytes(self._path)
        except OSError:
            return self._options.reserve_bytes
        return min(self._options.reserve_bytes, total // _RESERVE_SHARE)

    def free_bytes(self) -> int:
        """What is free on the disk; plenty when it does not say, since writing will tell."""
        try:
            return self._options.fs.free_bytes(self._path)
        except OSError:
            return sys.maxsize

    def bound_bytes(self) -> int:
        """How much the readings may take on disk in all, as things are."""
        room = max(0, self.free_bytes() - self.reserve_bytes)
        return min(self._options.quota_bytes or sys.maxsize, self._readings.disk_bytes + room)


def _any(options: BufferOptions) -> bool:
    return options.quota_bytes is not None or options.reserve_bytes > 0
