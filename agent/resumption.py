"""Tells sources that can ask their device for readings again which of them are stored.

After a SIGKILL or a power cut nobody but the buffer knows what is durable: the newest readings of each such source
are read from it once, before the source connects. What was dropped by a rule of a pipeline is not there, and is asked
for again; that costs a few frames.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from collectors.models import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

SOUGHT = 32_768
"""Newest records that are searched (9 us each: 0.3 s at most)."""


class Recalling(Protocol):
    """What is needed of the buffer."""

    async def visit_recent(self, n: int, visit: Callable[[int, dict[str, Any]], None], *, table: str) -> None:
        """Call `visit(id, document)` in a thread for each of the newest records, oldest first."""
        ...


async def newest_readings(
    buffer: Recalling, wanted: Mapping[str, int], *, table: str, boot: int
) -> dict[str, list[Reading]]:
    """The newest stored readings of some sources, oldest first.

    Args:
        buffer: Where they are.
        wanted: How many of each source.
        table: Of readings.
        boot: The present boot of this device; the uptime of readings of others compares with nothing, and is 0.
    """
    found: dict[str, deque[dict[str, Any]]] = {
        source: deque(maxlen=count) for source, count in wanted.items()
    }

    def look(_record_id: int, document: dict[str, Any]) -> None:
        documents = found.get(document.get("source", ""))
        if documents is not None:
            documents.append(document)

    await buffer.visit_recent(SOUGHT, look, table=table)
    return {source: list(_readings(documents, boot)) for source, documents in found.items()}


def _readings(documents: Iterable[dict[str, Any]], boot: int) -> Iterator[Reading]:
    for document in documents:
        try:
            reading = Reading.from_document(document)
        except ValueError:  # of another version: its source asks for it again
            continue
        yield reading if reading.boot == boot else reading.model_copy(update={"up": 0})
