"""Which readings an upstream wants: of some sources, of a lane, with some tags. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collectors.enums import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Route:
    """What goes to one upstream. Each part that is set must fit."""

    sources: frozenset[str] | None = None
    lanes: frozenset[str] | None = None
    tags: Mapping[str, str] | None = None
    """A reading must have all of these."""

    def wants(self, document: Mapping[str, Any]) -> bool:
        """Whether a reading goes there. What is no reading goes everywhere, to be set aside."""
        source, lane, tags = (
            document.get("source"),
            document.get("lane", Lane.NORMAL.value),
            document.get("tags", {}),
        )
        if not (isinstance(source, str) and isinstance(lane, str) and isinstance(tags, dict)):
            return True
        if self.sources is not None and source not in self.sources:
            return False
        if self.lanes is not None and lane not in self.lanes:
            return False
        return self.tags is None or all(tags.get(name) == value for name, value in self.tags.items())
