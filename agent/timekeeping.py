"""What the device knows about its clock: which boot this is, and whether the wall clock can be trusted."""

from __future__ import annotations

import asyncio
import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from collectors.enums import ClockQuality

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNCD_FLAG = Path("/run/systemd/timesync/synchronized")
_TIME_ERROR = 5
"""What adjtimex(2) returns while the kernel's clock is not synchronised."""
_TIMEX_BYTES = 512
"""More than sizeof(struct timex) on every platform; all zero asks and changes nothing."""
_CHECK_INTERVAL_S = 10.0


class StateTable(Protocol):
    """A small durable table (the buffer's)."""

    def get(self, key: str) -> dict[str, Any] | None:
        """What is stored under a key."""
        ...

    async def put(self, key: str, document: dict[str, Any]) -> None:
        """Store under a key; durable on return."""
        ...


async def count_boot(state: StateTable, boot_id: str | None = None) -> int:
    """Which boot of this device this is, counted from 1; durable before it is used."""
    if boot_id is None:
        boot_id = (await asyncio.to_thread(_BOOT_ID.read_text, encoding="ascii")).strip()
    known = state.get("boot") or {"count": 0, "id": ""}
    if known["id"] == boot_id:
        return int(known["count"])
    count = int(known["count"]) + 1
    await state.put("boot", {"count": count, "id": boot_id})
    return count


def clock_is_synchronised() -> bool:
    """Whether timesyncd or the kernel's own flag says that the wall clock is right."""
    if _TIMESYNCD_FLAG.exists():
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    # A zeroed struct timex: modes = 0 only asks. It fails where a sandbox forbids even that.
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return bool(0 <= state < _TIME_ERROR)


class ClockWatch:
    """Looks at the clock's synchronisation now and then, off the event loop; `quality` costs nothing."""

    def __init__(self, probe: Callable[[], bool] = clock_is_synchronised) -> None:
        self._probe = probe
        self._quality = ClockQuality.ESTIMATED

    def quality(self) -> ClockQuality:
        """How far a time stamped now can be trusted."""
        return self._quality

    async def look(self) -> None:
        """Ask once."""
        synchronised = await asyncio.to_thread(self._probe)
        self._quality = ClockQuality.SYNCED if synchronised else ClockQuality.ESTIMATED

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.look()
            await asyncio.sleep(_CHECK_INTERVAL_S)
