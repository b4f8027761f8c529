"""The receiver's database: every reading once, in order of arrival, durable before anybody is told."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from pydantic_core import from_json

from agent.receiver import committer as committer_module
from agent.receiver.committer import Committer
from agent.receiver.packs import PackTooLarge, Refused, unpack
from agent.receiver.store import SqliteStore, Stored, StoreError, store_for
from agent.sync.senml import NotSenML
from collectors.clock import SystemClock
from tests.receiver.packs import STORE, payload, received
from tests.sync.memory_buffer import reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.receiver.packs import Received


def rows(path: Path, query: str = "SELECT * FROM readings ORDER BY arrival") -> list[sqlite3.Row]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query).fetchall()


async def test_what_a_row_holds(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    async with SqliteStore(str(path), SystemClock()) as store:
        assert await store.write([received(7, 2, tags={"room": "ä"})]) == Stored(2, 0)
    first, second = rows(path)
    assert (first["device_id"], first["store_id"], first["seq"], first["source"]) == (
        "greenhouse-3",
        STORE,
        7,
        "soil",
    )
    assert first["t"] == 1790000007.0
    assert from_json(first["document"]) == reading("soil", 7, tags={"room": "ä"})
    assert abs(first["received_at"] - SystemClock().now().timestamp()) < 60
    assert second["arrival"] == first["arrival"] + 1


async def test_a_resend_inserts_nothing_whatever_its_bounds(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    async with SqliteStore(str(path), SystemClock()) as store:
        assert await store.write([received(1, 20)]) == Stored(20, 0)
        assert await store.write([received(1, 20)]) == Stored(0, 20)
        assert await store.write([received(11, 20), received(15, 3)]) == Stored(10, 13)
        assert await store.write([received(1, 5, store="another"), received(1, 5, device="b")]) == Stored(
            10, 0
        )
        statistics = await store.statistics()
    assert (statistics.readings, statistics.inserted, statistics.duplicates) == (40, 40, 33)
    mine = [
        row["seq"] for row in rows(path) if (row["device_id"], row["store_id"]) == ("greenhouse-3", STORE)
    ]
    assert mine == list(range(1, 31))


async def test_it_opens_again_and_goes_on(tmp_path: Path) -> None:
    for expected in (Stored(20, 0), Stored(0, 20)):
        async with SqliteStore(str(tmp_path / "r.db"), SystemClock()) as store:
            assert await store.write([received()]) == expected


async def test_a_database_of_the_future_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="version 99"):
        async with SqliteStore(str(tmp_path / "r.db"), SystemClock()):
            pass


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_text("hello " * 1000)
    with pytest.raises(StoreError, match="not a database"):
        async with SqliteStore(str(tmp_path / "r.db"), SystemClock()):
            pass


async def test_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    async with SqliteStore(str(path), SystemClock()) as store:
        await store.write([received(1, 1)])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(
                "CREATE TRIGGER sick BEFORE INSERT ON readings WHEN new.seq = 15"
                " BEGIN SELECT RAISE(ABORT, 'no space'); END"
            )
            with pytest.raises(StoreError, match="no space"):
                await store.write([received(2, 10), received(12, 10)])
            assert len(rows(path)) == 1
            other.execute("DROP TRIGGER sick")
        assert await store.write([received(2, 10), received(12, 10)]) == Stored(20, 0)


async def test_rejected_packs_are_kept_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.receiver.store.REJECTED_MAX", 5)
    path = tmp_path / "r.db"
    async with SqliteStore(str(path), SystemClock()) as store:
        for n in range(8):
            await store.write([], [Refused("outstation/x/readings", b"%d" % n + b"x" * 100_000, "not JSON")])
        assert (await store.statistics()).rejected == 8
    kept = rows(path, "SELECT * FROM rejected ORDER BY id")
    assert [row["payload"][:1] for row in kept] == [b"3", b"4", b"5", b"6", b"7"]
    assert len(kept[0]["payload"]) == 65536
    assert kept[0]["reason"] == "not JSON"


@pytest.mark.parametrize("url", ["postgresql://x/y", "sqlite://host/x", "sqlite:///", "x.db", ""])
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:///file\.db"):
        store_for(url, SystemClock())


def test_urls_that_do() -> None:
    for url, path in {"sqlite:///a/b%20c.db": "a/b c.db", "sqlite:////var/lib/r.db": "/var/lib/r.db"}.items():
        store = store_for(url, SystemClock())
        assert isinstance(store, SqliteStore)
        assert store.path == path


def test_a_pack_is_bounded_before_it_takes_memory() -> None:
    with pytest.raises(PackTooLarge):
        unpack(payload(count=9), bytes_max=100)
    with pytest.raises(PackTooLarge):
        unpack(payload(count=2000), bytes_max=100_000)
    assert unpack(payload(count=20)).bounds == (1, 20, 20)


@pytest.mark.parametrize("broken", [payload()[:-5], payload() + b"x", b"\x1f\x8bhello", b"\x1f\x8b"])
def test_broken_gzip_is_no_pack(broken: bytes) -> None:
    with pytest.raises(NotSenML, match="gzip"):
        unpack(broken)


class SlowStore:
    def __init__(self) -> None:
        self.groups: list[int] = []
        self.failures: list[OSError] = []
        self.go = asyncio.Event()

    async def write(
        self, packs: Sequence[Received], refused: Sequence[Refused] = (), losses: object = ()
    ) -> Stored:
        await self.go.wait()
        if self.failures:
            self.go.clear()
            raise self.failures.pop(0)
        self.groups.append(len(packs) + len(refused))
        return Stored(0, 0)


async def test_what_arrives_during_a_commit_rides_the_next_and_a_failure_reaches_its_own_only() -> None:
    store = SlowStore()
    committer = Committer(store)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        run = group.create_task(committer.run())
        first = await committer.submit(received())
        await asyncio.sleep(0)
        others = [await committer.submit(received()) for _ in range(30)]
        others.append(await committer.submit(Refused("t", b"", "why")))
        store.failures.append(StoreError("disk full"))
        assert not any(future.done() for future in (first, *others))
        store.go.set()
        with pytest.raises(StoreError, match="disk full"):
            await first
        assert committer.fault == "disk full"
        store.go.set()
        await asyncio.gather(*others)
        assert committer.fault is None
        assert store.groups == [31]
        run.cancel()


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "WAITING_MAX", 3)
    store = SlowStore()
    committer = Committer(store)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        run = group.create_task(committer.run())
        futures = [await committer.submit(received()) for _ in range(3)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                futures += [await committer.submit(received()) for _ in range(4)]
        store.go.set()
        await asyncio.gather(*futures)
        run.cancel()


async def test_nobody_waits_for_ever_when_it_ends() -> None:
    committer = Committer(SlowStore())  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        run = group.create_task(committer.run())
        future = await committer.submit(received())
        await asyncio.sleep(0)
        run.cancel()
    assert future.cancelled()
