"""JetStream, receiver and database, all real, through whatever may happen to each of them."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import nats as client
import pytest
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError
from pydantic_core import from_json, to_json

from agent.receiver import nats as module
from agent.receiver.service import serve
from agent.spine.backoff import BackoffPolicy
from agent.sync.acknowledgement import digest
from agent.sync.subjects import STREAM, ack_subject, batch_subject, ledger_subject
from tests.receiver.packs import STORE, payload
from tests.rigs import cloud
from tests.rigs.nats import NatsServers
from tests.rigs.programs import until
from tests.rigs.proxy import ChaosProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from nats.aio.client import Client

DEVICE = "greenhouse-3"
SUBJECT = batch_subject(DEVICE)


@pytest.fixture(autouse=True)
def _quick_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", BackoffPolicy(first_s=0.05, base_s=0.05, cap_s=0.1))


@pytest.fixture
def server() -> Iterator[NatsServers]:
    with NatsServers() as one:
        yield one


@asynccontextmanager
async def receiver(url: str, database: Path | str, **options: Any) -> AsyncIterator[None]:
    ready = asyncio.Event()
    into = database if isinstance(database, str) else f"sqlite:///{database}"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve([url], into, on_ready=lambda _: ready.set(), **options))
        await ready.wait()
        yield
        task.cancel()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    connection = await client.connect(url.split(","), reconnect_time_wait=0, max_reconnect_attempts=-1)
    try:
        yield connection
    finally:
        await connection.close()


async def publish(connection: Client, first: int, packs: int, size: int = 20, device: str = DEVICE) -> None:
    """Packs in order, each until the stream has it."""
    jetstream = connection.jetstream(timeout=2)
    for start in range(first, first + packs * size, size):
        while True:
            try:
                headers = {"Nats-Msg-Id": f"{device}/{start}"}
                await jetstream.publish(
                    batch_subject(device), payload(start, size, device=device), headers=headers
                )
                break
            except client.errors.Error:  # no leader, for the moment
                await asyncio.sleep(0.05)


def seqs(database: Path) -> list[int]:
    return [row.seq for row in cloud.rows(database)]


async def test_from_the_stream_to_the_database_and_back_to_the_device(
    tmp_path: Path, server: NatsServers
) -> None:
    path = tmp_path / "r.db"
    async with receiver(server.url, path), connected(server.url) as device:
        said: list[dict[str, Any]] = []

        async def on_ack(message: Any) -> None:
            said.append(from_json(message.data))

        await device.subscribe(ack_subject(DEVICE), cb=on_ack)
        await publish(device, 1, 50)
        ledger = {"device": DEVICE, "store": STORE, "version": 9, "losses": []}
        told = to_json(ledger)
        await device.jetstream().publish(ledger_subject(DEVICE), told)
        await until(lambda: sum(len(one["acked"]) for one in said) == 51, "all is acknowledged")
        assert [pack for one in said for pack in one["acked"]] == [
            *(digest(payload(n)) for n in range(1, 1001, 20)),
            digest(told),
        ]

        async def empty() -> bool:
            return not (await device.jetstream().stream_info(STREAM)).state.messages

        await until(empty, "what is committed need not be kept")
    assert seqs(path) == list(range(1, 1001))


async def test_the_stream_keeps_what_comes_while_no_receiver_is_there(
    tmp_path: Path, server: NatsServers
) -> None:
    path = tmp_path / "r.db"
    async with receiver(server.url, path):
        pass
    async with connected(server.url) as device:
        await publish(device, 1, 10)
        server.kill()
        server.start()
        async with receiver(server.url, path):
            await until(lambda: len(seqs(path)) == 200, "all has come")
    assert seqs(path) == list(range(1, 201))


async def test_garbage_is_kept_told_and_blocks_nobody(tmp_path: Path, server: NatsServers) -> None:
    path = tmp_path / "r.db"
    async with receiver(server.url, path), connected(server.url) as device:
        acks = await device.subscribe(ack_subject("a"))
        for garbage in (b"hello", b"", b"\x1f\x8b", payload(device="b")):
            await device.jetstream().publish(batch_subject("a"), garbage)
        await publish(device, 1, 1)
        told = []
        while len(told) < 4:
            told += from_json((await acks.next_msg(timeout=10)).data)["rejected"]
        assert told[0][0] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        await until(lambda: len(seqs(path)) == 20, "what is good has come")
    reasons = [reason for (reason,) in cloud.fetch(path, "SELECT reason FROM rejected ORDER BY id")]
    assert len(reasons) == 4
    assert reasons[3] == "it is of device 'b', not of the topic's"


async def test_a_link_that_is_cut_again_and_again_loses_and_disorders_nothing(
    tmp_path: Path, server: NatsServers
) -> None:
    path = tmp_path / "r.db"
    rng = random.Random(5)
    async with (
        ChaosProxy(("127.0.0.1", server.nodes[0].client_port)) as proxy,
        connected(server.url) as device,
        receiver(f"nats://127.0.0.1:{proxy.port}", path),
    ):
        for round_number in range(10):
            proxy.set_weather(rng.choice(["up", "down"]), cut_after_bytes=rng.randrange(1, 4000))
            await publish(device, 1 + 400 * round_number, 20)
            await asyncio.sleep(rng.uniform(0, 0.1))
        proxy.heal()
        await until(lambda: cloud.count(path) == 4000, "all has come")
    assert seqs(path) == list(range(1, 4001))


async def test_a_commit_that_failed_is_repeated(tmp_path: Path, server: NatsServers) -> None:
    path = tmp_path / "r.db"
    async with receiver(server.url, path), connected(server.url) as device:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(
                "CREATE TRIGGER sick BEFORE INSERT ON readings BEGIN SELECT RAISE(ABORT, 'sick'); END"
            )
            await publish(device, 1, 5)
            await asyncio.sleep(0.3)
            other.execute("DROP TRIGGER sick")
        await until(lambda: cloud.count(path) == 100, "all has come")
    assert seqs(path) == list(range(1, 101))


async def test_what_waits_for_the_database_is_not_given_out_again(
    tmp_path: Path, server: NatsServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACK_WAIT_S", 0.6)
    monkeypatch.setattr("agent.receiver.sqlite_store._BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "r.db"
    async with receiver(server.url, path), connected(server.url) as device:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await publish(device, 1, 5)
            await asyncio.sleep(1.5)
            other.execute("ROLLBACK")
        await until(lambda: cloud.count(path) == 100, "all has come")
        info = await device.jetstream().consumer_info(STREAM, "outstation-receiver")
        assert info.delivered.consumer_seq == 5
    assert seqs(path) == list(range(1, 101))


async def test_receivers_share_the_work_and_the_others_take_what_one_leaves(
    tmp_path: Path, server: NatsServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACK_WAIT_S", 0.5)
    monkeypatch.setattr(module, "BATCH", 4)
    first, second = tmp_path / "1.db", tmp_path / "2.db"
    async with receiver(server.url, first, share="fleet"), connected(server.url) as device:
        async with receiver(server.url, second, share="fleet"):
            await publish(device, 1, 100)
            await until(lambda: cloud.count(first) + cloud.count(second) >= 2000, "all has come")
            assert min(cloud.count(first), cloud.count(second)) > 100
        # What the second had asked for and did not live to acknowledge comes to the first.
        await publish(device, 2001, 20)
        await until(lambda: len({*seqs(first), *seqs(second)}) == 2400, "the rest has come")
    assert {*seqs(first), *seqs(second)} == set(range(1, 2401))


async def test_one_alone_and_others_together_do_not_mix(
    tmp_path: Path, server: NatsServers, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiver(server.url, tmp_path / "1.db", share="fleet"), asyncio.TaskGroup() as group:
        other = group.create_task(serve([server.url], f"sqlite:///{tmp_path / '2.db'}"))
        await until(lambda: "consumer" in caplog.text and "workqueue" in caplog.text, "it says why not")
        other.cancel()


async def test_who_is_told_to_stop_stops_whatever_it_is_doing(tmp_path: Path, server: NatsServers) -> None:
    """Also in the middle of connecting and of failing: nats-py may swallow a cancellation."""
    rng = random.Random(3)
    async with receiver(server.url, tmp_path / "1.db", share="fleet"):
        for _ in range(40):
            other = asyncio.create_task(serve([server.url], f"sqlite:///{tmp_path / '2.db'}"))
            await asyncio.sleep(rng.uniform(0, 0.1))
            other.cancel()
            done, _ = await asyncio.wait({other}, timeout=10)
            assert done


async def test_a_stream_that_is_there_is_taken_as_it_is(tmp_path: Path, server: NatsServers) -> None:
    async with connected(server.url) as device:
        jetstream = device.jetstream()
        with pytest.raises(NotFoundError):
            await jetstream.stream_info(STREAM)
        await jetstream.add_stream(
            StreamConfig(name=STREAM, subjects=["outstation.*.batch"], max_bytes=10_000_000)
        )
        async with receiver(server.url, tmp_path / "r.db"):
            await publish(device, 1, 5)
            await until(lambda: cloud.count(tmp_path / "r.db") == 100, "all has come")
        assert (await jetstream.stream_info(STREAM)).config.max_bytes == 10_000_000


PROGRAM = """
import asyncio, os, signal, sys
from agent.receiver import nats
from agent.receiver.service import serve
publish, count = nats._publish, 0
async def dying(connection, group):
    global count
    count += len(group)
    if count >= 10:
        os.kill(os.getpid(), signal.SIGKILL)   # committed, neither named nor acknowledged
    await publish(connection, group)
