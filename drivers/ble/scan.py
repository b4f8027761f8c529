"""How to scan so that every source hears what it wants. Pure.

A passive scan only listens: it costs sensors no answer and us no request. BlueZ does it for advertisements that hold given
patterns, so it serves sources that can say what the data they want begins with. Everything else, and names, which most sensors
tell only when asked, needs an active scan; that one hears all that a passive one does.

And a passive scan tells an advertisement only when something in it has changed. That is enough where each measurement has
a number; where it has none, 'measured again, and the same' would never be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from drivers.codecs import advertisement
from drivers.codecs.advertisement import uuid_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

Mode: TypeAlias = Literal["auto", "passive", "active"]
Pattern: TypeAlias = tuple[int, int, bytes]
"""At which place of an AD structure, of which type, which bytes."""

PATTERNS_MAX: Final = 7
"""bluetoothd 5.66 counts the bytes of a monitor's patterns, 34 each, in one byte: an eighth makes it overwrite its own memory
and end. Sources that want more share an active scan."""


@dataclass(frozen=True, slots=True)
class Want:
    """What one source wants."""

    mode: Mode
    patterns: tuple[Pattern, ...] = ()
    """What the advertisements hold that it wants; empty when that cannot be said."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan that serves several sources."""

    passive: bool = False
    passive_only: bool = False
    """Some source does not want an active scan in its place."""
    patterns: tuple[Pattern, ...] = ()


def combined(wants: Sequence[Want], *, passive_works: bool) -> Scan | None:
    """The scan that serves all; None when nobody wants one."""
    if not wants:
        return None
    if all(want.mode != "active" and want.patterns for want in wants):
        passive_only = any(want.mode == "passive" for want in wants)
        patterns = {pattern for want in wants for pattern in want.patterns}
        if len(patterns) <= PATTERNS_MAX and (passive_works or passive_only):
            return Scan(passive=True, passive_only=passive_only, patterns=tuple(sorted(patterns)))
    return Scan()


def company_patterns(company: int) -> tuple[Pattern, ...]:
    """Advertisements with data of a company."""
    return ((0, advertisement.MANUFACTURER_DATA, company.to_bytes(2, "little")),)


def service_patterns(uuid: str) -> tuple[Pattern, ...]:
    """Advertisements with data of a service."""
    identifier = uuid_bytes(uuid)
    is_short = len(identifier) == 2  # noqa: PLR2004 (bytes of a short UUID)
    kind = advertisement.SERVICE_DATA_16 if is_short else advertisement.SERVICE_DATA_128
    return ((0, kind, identifier),)
