"""Sender, Mosquitto, receiver and SQLite, all real, through whatever may happen to each of them."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.receiver import service
from agent.receiver.service import serve
from agent.spine.spine import open_spine
from agent.sync.acknowledgement import readings_topic
from agent.sync.config import MqttUpstreamOptions
from agent.sync.registry import create_sender
from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.receiver.packs import payload
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.no_timing import AsMeasured
from tests.rigs.proxy import ChaosProxy
from tests.rigs.scripted_broker import CONNACK_5_RESUMED, publish_5, read_packet, scripted_broker
from tests.sync.memory_buffer import MemoryConsumer, MemoryDeadLetters, reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PUBLISH, PUBACK = 0x32, 0x40
QUICK = {"first": "10 ms", "base": "10 ms", "cap": "50 ms"}


@pytest.fixture(autouse=True)
def _quick_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.receiver import mqtt
    from agent.spine.backoff import BackoffPolicy

    monkeypatch.setattr(mqtt, "RETRY", BackoffPolicy(first_s=0.05, base_s=0.05, cap_s=0.1))


@asynccontextmanager
async def receiver(broker_url: str, path: Path, **options: Any) -> AsyncIterator[None]:
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        run = serve([broker_url], f"sqlite:///{path}", on_ready=lambda _: ready.set(), **options)
        task = group.create_task(run)
        await ready.wait()
        yield
        task.cancel()


@asynccontextmanager
async def sending(url: str, consumer: MemoryConsumer, **options: Any) -> AsyncIterator[Any]:
    async with open_spine(rng=random.Random(1)) as spine:
        made = MqttUpstreamOptions.model_validate(
            {"url": url, "linger": 0, "retry": QUICK, "batch_readings": 50, "ack_timeout": "1 s", **options}
        )
        letters = MemoryDeadLetters()
        sender = create_sender("cloud", made, consumer.device_id, consumer, letters, spine, AsMeasured())
        spine.start("sync", sender.run(), layer="sync", subject="cloud")
        yield sender
        assert letters.letters == []


def rows(path: Path, query: str = "SELECT source, seq FROM readings ORDER BY arrival") -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def soil(count: int) -> list[tuple[str, int]]:
    return [("soil", n) for n in range(1, count + 1)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_from_buffer_to_database(tmp_path: Path, protocol: str) -> None:
    consumer = MemoryConsumer()
    consumer.add_readings(2000)
    with Mosquitto() as broker:
        async with receiver(broker.url, tmp_path / "r.db"), sending(broker.url, consumer, protocol=protocol):
            await until(lambda: consumer.backlog == 0)
    assert rows(tmp_path / "r.db") == soil(2000)


async def test_the_receiver_comes_late(tmp_path: Path) -> None:
    consumer = MemoryConsumer()
    consumer.add_readings(300)
    with Mosquitto() as broker:
        async with sending(broker.url, consumer, ack_timeout="100 ms") as sender:
            await until(lambda: sender.status.state == "retrying")
            assert "no receiver acknowledged" in sender.status.holding_back
            async with receiver(broker.url, tmp_path / "r.db"):
                await until(lambda: consumer.backlog == 0)
    assert rows(tmp_path / "r.db") == soil(300)


async def test_the_broker_keeps_packs_for_a_receiver_that_is_away(tmp_path: Path) -> None:
    consumer = MemoryConsumer()
    with Mosquitto() as broker:
        async with receiver(broker.url, tmp_path / "r.db"):
            pass
        async with sending(broker.url, consumer, ack="broker"):
            consumer.add_readings(300)
            await until(lambda: consumer.backlog == 0)
        assert rows(tmp_path / "r.db") == []
        async with receiver(broker.url, tmp_path / "r.db"):
            await until(lambda: len(rows(tmp_path / "r.db")) == 300)
    assert rows(tmp_path / "r.db") == soil(300)


@pytest.mark.parametrize("side", ["sender", "receiver"])
async def test_a_link_that_is_cut_again_and_again_loses_and_doubles_nothing(
    tmp_path: Path, side: str
) -> None:
    consumer = MemoryConsumer()
    consumer.add_readings(4000)
    rng = random.Random(5)
    with Mosquitto() as broker:
        async with ChaosProxy(("127.0.0.1", broker.port)) as proxy:
            bad = f"mqtt://127.0.0.1:{proxy.port}"
            urls = (bad, broker.url) if side == "sender" else (broker.url, bad)
            async with receiver(urls[1], tmp_path / "r.db"), sending(urls[0], consumer):
                for _ in range(10):
                    before = consumer.backlog
                    proxy.set_weather(rng.choice(["up", "down"]), cut_after_bytes=rng.randrange(1, 4000))
                    await until(lambda before=before: consumer.backlog < before - 100 or not consumer.backlog)  # type: ignore[misc]
                proxy.heal()
                await until(lambda: consumer.backlog == 0)
    arrived = rows(tmp_path / "r.db")
    assert sorted(arrived) == sorted(soil(4000))
    assert arrived == soil(4000)


async def test_what_a_resumed_session_brings_does_not_wait_for_the_answer_to_subscribe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow link that answer comes late, behind the whole backlog: waiting for it would bring the same again and again."""

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connects.append(await read_packet(reader))
        writer.write(CONNACK_5_RESUMED + publish_5("outstation/a/readings", b"hello", 7))
        while True:
            first, body = await read_packet(reader)
            if first == PUBLISH:  # what it says to the device
                topic_length = int.from_bytes(body[:2], "big")
                writer.write(b"\x40\x02" + body[2 + topic_length :][:2])
            elif first == PUBACK and not acknowledged.done():
                acknowledged.set_result(body[:2])

    patient = service._mqtt_options
    monkeypatch.setattr(
        service, "_mqtt_options", lambda *given: replace(patient(*given), connect_timeout_s=0.2)
    )
    connects: list[tuple[int, bytes]] = []
    acknowledged: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    async with scripted_broker(answer_late) as port, asyncio.TaskGroup() as group:
        task = group.create_task(serve([f"mqtt://127.0.0.1:{port}"], f"sqlite:///{tmp_path / 'r.db'}"))
        async with asyncio.timeout(10):
            assert await acknowledged == b"\0\7"
        await asyncio.sleep(0.5)  # longer than connecting may take
        assert len(connects) == 1
        task.cancel()


