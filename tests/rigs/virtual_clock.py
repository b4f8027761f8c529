"""A device's clocks, made up: a crystal that drifts, a wall clock that is wrong until somebody sets it, and the truth."""

from __future__ import annotations

from datetime import UTC, datetime

from agent.timekeeping import Synchronisation


class VirtualClock:
    """The clocks of one device. `true_t` is what they would show if they could.

    Args:
        true_t: When it boots, seconds since 1970.
        wall_t: What its wall clock shows then.
        drift_ppm: How much faster its crystal is than the truth is.
    """

    def __init__(self, true_t: float, wall_t: float, drift_ppm: float = 0.0) -> None:
        self.true_t = true_t
        self.wall_t = wall_t
        self.up_s = 0.0
        self.drift_ppm = drift_ppm
        self.synchronised_at: float | None = None

    def advance(self, seconds: float) -> None:
        """Let so much true time pass."""
        shown_s = seconds * (1 + self.drift_ppm * 1e-6)
        self.true_t += seconds
        self.up_s += shown_s
        self.wall_t += shown_s

    def set_wall(self, wall_t: float) -> None:
        """Somebody sets the wall clock."""
        self.wall_t = wall_t

    def synchronise(self, error_s: float = 0.0) -> None:
        """Its wall clock is set by a server, to within `error_s` of the truth."""
        self.wall_t = self.true_t + error_s
        self.synchronised_at = self.up_s

    def probe(self) -> Synchronisation:
        """What the kernel says: its bound grows by 500 ppm, and above 16 s it knows nothing (adjtimex(2))."""
        if self.synchronised_at is None:
            return Synchronisation("kernel", None)
        error_s = 0.05 + (self.up_s - self.synchronised_at) * 500e-6
        return Synchronisation("kernel", error_s if error_s < 16 else None)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall_t, UTC)

    def boottime_ns(self) -> int:
        return round(self.up_s * 1e9)

    def monotonic_s(self) -> float:
        return self.up_s
