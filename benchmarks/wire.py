"""Bytes and CPU time a reading on the wire, by format and batch size.

    python -m benchmarks.wire

Readings are of five noisy series, as a BME280 with an air quality sensor gives them: one reading has five values. Then all that the real sender
and `outstation receive` say to each other through a real Mosquitto is counted: the packs, their topics and acknowledgements, in both directions
on the device's connection, without the headers of TCP and IP (some 40 bytes each, about five of them a pack).
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from agent.sync.formats import FormatName, create_format
from agent.sync.packing import GZIP_READINGS_MIN, Packer
from benchmarks.machine import machine
from benchmarks.processes import Program
from benchmarks.sync_rig import open_buffer, sending
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.proxy import DIRECTIONS, ChaosProxy

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZES = (1, 10, 100, 1000)
_PACKS = 10
_LINGER_S = 0.5
_FORMATS: tuple[FormatName, ...] = ("senml", "influx", "thingsboard")
_SERIES = (
    ("temperature", "Cel", 21.0, 0.05, 2),
    ("humidity", "%RH", 48.0, 0.2, 1),
    ("pressure", "hPa", 1013.0, 0.1, 1),
    ("gas", "Ohm", 51000.0, 90.0, 0),
    ("light", "lx", 320.0, 4.0, 0),
)


@dataclass(frozen=True)
class Record:
    """One stored reading."""

    seq: int
    document: dict[str, Any]


def records(count: int) -> list[Record]:
    """One reading a second; each series wanders."""
    noise = random.Random(1)
    now = {name: level for name, _, level, _, _ in _SERIES}
    made = []
    for seq in range(1, count + 1):
        for name, _, _, step, _ in _SERIES:
            now[name] += noise.gauss(0, step)
        values = {name: round(now[name], digits) for name, _, _, _, digits in _SERIES}
        made.append(
            Record(
                seq,
                {
                    "source": "air",
                    "t": 1790000000.0 + seq + round(noise.uniform(0, 0.01), 6),
                    "values": values,
                    "units": {name: unit for name, unit, _, _, _ in _SERIES},
                },
            )
        )
    return made


async def over_mqtt(folder: Path, size: int) -> tuple[float, float]:
    """Bytes a reading that a device sends and gets, in packs of so many."""
    with Mosquitto() as broker:
        arguments = [
            "-m",
            "agent",
            "receive",
            "--from",
            broker.url,
            "--into",
            f"sqlite:///{folder}/{size}.db",
        ]
        with Program(arguments, folder / f"{size}.log") as receiver:
            receiver.wait_for(lambda: "receiving from" in receiver.last_words(), "its subscription")
            async with (
                ChaosProxy(("127.0.0.1", broker.port)) as link,
                open_buffer(folder / f"{size}", 0) as buffer,
                sending(buffer, link.port, linger=_LINGER_S, ack="receiver") as sender,
            ):
                await _until(lambda: sender.status.state == "connected")
                before = dict(link.passed)
                lot = [to_json(record.document) for record in records(size)]
                for number in range(1, _PACKS + 1):
                    buffer.append(lot)
                    await buffer.flush()
                    await _until(lambda number=number: sender.status.delivered == number * size)  # type: ignore[misc]
                await asyncio.sleep(_LINGER_S)  # the last PUBACKs
                up, down = (link.passed[way] - before[way] for way in DIRECTIONS)
                return up / _PACKS / size, down / _PACKS / size


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.01)


def main() -> None:
    print(machine())
    print("bytes a reading of five values, plain / gzip; CPU time of making it, gzip included, at a hundred")
    print(f"{'format':12}" + "".join(f"{f'n={size}':>18}" for size in _SIZES) + f"{'CPU':>12}")
    lot = records(max(_SIZES))
    for name in _FORMATS:
        cells = []
        for size in _SIZES:
            sizes = []
            for gzip in (False, True):
                made = create_format(name)
                pack = Packer(1 << 30, made.encode, made.content_type, gzip).pack(
                    "greenhouse-3", "5a" * 16, lot[:size]
                )
                sizes.append(len(pack.payload) / size)
            cells.append(f"{sizes[0]:.1f}" + (f" / {sizes[1]:.1f}" if size >= GZIP_READINGS_MIN else ""))
        made = create_format(name)
        packer = Packer(1 << 30, made.encode, made.content_type)
        begun = time.process_time()
        for _ in range(100):
            packer.pack("greenhouse-3", "5a" * 16, lot[:100])
        cpu_us = (time.process_time() - begun) / 10_000 * 1e6
        print(f"{name:12}" + "".join(f"{cell:>18}" for cell in cells) + f"{cpu_us:>9.1f} us")
    print("\nall that goes over MQTT, bytes a reading to and from the device, acknowledged by the receiver")
    with tempfile.TemporaryDirectory(prefix="wire-") as name:
        for size in _SIZES:
            up, down = asyncio.run(over_mqtt(Path(name), size))
            print(f"packs of {size:5}: {up:8.1f} + {down:6.1f}")


if __name__ == "__main__":
    main()
