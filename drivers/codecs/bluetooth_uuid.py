"""UUIDs as Bluetooth uses them: in full, and the short ones of the SIG's assigned numbers."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID

UUID_TAIL: Final = "-0000-1000-8000-00805f9b34fb"
"""What the SIG's short UUIDs are short for (Core Specification, volume 3, part B, 2.5.1)."""

_SHORT: Final = re.compile(r"(0x)?([0-9a-f]{4}|[0-9a-f]{8})")
_SHORT_BITS: Final = 32


def full_uuid(identifier: Any) -> str:
    """A UUID in full and in small letters: from itself, or from the SIG's short form as number or hexadecimal text.

    Raises:
        ValueError: It is none.
    """
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        if 0 < identifier < 1 << _SHORT_BITS:
            return f"{identifier:08x}{UUID_TAIL}"
    elif isinstance(identifier, str):
        text = identifier.strip().lower()
        if short := _SHORT.fullmatch(text):
            return f"{int(short[2], 16):08x}{UUID_TAIL}"
        try:
            return str(UUID(text))
        except ValueError:
            pass
    raise ValueError(
        f"{identifier!r} is no UUID: write a short one like 0x181A, another one in full, with its 32 digits"
    )


def short_uuid(uuid: str) -> int | None:
    """The short form of a UUID of the SIG's; None for any other."""
    return int(uuid[:8], 16) if uuid.endswith(UUID_TAIL) else None


def shown_uuid(uuid: str) -> str:
    """A UUID as people know it: `0x181A`, or in full."""
    short = short_uuid(uuid)
    return uuid if short is None else f"0x{short:04X}"
