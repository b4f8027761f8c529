"""A buffer in memory, as strict as the real one: only what was taken can be acknowledged, once, exactly."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class MemoryRecord:
    seq: int
    document: dict[str, Any]


@dataclass(frozen=True)
class MemoryBatch:
    device_id: str
    store_id: str
    first: int
    last: int
    records: tuple[MemoryRecord, ...]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def encoded(self) -> bytes:
        fragments = [
            b'"%d":%s' % (record.seq, json.dumps(record.document, separators=(",", ":")).encode())
            for record in self.records
        ]
        return b"{" + b",".join(fragments) + b"}"

    def forget_parsed(self) -> None:
        """There are no bytes behind these."""


class MemoryConsumer:
    def __init__(self, device_id: str = "greenhouse-3", store_id: str = "5a" * 16) -> None:
        self.device_id, self.store_id = device_id, store_id
        self.records: list[MemoryRecord] = []
        self.acked: set[int] = set()
        self.taken: dict[tuple[int, int], MemoryBatch] = {}
        self.acks: list[tuple[int, int]] = []
        self.released: list[tuple[int, int]] = []
        self._free: set[int] = set()
        self._new = asyncio.Event()

    def add(self, *documents: dict[str, Any]) -> None:
        start = self.records[-1].seq + 1 if self.records else 1
        self.records += [MemoryRecord(start + place, document) for place, document in enumerate(documents)]
        self._free |= set(range(start, start + len(documents)))
        self._new.set()
        self._new = asyncio.Event()

    def add_readings(self, count: int, source: str = "soil", **fields: Any) -> None:
        start = self.records[-1].seq + 1 if self.records else 1
        self.add(*(reading(source, n, **fields) for n in range(start, start + count)))

    @property
    def backlog(self) -> int:
        return len(self.records) - len(self.acked)

    @property
    def newest_id(self) -> int:
        return len(self.records)

    def _part(self, lane: str | None, after: int, upto: int | None) -> Iterator[MemoryRecord]:
        if not self._free:
            return
        for record in self.records[max(after, min(self._free) - 1) : upto]:
            if record.seq in self._free and lane in {None, record.document.get("lane", "normal")}:
                yield record

    async def take(
        self,
        n: int,
        max_bytes: int | None = None,
        *,
        lane: str | None = None,
        after: int = 0,
        upto: int | None = None,
        parsed: bool = True,
    ) -> MemoryBatch | None:
        await asyncio.sleep(0)
        chosen = list(islice(self._part(lane, after, upto), n))
        self._free -= {record.seq for record in chosen}
        if not chosen:
            return None
        batch = MemoryBatch(self.device_id, self.store_id, chosen[0].seq, chosen[-1].seq, tuple(chosen))
        self.taken[batch.first, batch.last] = batch
        return batch

    def ack(self, batch: MemoryBatch) -> None:
        assert self.taken.pop((batch.first, batch.last)) is batch, "not taken, or acknowledged twice"
        self.acked |= {record.seq for record in batch.records}
        self.acks.append((batch.first, batch.last))

    def release(self, batch: MemoryBatch) -> None:
        assert self.taken.pop((batch.first, batch.last)) is batch
        self._free |= {record.seq for record in batch.records}
        self.released.append((batch.first, batch.last))

    async def wait(
        self, timeout_s: float, *, lane: str | None = None, after: int = 0, upto: int | None = None
    ) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while next(self._part(lane, after, upto), None) is None:
                    new = self._new
                    await new.wait()
        except TimeoutError:
            return False
        return True


class MemoryDeadLetters:
    def __init__(self) -> None:
        self.letters: list[dict[str, Any]] = []
        self.failures: list[Exception] = []
        self.disk = asyncio.Event()
        """Cleared: it refuses."""
        self.disk.set()

    def append(self, letter: bytes) -> int:
        if self.failures:
            raise self.failures.pop(0)
        self.letters.append(from_json(letter))
        return len(self.letters)

    async def durable(self, letter_id: int) -> None:
        assert 0 < letter_id <= len(self.letters)
        await asyncio.sleep(0)
        await self.disk.wait()

    @property
    def seqs(self) -> list[int]:
        return [seq for letter in self.letters for seq, _ in letter["readings"]]


def reading(source: str, n: int, **fields: Any) -> dict[str, Any]:
    return {
        "source": source,
        "t": 1790000000.0 + n,
        "values": {"temperature": 20 + n / 100, "humidity": 55.2},
        "units": {"temperature": "Cel"},
        **fields,
    }