nats._publish = dying
asyncio.run(serve([sys.argv[1]], sys.argv[2]))
"""


async def test_killed_between_commit_and_acknowledgement(tmp_path: Path, server: NatsServers) -> None:
    path = tmp_path / "r.db"
    async with connected(server.url) as device:
        dying = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, server.url, f"sqlite:///{path}"
        )
        await until(lambda: cloud.count(path) == 0 and path.exists(), "it has begun")
        await publish(device, 1, 100)
        assert await dying.wait() == -signal.SIGKILL
        async with receiver(server.url, path):
            await until(lambda: cloud.count(path) == 2000, "all has come")
    assert seqs(path) == list(range(1, 2001))


@pytest.mark.parametrize("url", ["nats://", "nats://a,,b", "nats://me:secret@host"])
async def test_urls_that_are_not_understood(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"nats://host|--password-file"):
        await serve([url], f"sqlite:///{tmp_path / 'r.db'}")


@pytest.mark.slow
async def test_a_node_of_a_cluster_dies_while_it_drains(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with NatsServers(3) as cluster:
        async with receiver(cluster.url, path, replicas=3), connected(cluster.url) as device:
            publishing = asyncio.create_task(publish(device, 1, 1500))
            for _ in range(2):
                before = cloud.count(path)
                await until(lambda before=before: cloud.count(path) > before + 2000, "it drains", 40)  # type: ignore[misc]
                leader = cluster.leader(STREAM)
                await asyncio.to_thread(cluster.kill, leader)
                await asyncio.sleep(1)
                await asyncio.to_thread(cluster.start, leader)
            await publishing
            await until(lambda: cloud.count(path) == 30_000, "all has come", 40)
    assert seqs(path) == list(range(1, 30_001))