async def test_a_half_open_link_is_given_up(tmp_path: Path) -> None:
    consumer = MemoryConsumer()
    with Mosquitto() as broker:
        async with (
            ChaosProxy(("127.0.0.1", broker.port)) as proxy,
            receiver(broker.url, tmp_path / "r.db"),
            sending(f"mqtt://127.0.0.1:{proxy.port}", consumer, ack_timeout="300 ms") as sender,
        ):
            consumer.add_readings(100)
            await until(lambda: consumer.backlog == 0)
            proxy.half_close()
            consumer.add_readings(100)
            await until(lambda: sender.status.state == "retrying")
            assert "no PUBACK within" in sender.status.holding_back
            proxy.heal()
            await until(lambda: consumer.backlog == 0)
    assert rows(tmp_path / "r.db") == soil(200)


async def test_a_broker_that_loses_everything_it_held_loses_nothing(tmp_path: Path) -> None:
    consumer = MemoryConsumer()
    consumer.add_readings(3000)
    with Mosquitto() as broker:
        async with (
            receiver(broker.url, tmp_path / "r.db"),
            sending(broker.url, consumer, ack_timeout="300 ms"),
        ):
            for limit in (2500, 1500, 500):
                await until(lambda limit=limit: consumer.backlog < limit)  # type: ignore[misc]
                broker.kill()
                broker.start()
            await until(lambda: consumer.backlog == 0)
    assert sorted(rows(tmp_path / "r.db")) == sorted(soil(3000))


async def test_garbage_is_kept_told_and_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    consumer = MemoryConsumer(device_id="b")
    with Mosquitto(BrokerSettings(max_inflight_messages=2)) as broker:
        async with receiver(broker.url, path), MqttConnection(options_from_url(broker.url)) as device:
            await device.subscribe("outstation/a/ack")
            for garbage in (
                b"hello",
                b"",
                b"\x1f\x8b",
                b"[]",
                b'[{"store":"x"}]',
                payload(device="b"),
                b"\xff" * 9,
            ):
                await device.publish(readings_topic("a"), garbage)
            await device.publish("outstation//readings", payload(device="b"))
            async with sending(broker.url, consumer):
                consumer.add_readings(100)
                await until(lambda: consumer.backlog == 0)
            message = await device.receive()
            assert message is not None
            assert (
                b'"rejected":[["2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"'
                in message.payload
            )
    assert rows(path) == soil(100)
    found = rows(path, "SELECT origin, reason FROM rejected ORDER BY id")
    assert {origin for origin, _ in found} == {"outstation/a/readings", "outstation//readings"}
    assert len(found) == 8
    assert "it is of device 'b', not of the topic's" in [reason for _, reason in found]


