"""When a reading was measured that did not come at once, by the sensor's own uptime.

A reading that is sent again arrives seconds or hours after it was measured. Its uptime, held against that of readings
that came straight away, says when that was. A sensor's clock is poor (an Uno's resonator is off by up to 0.5 %, 18 s
in an hour), so the reference is always a recent one, and what came straight away keeps the time of its arrival.
Pure: times in, times out.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from drivers.serial.resend import Boot

_UPTIME_MODULUS_MS = 1 << 32
"""A 32-bit count of milliseconds begins anew after 49.7 days. Differences stay right for half of that."""

_REFERENCES = 16
"""Of so many recent readings the one with the least delay is the reference. Few, so that drift does not tell."""

_DELAY_NS = 1_000_000_000
_DRIFT = 0.01
"""A reading that seems to come later than a second and this part of the time since the reference is not one that
came straight away: it is an answer to a request that an earlier run of this program made, or it waited in a buffer."""


class _Reference(NamedTuple):
    uptime_ms: float
    up_ns: int


class SensorClock:
    """The relation of one sensor's uptime to CLOCK_BOOTTIME, since its latest start."""

    def __init__(self) -> None:
        self._boot: Boot | None = None
        self._recent: deque[_Reference] = deque(maxlen=_REFERENCES)
        self._former: _Reference | None = None
        """The best of earlier connections."""

    def heard(self, boot: Boot, uptime_ms: float, up_ns: int) -> None:
        """A reading came straight away: its uptime, and when it arrived."""
        if boot != self._boot:
            self._boot = boot
            self._recent.clear()
            self._former = None
        self._recent.append(_Reference(uptime_ms, up_ns))

    def reconnected(self) -> None:
        """There may have been a long pause: new references are better than those so far as soon as there are any."""
        self._former = self._best()
        self._recent.clear()

    def measured_ns(self, boot: Boot, uptime_ms: float, arrived_ns: int) -> int | None:
        """When a reading was measured (CLOCK_BOOTTIME); None when nothing of that start came straight away."""
        reference = self._best()
        if reference is None or boot != self._boot:
            return None
        return min(arrived_ns, reference.up_ns + round(_since(reference, uptime_ms) * 1e6))

    def was_delayed(self, boot: Boot, uptime_ms: float, arrived_ns: int) -> bool:
        """Whether this reading certainly did not come straight away."""
        measured_ns = self.measured_ns(boot, uptime_ms, arrived_ns)
        reference = self._best()
        if measured_ns is None or reference is None:
            return False
        return arrived_ns - measured_ns > _DELAY_NS + _DRIFT * abs(arrived_ns - reference.up_ns)

    def _best(self) -> _Reference | None:
        """The one that took least time to arrive."""
        if not self._recent:
            return self._former
        newest = self._recent[-1]
        return min(
            self._recent,
            key=lambda reference: reference.up_ns + _since(reference, newest.uptime_ms) * 1e6,
        )


def _since(reference: _Reference, uptime_ms: float) -> float:
    """From the reference to that uptime, milliseconds, in whichever direction is shorter."""
    ahead = (uptime_ms - reference.uptime_ms) % _UPTIME_MODULUS_MS
    return ahead if ahead < _UPTIME_MODULUS_MS / 2 else ahead - _UPTIME_MODULUS_MS
