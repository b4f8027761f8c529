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
        if self.sources is not None and document.get("source", None) not in {*self.sources, None}:
            return False
        if self.lanes is not None and document.get("lane", Lane.NORMAL.value) not in self.lanes:
            return False
        if self.tags is not None:
            tags = document.get("tags", {})
            return all(tags.get(name) == value for name, value in self.tags.items())
        return True
