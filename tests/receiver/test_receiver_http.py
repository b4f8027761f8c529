"""The HTTP receiver: a real server, real SQLite, real faults; and the real sender against it."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import random
import signal
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from pydantic_core import from_json

from agent.receiver.http import BODY_BYTES_MAX
from agent.receiver.service import ReceiverSecurity, serve
from agent.spine.spine import open_spine
from agent.sync.acknowledgement import digest
from agent.sync.config import HttpUpstreamOptions
from agent.sync.registry import create_sender
from tests.receiver.packs import payload
from tests.rigs import cloud
from tests.rigs.no_timing import AsMeasured
from tests.rigs.proxy import ChaosProxy
from tests.sync.memory_buffer import MemoryConsumer, MemoryDeadLetters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.rigs.postgres import Postgres

QUICK = {"first": "10 ms", "base": "10 ms", "cap": "50 ms"}


@asynccontextmanager
async def receiver(path: Path, security: ReceiverSecurity | None = None, port: int = 0) -> AsyncIterator[str]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            serve(
                [f"http://127.0.0.1:{port}"],
                f"sqlite:///{path}",
                security=security,
                on_ready=lambda addresses: ready.set_result(addresses[0]),
            )
        )
        yield await ready
        task.cancel()


def stored(path: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT source, seq FROM readings ORDER BY arrival").fetchall()


async def post(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(url, data=io.BytesIO(body), headers=headers) as answer,
    ):
        text = await answer.read()
        return answer.status, from_json(text) if text.startswith(b"{") else {"error": text.decode()}


async def health(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(url.replace("readings", "health")) as answer:
        said: dict[str, Any] = await answer.json()
        return said


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_pack_is_stored_and_named(tmp_path: Path) -> None:
    async with receiver(tmp_path / "r.db") as url:
        assert await post(url, payload()) == (200, {"acked": [digest(payload())]})
        assert await post(url, payload(21, 3), **{"Content-Encoding": "identity"}) == (
            200,
            {"acked": [digest(payload(21, 3))]},
        )
        assert await post(url, payload(), **{"Content-Encoding": "gzip"}) == (
            200,
            {"acked": [digest(payload())]},
        )
        assert await health(url) == {
            "status": "ok",
            "readings": 23,
            "inserted": 23,
            "duplicates": 20,
            "rejected": 0,
        }
    assert stored(tmp_path / "r.db") == [("soil", n) for n in range(1, 24)]


async def test_what_is_no_pack_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with receiver(tmp_path / "r.db") as url:
        why = "not JSON: expected value at line 1 column 1"
        assert await post(url, b"hello") == (
            400,
            {"error": why, "rejected": [[digest(b"hello"), why]]},
        )
        status, said = await post(url, b'[{"bn":"d:s/","bt":1,"n":"a","v":1}]')
        assert (status, said["error"]) == (400, "the first record has no `store`: no key to tell a resend by")
        assert (await post(url, payload()[:-3]))[0] == 400
        assert (await post(url, b""))[0] == 400
        assert (await post(url, payload(), **{"Content-Encoding": "br"}))[0] == 415
        assert (await post(url, os.urandom(BODY_BYTES_MAX + 1)))[0] == 413
        assert (await post(url, gzip.compress(b" " * 30_000_000)))[0] == 413
        assert (await post(url.replace("readings", "other"), payload()))[0] == 404
        assert (await post(url, payload()))[0] == 200
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection:
        kept = connection.execute("SELECT origin, payload, reason FROM rejected ORDER BY id").fetchall()
    assert kept[0] == ("/readings from 127.0.0.1", b"hello", why)
    assert [what for _, what, _ in kept[2:]] == [payload()[:-3], b""]


async def test_a_token_keeps_others_out(tmp_path: Path) -> None:
    async with receiver(tmp_path / "r.db", ReceiverSecurity(token="sécret")) as url:
        assert (await post(url, payload()))[0] == 401
        assert (await post(url, payload(), Authorization="Bearer x"))[0] == 401
        assert (await post(url, payload(), Authorization="Bearer sécret"))[0] == 200


async def test_a_database_that_does_not_commit_is_no_acknowledgement(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    async with receiver(path) as url:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(
                "CREATE TRIGGER sick BEFORE INSERT ON readings BEGIN SELECT RAISE(ABORT, 'no space'); END"
            )
            assert (await post(url, payload()))[0] == 503
            async with (
                aiohttp.ClientSession() as session,
                session.get(url.replace("readings", "health")) as answer,
            ):
                assert answer.status == 503
                assert "no space" in (await answer.json())["error"]
            other.execute("DROP TRIGGER sick")
        assert (await post(url, payload()))[0] == 200


async def test_many_devices_share_commits(tmp_path: Path) -> None:
    async with receiver(tmp_path / "r.db") as url:
        answers = await asyncio.gather(*(post(url, payload(device=f"d{n}")) for n in range(60)))
        assert {status for status, _ in answers} == {200}
    assert len(stored(tmp_path / "r.db")) == 1200


@pytest.mark.parametrize(
    ("from_urls", "into", "why"),
    [
        ([], "sqlite:///x.db", "`from` should be"),
        (["ftp://x"], "sqlite:///x.db", "`from` should be"),
        (["http://"], "sqlite:///x.db", "names no host"),
        (["https://x"], "sqlite:///x.db", "certificate"),
        (["http://127.0.0.1"], "oracle://x", "sqlite:///file.db"),
        (["mqtt://"], "sqlite:///x.db", "host"),
    ],
)
async def test_urls_that_are_not_understood(from_urls: list[str], into: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        await serve(from_urls, into)


async def test_an_address_in_use_is_told_plainly(tmp_path: Path) -> None:
    async with receiver(tmp_path / "a.db") as url:
        with pytest.raises(OSError, match="in use"):
            await serve([url], f"sqlite:///{tmp_path}/b.db")


# The real sender against it


@asynccontextmanager
async def sending(url: str, consumer: MemoryConsumer, **options: Any) -> AsyncIterator[Any]:
    async with open_spine(rng=random.Random(1)) as spine:
        made = HttpUpstreamOptions.model_validate(
            {"url": url, "linger": 0, "retry": QUICK, "batch_readings": 50, "ack": "receiver", **options}
        )
        sender = create_sender(
            "cloud", made, consumer.device_id, consumer, MemoryDeadLetters(), spine, AsMeasured()
        )
        spine.start("sync", sender.run(), layer="sync", subject="cloud")
        yield sender


async def test_a_link_that_is_cut_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    consumer = MemoryConsumer()
    consumer.add_readings(4000)
    rng = random.Random(7)
    async with (
        receiver(tmp_path / "r.db") as url,
        ChaosProxy(("127.0.0.1", int(url.split(":")[2].split("/")[0]))) as proxy,
        sending(f"http://127.0.0.1:{proxy.port}/readings", consumer, timeout="300 ms"),
    ):
        for _ in range(12):
            before = consumer.backlog
            proxy.set_weather(rng.choice(["up", "down"]), cut_after_bytes=rng.randrange(1, 3000))
            await until(lambda before=before: consumer.backlog < before - 100 or not consumer.backlog)  # type: ignore[misc]
        proxy.heal()
        await until(lambda: consumer.backlog == 0)
    assert stored(tmp_path / "r.db") == [("soil", n) for n in range(1, 4001)]


async def test_a_half_open_link_is_given_up_and_nothing_is_lost(tmp_path: Path) -> None:
    consumer = MemoryConsumer()
    async with (
        receiver(tmp_path / "r.db") as url,
        ChaosProxy(("127.0.0.1", int(url.split(":")[2].split("/")[0]))) as proxy,
        sending(f"http://127.0.0.1:{proxy.port}/readings", consumer, timeout="300 ms") as sender,
    ):
        consumer.add_readings(200)
        await until(lambda: consumer.backlog == 0)
        proxy.blackhole("down")
        consumer.add_readings(200)
        await until(lambda: sender.status.state == "retrying")
        assert "no answer within" in sender.status.holding_back
        proxy.reset_all()
        proxy.heal()
        await until(lambda: consumer.backlog == 0)
    assert stored(tmp_path / "r.db") == [("soil", n) for n in range(1, 401)]


PROGRAM = """
import asyncio, os, signal, sys
from agent.receiver import http
from agent.receiver.service import serve
answer, count = http._answer, 0
def dying(code, **body):
    global count
    count += code == 200
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)   # committed, not answered
    return answer(code, **body)
