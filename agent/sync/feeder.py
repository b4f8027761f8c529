"""The feeder: takes batches from the buffer, lane by lane, makes packs of them, and puts them into the outbox.

It decides what is in a batch and when it is complete; the sender's schedule decides when a pack goes. What was
stored when the connection came up is backlog, and goes oldest first. What comes later is live, and goes oldest
first, too, as long as the link keeps up; where it does not, what is left behind for long becomes backlog, so
that live stays live. Either lane keeps the order of the ids. Alarms wait for nothing.

A lane that cannot be read, or has something in it that nobody foresaw, waits and tries again; the others go on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypedDict

from agent.spine.cancellation import is_being_cancelled
from agent.sync.batches import B, Consumer
from agent.sync.lanes import LANES, SendLane
from agent.sync.packing import Packer, Parcel, parcels
from agent.sync.requeued import LetterBatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent.sync.batches import Record
    from agent.sync.frozen import Bounds
    from agent.sync.outbox import Outbox
    from agent.sync.routes import Route

_THREAD_READINGS_MIN = 50
"""Larger batches are encoded off the loop (at 4 us a reading, 50 keep it 0.2 ms)."""
_GROWTH = 20
"""After a pack that was too large, batches grow again by a twentieth an acknowledgement."""
_IDLE_WAIT_S = 1.0
_LINGER_SLICE_S = 0.25
"""How soon a lingering feeder notices that it should hurry."""
FAULT_WAIT_S = 10.0
"""How soon a lane that cannot be read is read again."""
_BEHIND_S = 15.0
"""Live readings that wait for so long after they have lingered, since the link does not keep up, are backlog."""


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

    def concerns(self, encoded: bytes) -> bool:
        """Whether records, as they are stored, may need another time."""
        ...

    async def apply(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records with their final times; may wait a while for better ones."""
        ...


class _Part(TypedDict, total=False):
    """Which part of the buffer a lane is, as `Consumer.take` has it."""

    lane: str
    after: int
    upto: int


