"""How long the room lasts: what may be kept, at the rate at which readings come in. Pure, apart from the clock."""

from collections import deque
from dataclasses import dataclass
from typing import Final

_SAMPLE_S: Final = 60.0
_WINDOW_S: Final = 3_600.0
"""The rate is that of the last hour: long enough for slow sensors, short enough to notice a fast one."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much room there is for readings, were nothing delivered from now on."""

    bound_bytes: int
    """What they may take in all: by quota and reserve, as the disk is now."""
    undelivered_bytes: int
    """What those take that must not go."""
    bytes_per_s: float | None
    """At which rate they come in; None before there was a minute to measure."""

    @property
    def left_s(self) -> float | None:
        """How long the room lasts at this rate; None when nothing comes in, or too little is known."""
        if not self.bytes_per_s:
            return None
        return max(0, self.bound_bytes - self.undelivered_bytes) / self.bytes_per_s


class ByteRate:
    """A rate over a sliding window."""

    def __init__(self, now_s: float) -> None:
        self._samples: deque[tuple[float, int]] = deque([(now_s, 0)])

    def per_s(self, total: int, now_s: float) -> float | None:
        """The rate, given how many bytes there were in all by now; None before there was a minute to measure."""
        while len(self._samples) > 1 and now_s - self._samples[1][0] >= _WINDOW_S:
            self._samples.popleft()
        if now_s - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now_s, total))
        since_s, before = self._samples[0]
        return (total - before) / (now_s - since_s) if now_s - since_s >= _SAMPLE_S else None
