"""Many virtual devices in one process: the real buffers and the real delivery, with readings made up.

Each device has a buffer of its own on the disk, bounded by a quota, and a sender of its own with a session of its own; what they
share is the process. So what a broker and a receiver see is a fleet, with its batches, its back-off and its backlogs.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from agent.composition.deliveries import LossFeed
from agent.sync.dead_letters import BufferDeadLetters
from agent.sync.extent import ExtentTeller, extents_of
from agent.sync.losses import LossTeller
from agent.sync.registry import create_sender
from buffer import BufferFull, TinyDBBuffer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.spine.spine import Spine
    from agent.sync.batches import Record
    from agent.sync.config import UpstreamOptions
    from agent.sync.sender import Sender

UPSTREAM = "fleet"
_QUOTA_BYTES = 32 << 20
_PENDING_BYTES = 256 << 10
_SEGMENT_BYTES = 1 << 20
_WINDOW_S = 2.0
"""A commit in two seconds a device: three hundred of them share one disk."""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What is simulated."""

    devices: int
    options: UpstreamOptions
    folder: Path
    """Gets a buffer a device."""
    rate_hz: float = 1.0
    """Readings a second and device."""
    ramp_s: float = 10.0
    """In which they are switched on, one after the other."""
    prefix: str = "virtual"
    """Of the devices' ids."""


class _AsMeasured:
    """A virtual device has a clock that is right."""

    def linked(self) -> None:
        """Nothing is to be corrected."""

    def concerns(self, encoded: bytes) -> bool:  # noqa: ARG002 (of the protocol)
        """None does."""
        return False

    async def apply(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records as they are."""
        return records


class VirtualDevice:
    """One device.

    Args:
        device_id: Names it.
        plan: What all of them do.
        spine: Errors, tasks, clocks.
    """

    def __init__(self, device_id: str, plan: FleetPlan, spine: Spine) -> None:
        self.device_id = device_id
        self.stored = 0
        """Readings that the buffer took."""
        self.dropped = 0
        """Readings that it could not take, since the disk was too slow."""
        self._plan = plan
        self._spine = spine
        self._sender: Sender[Any] | None = None

    @property
    def connected(self) -> bool:
        """Whether it is connected and delivers."""
        return self._sender is not None and self._sender.status.state == "connected"

    @property
    def delivered(self) -> int:
        """Readings that were acknowledged."""
        return 0 if self._sender is None else self._sender.status.delivered

    @property
    def backlog(self) -> int:
        """Readings that are stored and not acknowledged."""
        return 0 if self._sender is None else self._sender.status.backlog

    async def run(self) -> None:
        """Measure and deliver until cancelled.

        Raises:
            ConnectionError: The buffer cannot be opened.
        """
        buffer = TinyDBBuffer(
            "virtual",
            self._plan.folder / self.device_id,
            device_id=self.device_id,
            window_s=_WINDOW_S,
            quota_bytes=_QUOTA_BYTES,
            segment_bytes=_SEGMENT_BYTES,
            pending_bytes_max=_PENDING_BYTES,
        )
        await buffer.connect()
        try:
            self._sender = await self._make_sender(buffer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sender.run(), name=f"fleet-deliver:{self.device_id}")
                group.create_task(self._measure(buffer), name=f"fleet-measure:{self.device_id}")
        finally:
            await buffer.disconnect()

    async def _make_sender(self, buffer: TinyDBBuffer) -> Sender[Any]:
        options = self._plan.options
        consumer = await asyncio.to_thread(buffer.consumer, UPSTREAM)
        losses = None
        if options.tells_losses:
            feed = LossFeed(buffer.database.ledger, UPSTREAM)
            await feed.begin()
            losses = LossTeller(
                UPSTREAM,
                feed,
                lambda _: (self.device_id, buffer.epochs[-1].store_id),
                ExtentTeller(lambda: extents_of(UPSTREAM, consumer.reach, buffer.epochs)),
            )
        return create_sender(
            UPSTREAM,
            options,
            self.device_id,
            consumer,
            BufferDeadLetters(buffer),
            self._spine,
            _AsMeasured(),
            losses,
        )

    async def _measure(self, buffer: TinyDBBuffer) -> None:
        period_s = 1 / self._plan.rate_hz
        phase = self._spine.rng.random()
        await asyncio.sleep(phase * period_s)
        while True:
            now = self._spine.clock.now().timestamp()
            wave = 3 * math.sin(now / 3600 + math.tau * phase)
            values = {
                "temperature": round(21 + wave + self._spine.rng.gauss(0, 0.1), 2),
                "humidity": round(45 - wave + self._spine.rng.gauss(0, 0.5), 1),
                "n": self.stored,
            }
            document = {"source": "climate", "t": round(now, 3), "values": values, "clock": "synced"}
            try:
                buffer.append([to_json(document)], vouched=True)
                self.stored += 1
            except BufferFull:
                self.dropped += 1
            await asyncio.sleep(period_s)


class Fleet:
    """All devices of a plan.

    Args:
        plan: What is simulated.
        spine: Errors, tasks, clocks.
    """

    def __init__(self, plan: FleetPlan, spine: Spine) -> None:
        self._plan = plan
        self._spine = spine
        self.devices = [
            VirtualDevice(f"{plan.prefix}-{number:05d}", plan, spine) for number in range(1, plan.devices + 1)
        ]

    async def run(self) -> None:
        """Switch all of them on, and let them run until cancelled.

        Raises:
            ExceptionGroup: A buffer cannot be opened.
        """
        async with asyncio.TaskGroup() as group:
            for device in self.devices:
                group.create_task(device.run(), name=f"fleet-device:{device.device_id}")
                await asyncio.sleep(self._plan.ramp_s / len(self.devices))
