"""How delivery to one upstream stands: what went wrong, how long to wait, and what to tell about it.

The sender says what happened; nothing here sends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.spine.backoff import Backoff, BackoffPolicy
from agent.spine.errors import describe
from agent.sync.upstream import LinkLost, Paused, RetryLater, UpstreamError

if TYPE_CHECKING:
    import random

    from agent.sync.upstream import Upstream
    from collectors.clock import Clock

_log = logging.getLogger(__name__)

RETRY_AFTER_MAX_S = 3600.0
"""A server that asks for more is asked again after this time: readings may have waited long enough."""


class Standing:
    """The standing of one upstream.

    Args:
        name: The upstream's name in the configuration.
        upstream: Where it goes.
        retry: The numbers of the back-off.
        clock: Tells when.
        rng: Chance, for the back-off.

    Attributes:
        state: stopped, connecting, connected, retrying (time mends it) or paused (the operator must act).
        since: Since when.
        error: What keeps it from delivering now; None when nothing does.
        last_error: What went wrong last, in words.
        linked: There is a connection.
    """

    def __init__(
        self, name: str, upstream: Upstream, retry: BackoffPolicy, clock: Clock, rng: random.Random
    ) -> None:
        self.state = "stopped"
        self.since = clock.now()
        self.error: UpstreamError | None = None
        self.last_error: str | None = None
        self.linked = False
        self._name = name
        self._upstream = upstream
        self._backoff = Backoff(retry, rng)
        self._clock = clock
        self._rng = rng
        self._hold_until_s = 0.0

    def enter(self, state: str) -> None:
        """It is in this state now."""
        if state != self.state:
            self.state = state
            self.since = self._clock.now()

    def established(self) -> None:
        """A connection was made, or the first answer came where none lasts."""
        self._backoff.established(self._clock.monotonic_s())

    def recovered(self) -> None:
        """It delivers."""
        if self.error is not None:
            _log.info("sync: %s delivers again", self._name)
        self.error = None
        self.enter("connected")

    def failed(self, error: UpstreamError) -> bool:
        """Nothing shall be sent for a while; returns whether that is news."""
        paused = isinstance(error, Paused)
        news = self.error is None or isinstance(self.error, Paused) is not paused
        if not news and self.hold_left_s > 0:
            return False  # the rest of a window that failed as one
        self._hold_until_s = asyncio.get_running_loop().time() + self._delay_s(error)
        self.error, self.last_error = error, describe(error)
        self.enter("paused" if paused else "retrying")
        return news

    @property
    def hold_left_s(self) -> float:
        """How long nothing is to be sent; negative when it may."""
        return self._hold_until_s - asyncio.get_running_loop().time()

    def _delay_s(self, error: UpstreamError) -> float:
        policy = self._backoff.policy
        if isinstance(error, RetryLater) and error.retry_after_s is not None:
            # The server knows best; a quarter more, at chance, so that not all come back at once.
            asked_s = min(error.retry_after_s, RETRY_AFTER_MAX_S)
            return asked_s + self._rng.uniform(0, policy.base_s + asked_s / 4)
        now_s = self._clock.monotonic_s()
        delay_s = self._backoff.delay_s(now_s)
        if self._upstream.lasting and self.linked and not isinstance(error, LinkLost):
            self._backoff.established(now_s)  # the connection itself still stands
        if isinstance(error, Paused):
            return max(delay_s, self._rng.uniform(policy.cap_s / 2, policy.cap_s))
        return delay_s

    @property
    def holding_back(self) -> str | None:
        """Why the backlog is not being delivered now, in one line; None while it is."""
        if self.state == "stopped":
            return "delivery is stopped"
        if self.error is None:
            return None if self.state == "connected" else f"connecting to {self._upstream.name}"
        left_s = self.hold_left_s
        when = f"next try in {left_s:.0f} s" if left_s > 0.5 else "trying now"  # noqa: PLR2004 (rounds to 0)
        return f"{describe(self.error)}; {when}"
