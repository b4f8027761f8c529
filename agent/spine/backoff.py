"""Back-off: how long to wait before the next attempt. Pure: time and randomness are given.

The first retry after an established session dropped is uniform over `first_s`, so that a thousand devices
whose server restarted come back spread out. Later ones use full jitter: uniform between zero and a ceiling
that doubles, up to `cap_s`. Where a fleet shares the other end it doubles from `first_s` on, after a session dropped:
those that a server refuses at first must not be seen again at once. Only a session that held for `stable_s` starts the sequence anew; one that
drops sooner counts as a further failure, so that a flapping link is not hammered.
"""

import random
from dataclasses import dataclass

_DOUBLINGS_MAX = 32
"""2**32 seconds is far beyond any cap; doubling on would only make huge numbers."""


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """The numbers of a back-off, in seconds."""

    first_s: float = 30.0
    """The first retry after an established session drops comes within this time."""
    base_s: float = 1.0
    """The ceiling of the first retry after a failed attempt; it doubles with each further failure."""
    cap_s: float = 300.0
    """The highest ceiling."""
    stable_s: float = 60.0
    """A session that held this long counts as a success."""
    fleet: bool = False
    """Many devices share the other end."""

    def __post_init__(self) -> None:
        for name in ("first_s", "base_s", "cap_s", "stable_s"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number of seconds, not negative: {value!r}")
        if not 0 < self.base_s <= self.cap_s:
            raise ValueError(f"base_s must be above zero and at most cap_s: {self.base_s!r}, {self.cap_s!r}")


LOCAL = BackoffPolicy(first_s=1.0, base_s=0.5, cap_s=30.0, stable_s=10.0)
"""For what is plugged into this device: nobody else is harmed by a quick retry."""


class Backoff:
    """The state of one link's back-off.

    Call `established` when a session was established and `delay_s` when an attempt failed or the session dropped.
    """

    def __init__(self, policy: BackoffPolicy, rng: random.Random) -> None:
        self.policy = policy
        self.failures = 0
        """Failures since the last stable session."""
        self._rng = rng
        self._established_at: float | None = None
        self._after_drop: int | None = None
        """Attempts since a session dropped; None when there was none to drop."""

    def established(self, now_s: float) -> None:
        """Note that a session was established at this monotonic time."""
        self._established_at = now_s

    def delay_s(self, now_s: float) -> float:
        """How long to wait, after a failed attempt or a dropped session, before the next attempt (seconds)."""
        since, self._established_at = self._established_at, None
        dropped = since is not None
        if since is not None and now_s - since >= self.policy.stable_s:
            self.failures = 0
        doublings = min(self.failures, _DOUBLINGS_MAX)
        ceiling = min(self.policy.cap_s, self.policy.base_s * 2**doublings)
        if dropped:
            ceiling = max(self.policy.first_s, ceiling) if self.failures else self.policy.first_s
            self._after_drop = 0
        elif self.policy.fleet and self._after_drop is not None:
            self._after_drop = min(self._after_drop + 1, _DOUBLINGS_MAX)
            ceiling = max(ceiling, min(self.policy.cap_s, self.policy.first_s * 2**self._after_drop))
        self.failures += 1
        return self._rng.uniform(0.0, ceiling)
