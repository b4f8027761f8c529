"""The lanes in which readings go upstream: alarms first, then what is measured now, then the backlog.

A lane is a sequence of its own: within one, readings leave in the order of their ids. What was stored when the
connection came up is backlog, what is stored after that is live; the id between the two is the frontier.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from collectors.enums import Lane


class SendLane(StrEnum):
    """In the order of their rank."""

    ALARM = "alarm"
    LIVE = "live"
    BACKFILL = "backfill"

    @property
    def stored(self) -> str:
        """The buffer's lane that its readings are in."""
        return Lane.ALARM.value if self is SendLane.ALARM else Lane.NORMAL.value


LANES: Final = tuple(SendLane)
