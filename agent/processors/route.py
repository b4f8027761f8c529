"""Which readings a pipeline is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collectors.models import Reading


@dataclass(frozen=True, slots=True)
class Route:
    """A reading is on it when all that is named here holds; what is not named does not matter."""

    sources: frozenset[str] | None = None
    tags: Mapping[str, str] | None = None
    """The reading has all of these."""
    metrics: frozenset[str] | None = None
    """The reading has one of these at least."""

    def matches(self, reading: Reading) -> bool:
        """Whether a reading is on it."""
        if self.sources is not None and reading.source not in self.sources:
            return False
        if self.tags is not None and any(reading.tags.get(name) != tag for name, tag in self.tags.items()):
            return False
        return self.metrics is None or not self.metrics.isdisjoint(reading.values)
