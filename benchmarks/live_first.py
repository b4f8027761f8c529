"""How old live readings are at the receiver while a backlog drains: live first, as the agent does, and oldest first.

    python -m benchmarks.live_first [--backlog 1000000] [--bytes-s 500000]

The buffer, the sender and Mosquitto are real; between them is a link of limited bandwidth and 50 ms of round trip. Readings
are measured all the time, ten a second. Oldest first is the same sender, told that all is backlog.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import aiomqtt
from pydantic_core import to_json

from benchmarks.machine import machine, mosquitto_version
from benchmarks.slow_link import SlowLink
from benchmarks.sync_rig import document, open_buffer, sending
from tests.rigs.mosquitto import Mosquitto

_ROUND_TRIP_S = 0.05
_LIVE_EVERY_S = 0.1
_READING = re.compile(rb'"bt":([0-9.]+),"seq":([0-9]+)')


class OldestFirst:
    """A consumer for which nothing is ever new."""

    newest_id = 2**62

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


async def listen(port: int, backlog: int, ages: list[float]) -> None:
    """Note how old each reading is, that was measured after the backlog, when it arrives."""
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe("outstation/+/readings", qos=0)
        async for message in client.messages:
            now = time.time()
            payload = message.payload
            assert isinstance(payload, bytes)
            text = zlib.decompress(payload, 31) if payload[:1] == b"\x1f" else payload
            ages += [now - float(t) for t, seq in _READING.findall(text) if int(seq) > backlog]


async def measure(folder: Path, backlog: int, bytes_s: float, *, live_first: bool) -> None:
    """Drain a backlog, and print the ages of what is measured meanwhile."""
    ages: list[float] = []
    with Mosquitto() as broker:
        async with (
            open_buffer(folder, backlog) as buffer,
            SlowLink(broker.port, round_trip_s=_ROUND_TRIP_S, bytes_s=bytes_s) as link,
        ):
            listening = asyncio.create_task(listen(broker.port, backlog, ages), name="listen")
            consumer: Any = buffer.consumer("cloud")
            start, measured = time.perf_counter(), 0
            async with sending(
                buffer, link.port, consumer if live_first else OldestFirst(consumer), linger=0.5
            ):
                while consumer.backlog > 50:
                    buffer.append([to_json(document(backlog + measured, round(time.time(), 6)))])
                    measured += 1
                    await asyncio.sleep(_LIVE_EVERY_S)
                seconds = time.perf_counter() - start
                await asyncio.sleep(1)
            listening.cancel()
            await asyncio.wait([listening])
    ages.sort()
    print(
        f"{'live first' if live_first else 'oldest first'}: {backlog:,} readings drain in {seconds:.0f} s;"
        f" {len(ages)} live ones arrive {ages[len(ages) // 2]:.2f} s old (median),"
        f" {ages[int(len(ages) * 0.99)]:.2f} s (p99), {ages[-1]:.2f} s (oldest)"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description="The age of live readings while a backlog drains.")
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--bytes-s", type=float, default=500_000)
    arguments = parser.parse_args()
    print(machine(), mosquitto_version(), sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        for live_first in (True, False):
            await measure(
                Path(folder) / str(live_first), arguments.backlog, arguments.bytes_s, live_first=live_first
            )


if __name__ == "__main__":
    asyncio.run(main())
