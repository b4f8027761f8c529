"""What a look around finds: the common form of what the scouts of all drivers report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Finding:
    """Something that was seen, and the source that would collect it."""

    what: str
    """What was seen, in one line."""
    source: dict[str, Any] | None = None
    """The keys of a `[[source]]`; `id` is only a proposal. None where there is nothing to propose: `what` says why."""
    notes: list[str] = field(default_factory=list)
    """What a person should look at before using it."""


class Scout(Protocol):
    """Looks at one place for a while."""

    @property
    def place(self) -> str:
        """Where it looks, for people."""
        ...

    async def look(self, seconds: float) -> list[Finding]:
        """Look for so long; what was found. Disturbs nobody.

        Raises:
            ConnectionError: It cannot look there.
        """
        ...

    def enough(self) -> None:
        """Look no longer: what was found by now is what `look` returns, soon."""
        ...
