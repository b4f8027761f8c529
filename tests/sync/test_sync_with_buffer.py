"""The real buffer, the real sender, a real receiver: what is accepted arrives, once, in order, with its key."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from agent.receiver.service import serve
from agent.spine.spine import open_spine
from agent.sync.config import HttpUpstreamOptions
from agent.sync.dead_letters import BufferDeadLetters
from agent.sync.registry import create_sender
from buffer import TinyDBBuffer
from tests.rigs.cloud import rows
from tests.rigs.no_timing import AsMeasured
from tests.rigs.proxy import ChaosProxy
from tests.sync.memory_buffer import reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

QUICK = {"first": "10 ms", "base": "10 ms", "cap": "50 ms"}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def open_buffer(path: Path) -> AsyncIterator[TinyDBBuffer]:
    buffer = TinyDBBuffer("buffer", path, device_id="greenhouse-3", window_s=0.02)
    await buffer.connect()
    try:
        yield buffer
    finally:
        await buffer.disconnect()


@asynccontextmanager
async def sending(url: str, buffer: TinyDBBuffer, **options: Any) -> AsyncIterator[Any]:
    async with open_spine(rng=random.Random(1)) as spine:
        made = HttpUpstreamOptions.model_validate({"url": url, "linger": 0, "retry": QUICK, **options})
        consumer = buffer.consumer("cloud")
        sender = create_sender(
            "cloud", made, "greenhouse-3", consumer, BufferDeadLetters(buffer), spine, AsMeasured()
        )
        spine.start("sync", sender.run(), layer="sync", subject="cloud")
        yield sender


@asynccontextmanager
async def receiver(path: Path) -> AsyncIterator[str]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        run = serve(
            ["http://127.0.0.1:0"], f"sqlite:///{path}", on_ready=lambda urls: ready.set_result(urls[0])
        )
        task = group.create_task(run)
        yield await ready
        task.cancel()


async def test_from_append_to_database_over_a_bad_link_and_a_restart(tmp_path: Path) -> None:
    documents = [reading(f"s{n % 3}", n) for n in range(3000)]
    async with (
        receiver(tmp_path / "r.db") as url,
        ChaosProxy(("127.0.0.1", int(url.split(":")[2].split("/")[0]))) as proxy,
    ):
        bad = f"http://127.0.0.1:{proxy.port}/readings"
        async with open_buffer(tmp_path / "b") as buffer:
            store_id = buffer.store_id
            async with sending(bad, buffer, timeout="500 ms", batch_readings=100) as sender:
                for start in range(0, 1500, 50):
                    buffer.append([to_json(document) for document in documents[start : start + 50]])
                    if start % 300 == 0:
                        proxy.set_weather("down", cut_after_bytes=200)
                    await asyncio.sleep(0)
                await until(lambda: sender.status.delivered >= 500)
                proxy.blackhole()
                buffer.append([to_json(document) for document in documents[1500:]])
                await buffer.flush()
        proxy.reset_all()
        proxy.heal()
        async with open_buffer(tmp_path / "b") as buffer:
            assert buffer.consumer("cloud").backlog >= 1500
            async with sending(bad, buffer) as sender:
                await until(lambda: buffer.consumer("cloud").backlog == 0)
                assert sender.status.holding_back is None
    arrived = rows(tmp_path / "r.db")
    assert [row.document for row in arrived] == documents
    assert {(row.device_id, row.store_id) for row in arrived} == {("greenhouse-3", store_id)}
    assert [row.seq for row in arrived] == sorted({row.seq for row in arrived})


async def test_a_poison_record_ends_in_the_buffers_dead_letters(tmp_path: Path) -> None:
    async with receiver(tmp_path / "r.db") as url, open_buffer(tmp_path / "b") as buffer:
        async with sending(url, buffer):
            good = [to_json(reading("soil", n)) for n in range(20)]
            buffer.append([*good[:10], b'{"hello":"world"}', *good[10:]])
            await buffer.flush()
            await until(lambda: buffer.consumer("cloud").backlog == 0)
        (letter,) = await buffer.recent(5, table="dead_letters")
    assert letter.document["stage"] == "upstream"
    assert letter.document["readings"] == [[11, {"hello": "world"}]]
    assert len(rows(tmp_path / "r.db")) == 20


async def test_a_drained_buffer_says_so(tmp_path: Path) -> None:
    async with (
        receiver(tmp_path / "r.db") as url,
        open_buffer(tmp_path / "b") as buffer,
        sending(url, buffer, linger="1 h") as sender,
    ):
        buffer.append([to_json(reading("soil", n)) for n in range(20)])
        await buffer.flush()
        assert await sender.drain(60)
    assert len(rows(tmp_path / "r.db")) == 20
