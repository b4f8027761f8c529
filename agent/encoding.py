"""The readings of one message, as they are kept: documents of JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collectors.models import Reading

_TURN_READINGS: Final = 500
"""So many are encoded before others have their turn on the event loop: 1.5 ms."""


async def encoded(readings: Sequence[Reading]) -> list[bytes]:
    """All of them, in their order."""
    documents: list[bytes] = []
    for first in range(0, len(readings), _TURN_READINGS):
        if first:
            await asyncio.sleep(0)
        documents += map(to_json, _documents(readings, first, first + _TURN_READINGS))
    return documents


def _documents(readings: Sequence[Reading], first: int, end: int) -> list[dict[str, Any]]:
    """Some of a message's readings as they are kept.

    The last one alone says where all came from: should we be killed between two commits, a message of which
    only a part is durable is not recognised when it comes again, and so is kept whole.
    """
    kept = [reading.to_document() for reading in readings[first:end]]
    for document in kept[:-1] if end >= len(readings) else kept:
        document.pop("origin", None)
    return kept
