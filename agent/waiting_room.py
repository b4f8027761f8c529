"""What sources say while the buffer does not open: the newest of it, in memory, until there is a disk to put it on.

None of it is accepted: it has no number, is acknowledged to nobody, and is gone with the power. So only what might not be had again
comes here: from sensors that only speak, or keep no more than their latest readings.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from collectors.enums import ClockQuality
from collectors.metadata_keys import TAKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.models import CollectedData

COUNT_MAX: Final = 20_000
BYTES_MAX: Final = 4 << 20
"""With what Python needs for each, 40 MB at most: a fifth of what the service may have."""


class WaitingRoom:
    """Frames and messages in the order in which they came.

    Args:
        count_max: So many at most; the oldest go first.
        bytes_max: So many bytes of them.
    """

    def __init__(self, count_max: int = COUNT_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._waiting: deque[CollectedData] = deque()
        self._bytes = 0
        self.gone = 0
        """How many had to go."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, data: CollectedData) -> None:
        """Let one wait, if need be instead of older ones."""
        self._waiting.append(data)
        self._bytes += len(data.raw_data)
        while len(self._waiting) > self._count_max or self._bytes > self._bytes_max:
            self._bytes -= len(self._waiting.popleft().raw_data)
            self.gone += 1

    def leave(self, boot: int) -> Iterator[CollectedData]:
        """Each that waits, oldest first, and those that come meanwhile.

        How good the clock was when it came nobody had looked at yet; by the uptime its time can be corrected.

        Args:
            boot: Which boot of the device this is.
        """
        while self._waiting:
            data = self._waiting.popleft()
            self._bytes -= len(data.raw_data)
            yield data.model_copy(
                update={"metadata": {**data.metadata, TAKEN: (boot, ClockQuality.ESTIMATED)}}
            )

    def told(self) -> str:
        """In words, for status and log."""
        gone = f", {self.gone} older ones are gone" if self.gone else ""
        return f"{len(self)} frames wait in memory{gone}"
