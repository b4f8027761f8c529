"""Which boot of the device this is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StateTable(Protocol):
    """A small durable table (the buffer's)."""

    def get(self, key: str) -> dict[str, Any] | None:
        """What is stored under a key."""
        ...

    def items(self) -> Sequence[tuple[str, dict[str, Any]]]:
        """All rows."""
        ...

    async def put(self, key: str, document: dict[str, Any]) -> None:
        """Store under a key; durable on return."""
        ...

    async def put_all(self, rows: dict[str, Any]) -> None:
        """Store several rows (None removes one), all or none; durable on return."""
        ...


@dataclass(frozen=True, slots=True)
class Boot:
    """A boot of this device."""

    count: int
    """Counted from 1; 0: unknown, on a disk that takes nothing."""
    is_new: bool
    """It was not seen before."""


async def recognise_boot(state: StateTable, boot_id: str | None = None) -> Boot:
    """Which boot of this device this is, by the kernel's boot id; durable before it is used."""
    if boot_id is None:
        boot_id = (await asyncio.to_thread(_BOOT_ID.read_text, encoding="ascii")).strip()
    known = state.get("boot") or {"count": 0, "id": ""}
    if known["id"] == boot_id:
        return Boot(int(known["count"]), is_new=False)
    count = int(known["count"]) + 1
    await state.put("boot", {"count": count, "id": boot_id})
    return Boot(count, is_new=True)
