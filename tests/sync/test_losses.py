"""What a device loses while it is offline, its receiver learns: which readings, how many, why, each once."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_core import to_json

from agent.composition.deliveries import LossFeed
from agent.receiver.packs import unpack_losses
from agent.receiver.service import serve
from agent.receiver.sqlite_store import SqliteStore
from agent.spine.spine import open_spine
from agent.sync.config import HttpUpstreamOptions, MqttUpstreamOptions
from agent.sync.dead_letters import BufferDeadLetters
from agent.sync.losses import LossTeller, ToldLoss, ToldLosses
from agent.sync.registry import create_sender
from agent.sync.senml import NotSenML
from buffer import TinyDBBuffer
from collectors.clock import SystemClock
from tests.rigs.cloud import rows
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.no_timing import AsMeasured
from tests.sync.memory_buffer import reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.sync.extent import ExtentTeller

QUICK = {"first": "10 ms", "base": "10 ms", "cap": "50 ms"}


def losses(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT lane, why, first, last, count FROM losses ORDER BY first"
        ).fetchall()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def receiver(path: Path, url: str) -> AsyncIterator[str]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        run = serve([url], f"sqlite:///{path}", on_ready=lambda urls: ready.set_result(urls[0]))
        task = group.create_task(run)
        yield await ready
        task.cancel()


@asynccontextmanager
async def telling(
    options: Any, buffer: TinyDBBuffer, extents: ExtentTeller | None = None
) -> AsyncIterator[Any]:
    async with open_spine(rng=random.Random(1)) as spine:
        feed = LossFeed(buffer.database.ledger, "cloud")
        await feed.begin()
        own = buffer.epochs[-1]
        teller = LossTeller(
            "cloud", feed, lambda _: (own.device_id, own.store_id), extents, every_s=0.01, retry_s=0.01
        )
        sender = create_sender(
            "cloud",
            options,
            "greenhouse-3",
            buffer.consumer("cloud"),
            BufferDeadLetters(buffer),
            spine,
            AsMeasured(),
            teller,
        )
        spine.start("sync", sender.run(), layer="sync", subject="cloud")
        yield sender


async def offline_past_the_quota(buffer: TinyDBBuffer) -> int:
    """More than the quota holds, one alarm in a hundred; the highest id."""
    await asyncio.to_thread(buffer.consumer, "cloud")
    last = 0
    for start in range(0, 3000, 100):
        lane = {"lane": "alarm"}
        documents = [
            to_json(reading("soil", n, **(lane if n % 100 == 0 else {}))) for n in range(start, start + 100)
        ]
        last = buffer.append(documents)[-1]
        await buffer.flush()
    return last


@asynccontextmanager
async def full_buffer(path: Path) -> AsyncIterator[tuple[TinyDBBuffer, int]]:
    buffer = TinyDBBuffer(
        "buffer", path, device_id="greenhouse-3", window_s=0.02, segment_bytes=32 << 10, quota_bytes=150_000
    )
    await buffer.connect()
    try:
        yield buffer, await offline_past_the_quota(buffer)
    finally:
        await buffer.disconnect()


def check(path: Path, last: int, ledger: Any) -> None:
    """Delivered and dropped are all ids that there were; the receiver's ledger says exactly which."""
    arrived = {row.seq for row in rows(path)}
    ((lane, why, first, end, count),) = losses(path)
    assert (lane, why) == ("normal", "full: oldest dropped")
    missing = set(range(1, last + 1)) - arrived
    assert missing <= set(range(first, end + 1))
    assert len(missing) == count == ledger.dropped
    assert {each for each in range(1, last + 1) if (each - 1) % 100 == 0} <= arrived, "no alarm was lost"


async def test_over_http_the_receiver_knows_exactly_what_was_dropped(tmp_path: Path) -> None:
    async with full_buffer(tmp_path / "b") as (buffer, last):
        assert buffer.database.ledger.dropped > 1000
        async with receiver(tmp_path / "r.db", "http://127.0.0.1:0") as url:
            made = {"url": url, "linger": 0, "retry": QUICK, "ack": "receiver"}
            async with telling(HttpUpstreamOptions.model_validate(made), buffer):
                await until(lambda: buffer.consumer("cloud").backlog == 0 and losses(tmp_path / "r.db"))
                check(tmp_path / "r.db", last, buffer.database.ledger)
                await until(lambda: not buffer.database.ledger.untold("cloud"))
                assert buffer.database.ledger.items(), "they stay for reading here"