http._answer = dying
asyncio.run(serve([sys.argv[1]], sys.argv[2], on_ready=lambda a: print(a[0], flush=True)))
"""


async def start_program(path: Path, port: int, dies_at: int) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, f"http://127.0.0.1:{port}", f"sqlite:///{path}", str(dies_at)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def test_killed_between_commit_and_answer_the_resend_is_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    consumer = MemoryConsumer()
    consumer.add_readings(500)
    process, url = await start_program(path, 0, dies_at=4)
    try:
        async with sending(url, consumer):
            assert await process.wait() == -signal.SIGKILL
            assert len(stored(path)) == 200, "the fourth pack was committed"
            assert consumer.backlog == 350, "and not acknowledged"
            process, _ = await start_program(path, int(url.split(":")[2].split("/")[0]), dies_at=-1)
            await until(lambda: consumer.backlog == 0)
            async with (
                aiohttp.ClientSession() as session,
                session.get(url.replace("readings", "health")) as answer,
            ):
                assert (await answer.json())["duplicates"] == 50
    finally:
        process.kill()
        await process.wait()
    assert stored(path) == [("soil", n) for n in range(1, 501)]


async def test_whoever_posts_while_the_database_is_away_is_asked_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.receiver.http.COMMIT_TIMEOUT_S", 0.2)
    monkeypatch.setattr("agent.receiver.sqlite_store._BUSY_TIMEOUT_S", 0.05)
    async with receiver(tmp_path / "r.db") as url:
        with closing(sqlite3.connect(tmp_path / "r.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            status, said = await post(url, payload())
            assert (status, said["error"]) == (503, "the database did not commit within 0.2 s")
            other.execute("ROLLBACK")
        while (await post(url, payload()))[0] != 200:
            pass  # as long as the database is waited for
    assert stored(tmp_path / "r.db") == [("soil", n) for n in range(1, 21)]


async def test_what_the_database_will_never_take_is_refused_for_good(postgres: Postgres) -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        into = postgres.url(postgres.new_database())
        run = serve(["http://127.0.0.1:0"], into, on_ready=lambda addresses: ready.set_result(addresses[0]))
        task = group.create_task(run)
        url = await ready
        status, said = await post(url, payload(device="a\0b"))
        assert status == 400
        assert "0x00" in said["error"]
        assert (await post(url, payload()))[0] == 200
        assert (await health(url))["rejected"] == 1
        task.cancel()
    assert cloud.count(into) == 20


async def test_a_database_that_is_away_at_the_start_is_waited_for() -> None:
    from tests.rigs.postgres import Postgres

    with Postgres() as server:
        into = server.url(server.new_database())
        server.kill()
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            run = serve(
                ["http://127.0.0.1:0"], into, on_ready=lambda addresses: ready.set_result(addresses[0])
            )
            task = group.create_task(run)
            await asyncio.sleep(0.5)
            assert not ready.done()
            server.start()
            assert (await post(await ready, payload()))[0] == 200
            task.cancel()
        assert cloud.count(into) == 20
