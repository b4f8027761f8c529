"""The feeder: takes batches from the buffer, makes packs of them, and puts them into the outbox.

It decides what is sent next and when a batch is complete; the sender decides when a pack goes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol

from agent.sync.batches import B, Consumer
from agent.sync.packing import Packer, Parcel, parcels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.sync.batches import Record
    from agent.sync.outbox import Outbox

_THREAD_READINGS_MIN = 50
"""Larger batches are encoded off the loop (at 4 us a reading, 50 keep it 0.2 ms)."""
_GROWTH = 20
"""After a pack that was too large, batches grow again by a twentieth an acknowledgement."""
_IDLE_WAIT_S = 1.0
_LINGER_SLICE_S = 0.25
"""How soon a lingering feeder notices that it should hurry."""


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How readings are gathered into batches."""

    batch_readings: int = 1000
    batch_bytes: int = 48 * 1024
    """Bytes of stored documents in a batch. A pack is smaller when compressed (6 to 8 bytes a value)."""
    linger_s: float = 1.0
    """How long readings may gather before a batch that is not full is sent."""


class Timing(Protocol):
    """Gives readings their final time, before they are first sent."""

    def linked(self) -> None:
        """A connection was made."""
        ...

    async def apply(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records with their final times; may wait a while for better ones."""
        ...


class Feeder(Generic[B]):
    """Feeds one outbox.

    Args:
        consumer: Where batches come from.
        outbox: Where packs go.
        wake: Set whenever something was put there.
        packer: Makes the packs.
        options: How readings are gathered into batches.
        timing: Gives readings their final time.
    """

    def __init__(
        self,
        consumer: Consumer[B],
        outbox: Outbox[B],
        wake: asyncio.Event,
        packer: Packer,
        options: SendOptions,
        timing: Timing,
    ) -> None:
        self.hurry = False
        """Send what is there; do not linger."""
        self._consumer = consumer
        self._outbox = outbox
        self._wake = wake
        self._packer = packer
        self._options = options
        self._timing = timing
        self._readings_max = options.batch_readings
        self._fitting = options.batch_readings
        """How many readings the bytes of a batch have room for, as the last one showed."""
        self._room = asyncio.Event()

    async def run(self, depth: Callable[[], int]) -> None:
        """Keep `depth()` packs in the outbox, as long as there are readings, until cancelled."""
        while True:
            while len(self._outbox) >= depth():
                self._room.clear()
                await self._room.wait()
            batch = await self._next_batch()
            try:
                records = await self._timing.apply(batch.records)
                pieces = await self.pack(batch.device_id, batch.store_id, records)
            except BaseException:
                self._consumer.release(batch)
                raise
            self._outbox.add(batch, pieces)
            self._wake.set()

    def made_room(self) -> None:
        """Something left the outbox."""
        self._room.set()

    def shrink(self, readings: int) -> None:
        """A pack was too large for the other end: take smaller batches from now on."""
        self._readings_max = max(1, min(self._readings_max, readings))

    def grow(self) -> None:
        """A pack was acknowledged: batches may be a little larger again."""
        grown = self._readings_max + 1 + self._readings_max // _GROWTH
        self._readings_max = min(self._options.batch_readings, grown)

    async def pack(
        self, device_id: str, store_id: str, records: Sequence[Record], *, halve: bool = False
    ) -> list[Parcel]:
        """Parcels of these records, made off the loop when that takes long."""
        if len(records) < _THREAD_READINGS_MIN:
            return parcels(self._packer, device_id, store_id, records, halve=halve)
        return await asyncio.to_thread(parcels, self._packer, device_id, store_id, records, halve=halve)

    async def _next_batch(self) -> B:
        """The next batch: at once when it would be full, else when its readings have lingered."""
        loop = asyncio.get_running_loop()
        while True:
            if not await self._consumer.wait(_IDLE_WAIT_S):
                continue
            until_s = loop.time() + self._options.linger_s
            while self._available() < min(self._readings_max, self._fitting) and not self.hurry:
                left_s = until_s - loop.time()
                if left_s <= 0:
                    break
                await asyncio.sleep(min(left_s, _LINGER_SLICE_S))
            wanted = min(self._readings_max, self._available())
            batch = await self._consumer.take(self._readings_max, self._options.batch_bytes)
            if batch is not None:
                taken = len(batch.records)
                self._fitting = taken if taken < wanted else self._options.batch_readings
                return batch
            await asyncio.sleep(_LINGER_SLICE_S)  # ids that were no readings; never spin on them

    def _available(self) -> int:
        return self._consumer.backlog - self._outbox.readings
