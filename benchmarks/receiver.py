"""How many readings a second the receiver puts into its database, and what one takes there: PostgreSQL, and SQLite beside it.

    python -m benchmarks.receiver [--directory DIR] [--rounds N]

In turns: the store alone, given decoded packs in commits of 20,000 readings and of one pack; the same packs once more, which
insert nothing; and the whole of `outstation receive`, with 16 devices' packs of 500 readings waiting at a real Mosquitto that gives out 100 at a time.
Into PostgreSQL also from JetStream: one server, and a cluster of three with a stream of three replicas, all of which sync each message to the disk
(`sync_interval: always`); and how quickly these take the packs, 16 under way at a time. Both databases commit durably, in a folder on the disk (the temporary
one by default).
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

import psycopg
from nats.aio.client import Client

from agent.receiver.packs import Received, unpack
from agent.receiver.store import ReadingStore, store_for
from agent.sync.acknowledgement import readings_topic
from agent.sync.packing import Packer
from agent.sync.subjects import batch_subject
from benchmarks.machine import machine, mosquitto_version
from benchmarks.processes import Program, cpu_s, memory
from collectors.clock import SystemClock
from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.rigs import cloud
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.nats import NatsServers
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
    with Mosquitto(BrokerSettings(max_inflight_messages=100)) as broker:
        arguments = ["-m", "agent", "receive", "--from", broker.url, "--into", url]
        _subscribe(arguments, folder)
        async with MqttConnection(options_from_url(broker.url)) as connection:
            for device, payload in packs:
                await connection.publish(readings_topic(device), payload)
        return await _taken(arguments, url, len(packs) * READINGS_A_PACK, folder)


async def from_jetstream(
    url: str, packs: list[tuple[str, bytes]], folder: Path, nodes: int
) -> tuple[float, float]:
    """Readings/s that a cluster of so many servers takes durably; and readings/s from there to the database."""
    with NatsServers(nodes) as cluster:
        arguments = ["-m", "agent", "receive", "--from", cluster.url, "--into", url, "--replicas", str(nodes)]
        _subscribe(arguments, folder)
        client = Client()
        await client.connect([f"nats://127.0.0.1:{node.client_port}" for node in cluster.nodes])
        stream, room = client.jetstream(), asyncio.Semaphore(DEVICES)

        async def publish(device: str, payload: bytes) -> None:
            async with room:
                await stream.publish(batch_subject(device), payload, timeout=30)

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for device, payload in packs:
                group.create_task(publish(device, payload), name=f"publish:{device}")
        published_s = time.monotonic() - began
        await client.close()
        total = len(packs) * READINGS_A_PACK
        rate, _, _ = await _taken(arguments, url, total, folder)
        return total / published_s, rate


def _subscribe(arguments: list[str], folder: Path) -> None:
    """Let the receiver subscribe and end, so that the broker keeps what it will miss."""
    with tempfile.TemporaryDirectory(dir=folder) as name, Program(arguments, Path(name) / "log") as receiver:
        receiver.wait_for(lambda: "receiving from" in receiver.last_words(), "its subscription")


async def _taken(arguments: list[str], url: str, total: int, folder: Path) -> tuple[float, float, float]:
    """Readings/s until all that waits is in the database; CPU of the receiver a reading in us; its peak memory in MB."""
    with tempfile.TemporaryDirectory(dir=folder) as name, Program(arguments, Path(name) / "log") as receiver:
        began = cpu = 0.0
        while (found := cloud.count(url)) < total:
            if receiver.process.poll() is not None:
                raise RuntimeError(receiver.last_words())
            if found and not began:  # from the first commit on: starting Python is not what is measured
                began, cpu, begun_with = time.monotonic(), cpu_s(receiver.pid), found
            await asyncio.sleep(0.02)
        took, cpu = time.monotonic() - began, cpu_s(receiver.pid) - cpu
        return (total - begun_with) / took, 1e6 * cpu / (total - begun_with), memory(receiver.pid).peak


def _wal_bytes(url: str) -> float:
    """How much a PostgreSQL has written to its log so far."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return float(row[0])


def bytes_a_reading(url: str, wal_before: float) -> tuple[float, float, float]:
    """What one takes in a PostgreSQL: its row, the key's index, and what was written to the log."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT pg_relation_size('outstation.readings'), pg_indexes_size('outstation.readings'), count(*)"
            " FROM outstation.readings"
        ).fetchone()
    assert row is not None
    table, index, count = map(float, row)
    return table / count, index / count, (_wal_bytes(url) - wal_before) / count


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

        def note(name: str, value: float) -> None:
            found.setdefault(name, []).append(value)

        for _ in range(rounds):
            for kind in ("postgresql", "sqlite"):
                for commit_packs in (COMMIT_PACKS, 1):
                    new, again = await store_alone(fresh(kind), decoded, commit_packs)
                    size = commit_packs * READINGS_A_PACK
                    note(f"{kind}: commits of {size}", new)
                    note(f"{kind}: commits of {size}, all come again", again)
                url = fresh(kind)
                wal = _wal_bytes(url) if kind == "postgresql" else 0.0
                rate, cpu_us, peak_mb = await whole_receiver(url, packs, directory)
                note(f"{kind}: outstation receive", rate)
                note(f"{kind}: its CPU a reading (us)", cpu_us)
                note(f"{kind}: its peak memory (MB)", peak_mb)
                if kind == "postgresql":
                    row, index, log = bytes_a_reading(url, wal)
                    note("postgresql: bytes of a reading's row", row)
                    note("postgresql: bytes of its key in the index", index)
                    note("postgresql: bytes written to the log for it", log)
            for nodes in (1, 3):
                took, rate = await from_jetstream(fresh("postgresql"), packs, directory, nodes)
                note(f"JetStream, {nodes} server(s): it takes", took)
                note(f"JetStream, {nodes} server(s): outstation receive", rate)
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
