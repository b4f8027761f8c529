"""How many readings a second the receiver puts into its database: PostgreSQL, and SQLite beside it.

    python -m benchmarks.receiver [--directory DIR] [--rounds N]

Three ways, in turns: the store alone, given decoded packs in commits of 20,000 readings and of one pack; the same packs once more, which
insert nothing; and the whole of `outstation receive`, with 16 devices' packs of 500 readings waiting at a real Mosquitto that gives out 100 at a time. Both
databases commit durably, in a folder on the disk (the temporary one by default).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from agent.receiver.packs import Received, unpack
from agent.receiver.store import ReadingStore, store_for
from agent.sync.acknowledgement import readings_topic
from agent.sync.packing import Packer
from benchmarks.machine import machine, mosquitto_version
from benchmarks.processes import Program, cpu_s, memory
from collectors.clock import SystemClock
from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.rigs import cloud
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.postgres import Postgres
from tests.sync.memory_buffer import MemoryRecord

DEVICES = 16
READINGS_A_PACK = 500
PACKS = 400
COMMIT_PACKS = 40
STORE_ID = "5a" * 16
GOAL = 50_000


def payloads() -> list[tuple[str, bytes]]:
    """Packs of all devices in turn, each the device's id and what it sends: five noisy values a reading."""
    rng = random.Random(7)
    packer = Packer(1 << 20)
    packs = []
    for number in range(PACKS):
        device, first = f"device-{number % DEVICES}", 1 + number // DEVICES * READINGS_A_PACK
        records = [MemoryRecord(seq, _document(rng, seq)) for seq in range(first, first + READINGS_A_PACK)]
        packs.append((device, packer.pack(device, STORE_ID, records).payload))
    return packs


def _document(rng: random.Random, seq: int) -> dict[str, object]:
    values = {
        "temperature": round(21 + rng.gauss(0, 0.3), 2),
        "humidity": round(45 + rng.gauss(0, 1), 2),
        "pressure": round(1013 + rng.gauss(0, 0.2), 2),
        "voltage": round(3.3 + rng.gauss(0, 0.01), 3),
        "n": seq,
    }
    return {"source": "climate", "t": 1790000000.0 + seq, "values": values, "boot": 3, "clock": "synced"}


async def store_alone(url: str, packs: list[Received], commit_packs: int) -> tuple[float, float]:
    """Readings/s when they are new, and when all have come before."""
    async with store_for(url, SystemClock()) as store:
        return await _written(store, packs, commit_packs), await _written(store, packs, commit_packs)


async def _written(store: ReadingStore, packs: list[Received], commit_packs: int) -> float:
    began = time.monotonic()
    for start in range(0, len(packs), commit_packs):
        await store.write(packs[start : start + commit_packs])
    return sum(len(pack.readings) for pack in packs) / (time.monotonic() - began)


async def whole_receiver(
    url: str, packs: list[tuple[str, bytes]], folder: Path
) -> tuple[float, float, float]:
    """Readings/s from the broker's queue to the database; CPU of the receiver a reading in us; its peak memory in MB."""
    total = len(packs) * READINGS_A_PACK
    with (
        Mosquitto(BrokerSettings(max_inflight_messages=100)) as broker,
        tempfile.TemporaryDirectory(dir=folder) as name,
    ):
        logs = Path(name)
        arguments = ["-m", "agent", "receive", "--from", broker.url, "--into", url]
        with Program(arguments, logs / "first") as receiver:  # so that the broker keeps what it will miss
            receiver.wait_for(lambda: "receiving from" in receiver.last_words(), "its subscription")
        async with MqttConnection(options_from_url(broker.url)) as connection:
            for device, payload in packs:
                await connection.publish(readings_topic(device), payload)
        with Program(arguments, logs / "second") as receiver:
            began = cpu = 0.0
            while (found := cloud.count(url)) < total:
                if receiver.process.poll() is not None:
                    raise RuntimeError(receiver.last_words())
                if found and not began:  # from the first commit on: starting Python is not what is measured
                    began, cpu, begun_with = time.monotonic(), cpu_s(receiver.pid), found
                await asyncio.sleep(0.02)
            took, cpu = time.monotonic() - began, cpu_s(receiver.pid) - cpu
            return (total - begun_with) / took, 1e6 * cpu / (total - begun_with), memory(receiver.pid).peak


async def run(directory: Path, rounds: int) -> bool:
    """All of it; whether the goal is reached."""
    packs = payloads()
    decoded = [unpack(payload) for _, payload in packs]
    found: dict[str, list[float]] = {}
    numbers = count()
    with Postgres(parent=directory) as server:

        def fresh(kind: str) -> str:
            if kind == "sqlite":
                return f"sqlite:///{directory}/{next(numbers)}.db"
            return server.url(server.new_database())

        for _ in range(rounds):
            for kind in ("postgresql", "sqlite"):
                for commit_packs in (COMMIT_PACKS, 1):
                    new, again = await store_alone(fresh(kind), decoded, commit_packs)
                    size = commit_packs * READINGS_A_PACK
                    found.setdefault(f"{kind}: commits of {size}", []).append(new)
                    found.setdefault(f"{kind}: commits of {size}, all come again", []).append(again)
                rate, cpu_us, peak_mb = await whole_receiver(fresh(kind), packs, directory)
                found.setdefault(f"{kind}: outstation receive", []).append(rate)
                found.setdefault(f"{kind}: its CPU a reading (us)", []).append(cpu_us)
                found.setdefault(f"{kind}: its peak memory (MB)", []).append(peak_mb)
    for name, values in found.items():
        print(f"{name:55} {statistics.median(values):12,.1f}   {min(values):12,.1f} to {max(values):,.1f}")
    reached = statistics.median(found["postgresql: outstation receive"]) >= GOAL
    print(f"at least {GOAL:,} readings/s into PostgreSQL: {'reached' if reached else 'BELOW'}")
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, help="a folder on the disk to be measured")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{machine()}; {mosquitto_version()}")
    print(
        f"{PACKS} packs of {READINGS_A_PACK} readings of five values; median, least and most of {arguments.rounds} rounds"
    )
    with ExitStack() as stack:
        # mktemp's own rights keep the database's user out of it.
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.directory, prefix="receiver-"))
        )
        folder.chmod(0o755)
        return 0 if asyncio.run(run(folder, arguments.rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
