"""What all codecs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a frame says at one time: the values of a reading to be."""

    values: dict[str, bool | int | float | str]
    """At least one; numbers are finite, integers fit 64 bits, names are not empty."""
    t: float | None = None
    """When it was measured, seconds since 1970-01-01 UTC, if the frame itself says so."""
    offset_s: float = 0.0
    """How long after its arrival it was measured, in seconds, when the frame says that instead of `t`; below zero: before."""
    units: dict[str, str] = field(default_factory=dict)
    """Unit of a metric, if the frame itself says so."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags of the reading, if the frame itself says what it is about."""


Codec: TypeAlias = Callable[[bytes], list[Decoded]]
"""Bytes to readings; raises ValueError, and nothing else, for bytes that are not in its format."""

EXCERPT_LENGTH: Final = 48
"""How much of a bad payload or name an error message shows: enough to recognise it, one line in a log."""


def excerpt(raw: bytes) -> str:
    """A payload as an error message shows it."""
    if len(raw) <= EXCERPT_LENGTH:
        return repr(raw)
    return f"{raw[:EXCERPT_LENGTH]!r}... ({len(raw)} bytes)"
