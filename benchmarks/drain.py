"""How quickly a backlog drains over MQTT: beside a loop that publishes one reading at a time, and over a long link.

    python -m benchmarks.drain [--readings 500000]

The backlog is in the real buffer, the broker a real Mosquitto, which acknowledges (QoS 1). The peer is what many write
first: aiomqtt, one reading a message, each awaited.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import aiomqtt
from pydantic_core import to_json

from benchmarks.machine import machine, mosquitto_version
from benchmarks.slow_link import SlowLink
from benchmarks.sync_rig import document, open_buffer, sending
from tests.rigs.mosquitto import Mosquitto

_NAIVE_S = 5.0
_ROUND_TRIP_S = 0.2
_LINK_BYTES_S = 1_000_000
_LINK_S = 20


async def drained(readings: int, port: int, folder: Path, **options: object) -> tuple[float, float]:
    """Seconds until all of a new backlog is acknowledged, and how many of them this process had the CPU."""
    async with open_buffer(folder, readings) as buffer:
        consumer = buffer.consumer("cloud")
        start, cpu_s = time.perf_counter(), time.process_time()
        async with sending(buffer, port, **options):
            while consumer.backlog:  # noqa: ASYNC110 (looking costs less than being told each time)
                await asyncio.sleep(0.01)
            return time.perf_counter() - start, time.process_time() - cpu_s


async def one_at_a_time(port: int) -> float:
    """Readings a second of a loop that publishes and waits."""
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < _NAIVE_S:
            await client.publish("outstation/naive", to_json(document(count)), qos=1)
            count += 1
        return count / (time.perf_counter() - start)


async def over_a_long_link(port: int, folder: Path) -> float:
    """How much of its bandwidth a link with a long round trip carries, from connect to the last acknowledgement."""
    readings = _LINK_S * _LINK_BYTES_S // 190
    async with SlowLink(port, round_trip_s=_ROUND_TRIP_S, bytes_s=_LINK_BYTES_S) as link:
        seconds, _ = await drained(readings, link.port, folder, gzip=False)
        return link.passed_bytes / seconds / _LINK_BYTES_S


async def main() -> None:
    parser = argparse.ArgumentParser(description="How quickly a backlog drains over MQTT.")
    parser.add_argument("--readings", type=int, default=500_000)
    readings = parser.parse_args().readings
    print(machine(), mosquitto_version(), sep="\n")
    with Mosquitto() as broker, tempfile.TemporaryDirectory() as folder:
        naive = await one_at_a_time(broker.port)
        print(f"one publish a reading, awaited: {naive:,.0f} readings/s")
        for name, options in (
            ("as it is", {}),
            ("batch_size = 128 KB", {"batch_size": "128 KB", "batch_readings": 2000}),
        ):
            seconds, cpu_s = await drained(readings, broker.port, Path(folder) / name, **options)
            rate = readings / seconds
            print(
                f"a backlog of {readings:,}, {name}: {rate:,.0f} readings/s, {rate / naive:.0f} times as many;"
                f" {cpu_s / readings * 1e6:.1f} us of CPU each, so that a core to itself does {readings / cpu_s:,.0f}/s"
            )
        part = await over_a_long_link(broker.port, Path(folder) / "long")
        print(
            f"over a link of {_LINK_BYTES_S / 1e6:g} MB/s with {_ROUND_TRIP_S * 1000:.0f} ms of round trip:"
            f" {part:.0%} of its bandwidth"
        )


if __name__ == "__main__":
    asyncio.run(main())
