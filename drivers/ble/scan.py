"""How to scan so that every source hears what it wants. Pure.

A passive scan only listens: it costs sensors no answer and us no request. BlueZ does it for advertisements that hold given
patterns, so it serves sources that can say what the data they want begins with. Everything else, and names, which most sensors
tell only when asked, needs an active scan; that one hears all that a passive one does.
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

_LISTED_PLACES: Final = (0, 2, 4, 6)
"""Where a service's short UUID is sought in the list of those that a sensor has: few have more than four."""


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
        if passive_works or passive_only:
            patterns = {pattern for want in wants for pattern in want.patterns}
            return Scan(passive=True, passive_only=passive_only, patterns=tuple(sorted(patterns)))
    return Scan()


def company_patterns(company: int) -> tuple[Pattern, ...]:
    """Advertisements with data of a company."""
    return ((0, advertisement.MANUFACTURER_DATA, company.to_bytes(2, "little")),)


def service_patterns(uuid: str) -> tuple[Pattern, ...]:
    """Advertisements with data of a service, or that name it among the first."""
    identifier = uuid_bytes(uuid)
    if len(identifier) == 2:  # noqa: PLR2004 (bytes of a short UUID)
        lists = (advertisement.UUIDS_16_SOME, advertisement.UUIDS_16)
        listed = [(place, kind, identifier) for kind in lists for place in _LISTED_PLACES]
        return ((0, advertisement.SERVICE_DATA_16, identifier), *listed)
    lists = (advertisement.UUIDS_128_SOME, advertisement.UUIDS_128)
    return ((0, advertisement.SERVICE_DATA_128, identifier), *((0, kind, identifier) for kind in lists))
