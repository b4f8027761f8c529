"""Whether the agent gets on: readings that have come in become durable, or it is known why they do not.

Being alive is not enough: an agent that hangs in the middle of its way through the device answers every question and keeps
nothing. So what is looked at is the way itself. Nothing under way is no trouble; neither is a disk that refuses, or a buffer that is
full and told to wait: both are known, said, and no better after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STUCK_S = 120.0
"""What is under way for so long without anything arriving is stuck. A commit takes milliseconds; on a worn card, seconds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far things have come at one moment."""

    under_way: bool
    """Something has come in that is not durable yet."""
    arrived: tuple[int, ...]
    """Grows whenever something arrives: frames taken in, and the last durable id of each table."""
    hindered: bool = False
    """It is known why nothing arrives: the disk refuses, or the buffer is full."""


class Forward:
    """Tells progress from standstill.

    Args:
        standing: How far things have come.
        now_s: A monotonic clock, in seconds.
        stuck_s: How long nothing may arrive while something is under way.
    """

    def __init__(
        self, standing: Callable[[], Standing], now_s: Callable[[], float], *, stuck_s: float = STUCK_S
    ) -> None:
        self._standing = standing
        self._now_s = now_s
        self._stuck_s = stuck_s
        self._arrived: tuple[int, ...] | None = None
        self._since_s = now_s()

    def stuck_for_s(self) -> float | None:
        """For how long nothing has arrived that should have; None while things move."""
        standing, now_s = self._standing(), self._now_s()
        if not standing.under_way or standing.hindered or standing.arrived != self._arrived:
            self._arrived = standing.arrived
            self._since_s = now_s
        stuck_s = now_s - self._since_s
        return stuck_s if stuck_s >= self._stuck_s else None
