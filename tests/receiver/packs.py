"""Packs as a device makes them."""

from __future__ import annotations

from typing import Any

from agent.receiver.packs import Received, unpack
from agent.sync.packing import Packer
from tests.sync.memory_buffer import MemoryRecord, reading

STORE = "5a" * 16


def payload(
    first: int = 1, count: int = 20, *, device: str = "greenhouse-3", store: str = STORE, **fields: Any
) -> bytes:
    records = [MemoryRecord(n, reading("soil", n, **fields)) for n in range(first, first + count)]
    return Packer(1 << 20).pack(device, store, records).payload


def received(first: int = 1, count: int = 20, **names: Any) -> Received:
    return unpack(payload(first, count, **names))
