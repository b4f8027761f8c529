"""What a sender says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class SenderStatus:
    """How delivery to one upstream does."""

    name: str
    state: str
    """stopped, connecting, connected, retrying (time mends it) or paused (the operator must act)."""
    since: datetime
    backlog: int
    in_flight: int
    """Readings that are taken from the buffer and not yet acknowledged."""
    delivered: int
    dead_letters: int
    """Readings set aside."""
    last_delivery: datetime | None
    last_error: str | None
    oldest: datetime | None
    """When the oldest reading on its way was measured."""
    holding_back: str | None
    """Why the backlog is not being delivered now, in one line; None while it is."""
