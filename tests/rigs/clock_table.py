"""Small durable tables in memory, with a disk that can refuse, or take its time."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import Any

from buffer import DiskFault


class MemoryTable:
    """One table."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.writes = 0
        self.refuses = False
        self.quick = asyncio.Event()
        self.quick.set()

    def get(self, key):
        return deepcopy(self.rows.get(key))

    def items(self):
        return list(deepcopy(self.rows).items())

    async def put(self, key, document):
        await self.put_all({key: document})

    async def put_all(self, rows):
        if self.refuses:
            raise DiskFault("the disk refuses")
        if not self.quick.is_set():
            await self.quick.wait()
        self.writes += 1
        for key, row in rows.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = deepcopy(row)


class MemoryTables:
    """All tables of a device; they outlive the objects that use them."""

    def __init__(self) -> None:
        self.tables: dict[str, MemoryTable] = {}

    def __call__(self, name: str) -> MemoryTable:
        return self.tables.setdefault(name, MemoryTable())

    @property
    def writes(self) -> int:
        return sum(table.writes for table in self.tables.values())

    def refuse(self, *, refuses: bool) -> None:
        for table in self.tables.values():
            table.refuses = refuses