class Feeder(Generic[B]):
    """Feeds one outbox.

    Args:
        consumer: Where batches come from.
        outbox: Where packs go.
        wake: Set whenever something was put there.
        packer: Makes the packs.
        options: How readings are gathered into batches.
        timing: Gives readings their final time.
        on_fault: Is told when a lane cannot be read, once each time that it begins.
        route: What the upstream wants. The rest is acknowledged for it, so that nothing is kept for it in vain.
    """

    def __init__(
        self,
        consumer: Consumer[B],
        outbox: Outbox[B],
        wake: asyncio.Event,
        packer: Packer,
        options: SendOptions,
        timing: Timing,
        on_fault: Callable[[Exception], Awaitable[None]],
        route: Route | None = None,
    ) -> None:
        self.hurry = False
        """Send what is there; do not linger."""
        self._consumer = consumer
        self._outbox = outbox
        self._wake = wake
        self._packer = packer
        self._options = options
        self._timing = timing
        self._on_fault = on_fault
        self._faulty: set[SendLane] = set()
        self._route = route
        self._skipped_to = 0
        self._readings_max = options.batch_readings
        self._fitting = options.batch_readings
        """How many readings the bytes of a batch have room for, as the last one showed."""
        self._room = {lane: asyncio.Event() for lane in LANES}
        self._frontier = 0
        """Readings beyond this id are live."""
        self._live_to = 0
        """Up to here live readings were taken."""

    def linked(self) -> None:
        """A connection was made: what was stored until now is backlog."""
        self._frontier = self._live_to = self._consumer.newest_id
        self._timing.linked()

    async def run(self, depth: Callable[[], int]) -> None:
        """Keep `depth()` packs of each lane in the outbox, as long as there are readings, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for lane in LANES:
                group.create_task(self._run_lane(lane, depth), name=f"sync-feed:{lane}")
            group.create_task(self._watch_age(), name="sync-feed:age")

    async def _run_lane(self, lane: SendLane, depth: Callable[[], int]) -> None:
        while True:
            while self._outbox.waiting(lane) >= depth():
                self._room[lane].clear()
                await self._room[lane].wait()
            try:
                await self._put(await self._next_batch(lane), lane)
            except Exception as error:  # a sick disk, or a bug that one batch has met: told, and tried again
                if is_being_cancelled():
                    raise asyncio.CancelledError from error
                if lane not in self._faulty:
                    self._faulty.add(lane)
                    await self._on_fault(error)
                await asyncio.sleep(FAULT_WAIT_S)
            else:
                self._faulty.discard(lane)

    async def _put(self, batch: B, lane: SendLane) -> None:
        """Put a batch into the outbox; or acknowledge it, when nothing in it is wanted."""
        try:
            pieces = await self._pieces(batch)
        except BaseException:
            self._consumer.release(batch)
            raise
        if pieces:
            self._outbox.add(batch, pieces, lane)
        else:
            self._consumer.ack(batch)
        self._wake.set()

    async def _pieces(self, batch: B) -> list[Parcel]:
        parcel = await self._pack_as_stored(batch)
        if parcel is not None:
            return [parcel]
        wanted = self._wanted(batch)
        if not wanted:
            return []
        records = await self._timing.apply(wanted)
        return await self.pack(batch.device_id, batch.store_id, records)

    async def restore(self, bounds: Sequence[Bounds]) -> None:
        """Take batches that were sent before a restart again, as they were."""
        for lane, first, last in bounds:
            batch = await self._consumer.take(last - first + 1, lane=lane.stored, after=first - 1, upto=last)
            if batch is not None:
                await self._put(batch, lane)

    def made_room(self, lane: SendLane) -> None:
        """Something left the outbox."""
        self._room[lane].set()

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

    async def _pack_as_stored(self, batch: B) -> Parcel | None:
        """A batch of which nothing needs to be looked at: neither for its time, nor for whom it is."""
        if self._packer.encode_text is None or self._route is not None:
            return None
        text = batch.encoded
        if text is None or self._timing.concerns(text):
            return None
        if len(batch) < _THREAD_READINGS_MIN:
            return self._packer.pack_text(batch)
        return await asyncio.to_thread(self._packer.pack_text, batch)

    async def skip_unwanted(self, seconds: float) -> None:
        """For so long, acknowledge what the upstream does not want, without a connection: batches of nothing else."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                while self._route is not None:
                    if not await self._consumer.wait(_IDLE_WAIT_S, after=self._skipped_to):
                        continue
                    batch = await self._consumer.take(
                        self._options.batch_readings, self._options.batch_bytes, after=self._skipped_to
                    )
                    if batch is None:
                        await asyncio.sleep(_LINGER_SLICE_S)
                        continue
                    self._skipped_to = batch.last
                    try:
                        wanted = self._wanted(batch)
                    except BaseException:
                        self._consumer.release(batch)
                        raise
                    (self._consumer.release if wanted else self._consumer.ack)(batch)
                await asyncio.Event().wait()
        except TimeoutError:
            return

    def _wanted(self, batch: B) -> Sequence[Record]:
        if self._route is None or isinstance(batch, LetterBatch):  # of that one it was asked before
            return batch.records
        wants = self._route.wants
        return [record for record in batch.records if wants(record.document)]

    async def _watch_age(self) -> None:
        """What was new a while ago and is not yet taken has become backlog."""
        while True:
            new = self._consumer.newest_id
            await asyncio.sleep(self._options.linger_s + _BEHIND_S)
            if await self._consumer.wait(0, lane=SendLane.LIVE.stored, after=self._frontier, upto=new):
                self._frontier = self._live_to = self._consumer.newest_id

    def _part(self, lane: SendLane) -> _Part:
        if lane is SendLane.LIVE:
            return {"lane": lane.stored, "after": self._frontier}
        if lane is SendLane.BACKFILL:
            return {"lane": lane.stored, "upto": self._frontier}
        return {"lane": lane.stored}

    async def _next_batch(self, lane: SendLane) -> B:
        """The next batch of a lane; live readings have lingered for it, unless they fill it."""
        while True:
            if not await self._consumer.wait(_IDLE_WAIT_S, **self._part(lane)):
                continue
            if lane is SendLane.LIVE:
                await self._linger()
            wanted = min(self._readings_max, self._available())
            batch = await self._consumer.take(
                self._readings_max,
                self._options.batch_bytes,
                parsed=self._route is not None,
                **self._part(lane),
            )
            if batch is None:
                await asyncio.sleep(_LINGER_SLICE_S)  # ids that were no readings; never spin on them
                continue
            if lane is SendLane.LIVE:
                taken = len(batch)
                self._fitting = taken if taken < wanted else self._options.batch_readings
                self._live_to = max(self._live_to, batch.last)
            return batch

    async def _linger(self) -> None:
        """Let live readings gather, until they fill a batch or the time is over."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._options.linger_s
        while self._available() < min(self._readings_max, self._fitting) and not self.hurry:
            left_s = until_s - loop.time()
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, _LINGER_SLICE_S))

    def _available(self) -> int:
        """How many live readings there are, about: alarms among them count, too."""
        return self._consumer.newest_id - max(self._live_to, self._frontier)
