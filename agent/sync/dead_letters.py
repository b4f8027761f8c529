"""What an upstream will never take: set aside durably, with its reason and its keys, so that it can be sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pydantic_core import PydanticSerializationError, to_json

from agent.dead_letters import TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.sync.batches import Record


class DeadLetterBox(Protocol):
    """Where dead letters are kept."""

    def append(self, letter: bytes) -> int:
        """Take one (a JSON object), not yet durable; its id. Raises RuntimeError or OSError when it cannot be."""
        ...

    async def durable(self, letter_id: int) -> None:
        """Wait until it is durable: for ever on a disk that refuses. Raises RuntimeError or OSError."""
        ...


class _Appending(Protocol):
    """The part of the buffer that is needed here."""

    def append(self, documents: Sequence[bytes], *, table: str) -> range: ...

    async def wait_durable(self, last_id: int, *, table: str) -> None: ...


class BufferDeadLetters:
    """Dead letters in the buffer's own table."""

    def __init__(self, buffer: _Appending) -> None:
        self._buffer = buffer

    def append(self, letter: bytes) -> int:
        """Append one."""
        return self._buffer.append([letter], table=TABLE)[-1]

    async def durable(self, letter_id: int) -> None:
        """Wait until it is durable."""
        await self._buffer.wait_durable(letter_id, table=TABLE)


def undelivered(
    records: Sequence[Record], *, upstream: str, device_id: str, store_id: str, reason: str, t: float
) -> bytes:
    """The dead letter of some readings, as JSON. They keep their keys."""
    letter = {
        "t": round(t, 6),
        "stage": "upstream",
        "reason": reason,
        "upstream": upstream,
        "device_id": device_id,
        "store_id": store_id,
        "readings": [[record.seq, record.document] for record in records],
    }
    try:
        return to_json(letter)
    except PydanticSerializationError:
        # Half a surrogate pair, say: the very thing that made it undeliverable.
        return to_json(letter | {"readings": [[r.seq, {"not_json": ascii(r.document)}] for r in records]})
