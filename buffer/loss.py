"""A loss: ids that will not be delivered, and why. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from buffer.ranges import RangeSet

NEVER_ISSUED: Final = "never issued"
NOT_JSON: Final = "not JSON"
TORN: Final = "damaged or torn at the end"
FILE_MISSING: Final = "file missing"
AT_MOST: Final = "file unreadable: at most"
"""Nobody knows how many ids were handed out there; `count` is all that may have been."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Ids that will not be delivered, and why."""

    first: int
    last: int
    count: int
    why: str
    file: str = field(default="", compare=False)
    """Whose damage it is, where that is told again after a crash; each file has a name of its own."""

    def beyond(self, mark: int) -> Loss | None:
        """The part of it above an id; None when there is none."""
        first = max(self.first, mark + 1)
        if first > self.last:
            return None
        return replace(self, first=first, count=min(self.count, self.last - first + 1))

    def without(self, deleted: RangeSet) -> Loss | None:
        """What it costs when some of the records had been deleted; None when all had been."""
        hit = deleted.count_within(self.first, self.last) if self.count else 0
        return None if hit >= self.count > 0 else replace(self, count=self.count - hit)
