"""What the benchmarks of sync share: a buffer with a backlog, and the real sender on it."""

from __future__ import annotations

import logging
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from agent.spine.spine import open_spine
from agent.sync import registry
from agent.sync.config import MqttUpstreamOptions
from agent.sync.dead_letters import BufferDeadLetters
from buffer import TinyDBBuffer
from tests.rigs.no_timing import AsMeasured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.sync.batches import Batch, Consumer
    from agent.sync.sender import Sender

DEVICE = "greenhouse-3"
_APPEND = 5000


def document(number: int, t: float | None = None) -> dict[str, Any]:
    """A reading as the agent stores it: two noisy values, the boot and the time since."""
    return {
        "source": f"s{number % 20:02}",
        "t": 1790000000.0 + number / 100 if t is None else t,
        "values": {
            "temperature": round(20 + (number * 7919 % 500) / 100, 2),
            "humidity": round(50 + (number * 104729 % 200) / 10, 1),
        },
        "units": {"temperature": "Cel", "humidity": "%RH"},
        "boot": 3,
        "up": 120_000_000_000 + number * 10_000_000,
    }


@asynccontextmanager
async def open_buffer(path: Path, backlog: int) -> AsyncIterator[TinyDBBuffer]:
    """A buffer with so many readings that nobody has."""
    buffer = TinyDBBuffer("buffer", path, device_id=DEVICE, window_s=0.1)
    await buffer.connect()
    try:
        buffer.consumer("cloud")
        for start in range(0, backlog, _APPEND):
            buffer.append(
                [to_json(document(number)) for number in range(start, min(backlog, start + _APPEND))]
            )
            await buffer.flush()
        yield buffer
    finally:
        await buffer.disconnect()


@asynccontextmanager
async def sending(
    buffer: TinyDBBuffer, port: int, consumer: Consumer[Batch] | None = None, **options: Any
) -> AsyncIterator[Sender[Any]]:
    """The agent's sender to a broker at this port, which acknowledges."""
    logging.getLogger("agent.sync").setLevel(logging.ERROR)
    written = {"url": f"mqtt://127.0.0.1:{port}", "ack": "broker", **options}
    made = MqttUpstreamOptions.model_validate(written)
    async with open_spine(rng=random.Random(1)) as spine:
        sender = registry.create_sender(
            "cloud",
            made,
            DEVICE,
            consumer or buffer.consumer("cloud"),
            BufferDeadLetters(buffer),
            spine,
            AsMeasured(),
        )
        spine.start("sync", sender.run(), layer="sync", subject="cloud")
        yield sender