async def test_over_mqtt_too(tmp_path: Path) -> None:
    with Mosquitto() as broker:
        async with full_buffer(tmp_path / "b") as (buffer, last), receiver(tmp_path / "r.db", broker.url):
            made = {"url": broker.url, "linger": 0, "retry": QUICK}
            async with telling(MqttUpstreamOptions.model_validate(made), buffer):
                await until(lambda: buffer.consumer("cloud").backlog == 0 and losses(tmp_path / "r.db"))
                await until(lambda: not buffer.database.ledger.untold("cloud"))
            check(tmp_path / "r.db", last, buffer.database.ledger)


async def test_a_receiver_that_does_not_take_it_holds_no_reading_up(tmp_path: Path) -> None:
    async with (
        full_buffer(tmp_path / "b") as (buffer, _),
        receiver(tmp_path / "r.db", "http://127.0.0.1:0") as url,
    ):
        with closing(sqlite3.connect(tmp_path / "r.db")) as other:
            other.execute("CREATE TRIGGER no BEFORE INSERT ON losses BEGIN SELECT RAISE(ABORT, 'no'); END")
        made = {"url": url, "linger": 0, "retry": QUICK, "ack": "receiver"}
        async with telling(HttpUpstreamOptions.model_validate(made), buffer):
            await until(lambda: buffer.consumer("cloud").backlog == 0)
        assert buffer.database.ledger.untold("cloud"), "it is told again later"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ack": "receiver"}, True),
        ({"ack": "broker"}, False),
        ({"ack": "broker", "ledger": True}, True),
        ({"ledger": False}, False),
    ],
)
def test_only_an_end_that_understands_it_is_told_by_default(options: dict[str, Any], told: object) -> None:
    assert MqttUpstreamOptions.model_validate({"url": "mqtts://h", **options}).tells_losses is told
    assert not HttpUpstreamOptions.model_validate({"url": "https://h/r"}).tells_losses


async def test_repetitions_and_late_messages_change_nothing(tmp_path: Path) -> None:
    def told(*bounds: tuple[int, int, int]) -> ToldLosses:
        return ToldLosses(
            device="d",
            store="s",
            version=1,
            losses=[
                ToldLoss(first=first, last=last, count=count, why="full", since=1.0, until=2.0)
                for first, last, count in bounds
            ],
        )

    async with SqliteStore(str(tmp_path / "r.db"), SystemClock()) as store:
        for message in (
            told((1, 10, 10), (0, 0, 3)),
            told((1, 20, 20)),
            told((1, 10, 10), (0, 0, 2)),
            told((31, 40, 10)),
            told((1, 40, 30), (0, 0, 9)),
            told((31, 40, 10)),
            told((51, 60, 0)),
        ):
            await store.write([], losses=[message])
    assert losses(tmp_path / "r.db") == [
        ("", "full", 0, 0, 9),
        ("", "full", 1, 40, 30),
        ("", "full", 51, 60, 0),
    ]


def message(entries: str) -> bytes:
    return f'{{"device":"d","store":"s","version":1,"losses":[{entries}]}}'.encode()


ENTRY = '{"first":1,"last":2,"count":1,"why":"full","since":%s,"until":2.0}'


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"device":"d","store":"s","version":-1,"losses":[]}',
        message(ENTRY % "NaN"),
        message(ENTRY % "1e999"),
        message(ENTRY % "-Infinity"),
    ],
)
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    """What passed here and no database takes, it would come again for ever, and block what is behind it."""
    with pytest.raises(NotSenML, match="no message of a loss ledger"):
        unpack_losses(payload)


def test_a_message_of_nothing_but_faults_takes_no_memory_to_say_so() -> None:
    unpack_losses(message(ENTRY % "1.0"))
    with pytest.raises(NotSenML, match=r"losses\.0\.first: Field required") as refused:
        unpack_losses(message(",".join(["{}"] * 10_000)))
    assert len(str(refused.value)) < 100