async def test_what_the_receiver_refuses_becomes_a_dead_letter(tmp_path: Path) -> None:
    consumer = MemoryConsumer()
    with Mosquitto() as broker:
        async with receiver(broker.url, tmp_path / "r.db"), open_spine(rng=random.Random(1)) as spine:
            letters = MemoryDeadLetters()
            made = MqttUpstreamOptions(url=broker.url, linger=0)
            # Topics of one device, readings of another: what a cloned configuration might do.
            sender = create_sender("cloud", made, "someone-else", consumer, letters, spine, AsMeasured())
            spine.start("sync", sender.run(), layer="sync", subject="cloud")
            consumer.add_readings(20)
            await until(lambda: consumer.backlog == 0)
            assert letters.seqs == list(range(1, 21))
            assert "not of the topic's" in letters.letters[0]["reason"]


async def test_one_reading_that_the_receiver_refuses_takes_no_other_with_it(tmp_path: Path) -> None:
    consumer = MemoryConsumer()
    with Mosquitto() as broker:
        async with receiver(broker.url, tmp_path / "r.db"), open_spine(rng=random.Random(1)) as spine:
            letters = MemoryDeadLetters()
            made = MqttUpstreamOptions(url=broker.url, linger=0)
            sender = create_sender("cloud", made, consumer.device_id, consumer, letters, spine, AsMeasured())
            spine.start("sync", sender.run(), layer="sync", subject="cloud")
            consumer.add(
                *[reading("soil", n, **({"tags": {"bed": 7}} if n == 7 else {})) for n in range(1, 21)]
            )
            await until(lambda: consumer.backlog == 0)
    assert letters.seqs == [7]
    assert "reading 7: tags" in letters.letters[0]["reason"]
    assert [seq for _, seq in rows(tmp_path / "r.db")] == [n for n in range(1, 21) if n != 7]


async def test_a_commit_that_failed_is_repeated(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    consumer = MemoryConsumer()
    with Mosquitto() as broker:
        async with receiver(broker.url, path), sending(broker.url, consumer, ack_timeout="30 s"):
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute(
                    "CREATE TRIGGER sick BEFORE INSERT ON readings BEGIN SELECT RAISE(ABORT, 'no space'); END"
                )
                consumer.add_readings(100)
                await asyncio.sleep(0.3)
                assert consumer.backlog == 100
                other.execute("DROP TRIGGER sick")
            await until(lambda: consumer.backlog == 0)
    assert rows(path) == soil(100)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_receivers_share_the_work_and_one_that_is_away_gets_its_share_later(
    tmp_path: Path, protocol: str
) -> None:
    consumer = MemoryConsumer()
    consumer.add_readings(2000)
    first, second = tmp_path / "1.db", tmp_path / "2.db"
    with Mosquitto() as broker:
        async with receiver(broker.url, first):
            pass  # it once took all of the work: its session remembers
        async with receiver(broker.url, first, share="fleet"):
            async with (
                receiver(broker.url, second, share="fleet", client_id="second"),
                sending(broker.url, consumer, ack_timeout="500 ms", protocol=protocol),
            ):
                await until(lambda: consumer.backlog == 0)
            assert sorted({*rows(first), *rows(second)}) == sorted(soil(2000))
            assert len(rows(first)) > 200
            assert len(rows(second)) > 200
            assert len(rows(first)) + len(rows(second)) < 2500, "each took all of it"
            # The second is away: what the broker gives to it is sent again, and the first takes it.
            consumer.add_readings(400)
            async with sending(broker.url, consumer, ack_timeout="500 ms", protocol=protocol):
                await until(lambda: consumer.backlog == 0)
    assert {*rows(first), *rows(second)} == {*soil(2400)}


PROGRAM = """
import asyncio, os, signal, sys
from agent.receiver import mqtt
from agent.receiver import service
from agent.receiver.service import serve
publish, count = mqtt._publish, 0
async def dying(connection, group):
    global count
    count += len(group)
    if 0 < int(sys.argv[3]) <= count:
        os.kill(os.getpid(), signal.SIGKILL)   # committed, neither named nor acknowledged
    await publish(connection, group)
mqtt._publish = dying
asyncio.run(serve([sys.argv[1]], sys.argv[2], on_ready=lambda a: print(a[0], flush=True)))
"""


async def start_program(url: str, path: Path, dies_at: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, url, f"sqlite:///{path}", str(dies_at)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return process


async def test_killed_between_commit_and_acknowledgement(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    consumer = MemoryConsumer()
    consumer.add_readings(1000)
    with Mosquitto() as broker:
        process = await start_program(broker.url, path, dies_at=5)
        try:
            async with sending(broker.url, consumer, ack_timeout="30 s"):
                assert await process.wait() == -signal.SIGKILL
                committed = len(rows(path))
                assert committed > 0
                assert consumer.backlog > 1000 - committed, "some are committed and not acknowledged"
                process = await start_program(broker.url, path, dies_at=0)
                await until(lambda: consumer.backlog == 0)
        finally:
            process.kill()
            await process.wait()
    assert rows(path) == soil(1000)
