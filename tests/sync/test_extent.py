"""How far an upstream is, is told rarely, only when it has changed, and after what was lost by then."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from pydantic_core import from_json, to_json

from agent.receiver.gaps import missing_of
from agent.receiver.sqlite_store import SqliteStore
from agent.sync.aside import ASIDE, RANGES_MAX, SetAside
from agent.sync.config import HttpUpstreamOptions
from agent.sync.extent import Extent, ExtentTeller, ToldExtent, extents_of, whole_from
from agent.sync.losses import LossTeller
from agent.sync.upstream import LinkLost, Pack
from buffer import BufferDB, TinyDBBuffer
from buffer.consumer import Reach
from collectors.clock import SystemClock
from tests.rigs.virtual_time import run_virtually
from tests.sync.memory_buffer import reading
from tests.sync.test_losses import QUICK, full_buffer, receiver, telling, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass
class Epoch:
    first_seq: int
    store_id: str
    device_id: str = "d"


def told(reach: Reach, *epochs: Epoch, **options: Any) -> list[tuple[str, int, int, int, int, int]]:
    found = extents_of("cloud", reach, epochs or [Epoch(1, "s")], **options)
    fields = [(each.store_id, each.told) for each in found]
    return [(s, t.begins, t.since, t.absent, t.settled, t.newest) for s, t in fields]


def test_each_store_has_an_extent_of_its_own():
    reach = Reach(begins=5, since=8, absent=2, settled=140, newest=200)
    assert told(reach) == [("s", 5, 8, 2, 140, 200)]
    assert told(reach, Epoch(1, "a"), Epoch(101, "b"), Epoch(151, "c")) == [
        ("a", 5, 8, 2, 100, 100),
        ("b", 101, 0, 0, 140, 150),
        ("c", 151, 0, 0, 150, 200),
    ]
    assert told(reach, Epoch(1, "a"), Epoch(3, "b")) == [("b", 5, 8, 2, 140, 200)], (
        "it had nothing of the first"
    )
    assert told(reach, Epoch(1, "a"), Epoch(201, "b")) == [("a", 5, 8, 2, 140, 200)], "nor of the last as yet"


def test_nothing_is_told_of_a_buffer_without_readings():
    assert told(Reach(begins=1, since=0, absent=0, settled=0, newest=0)) == []


def test_before_a_route_went_only_some_readings_were_for_it():
    assert told(Reach(1, 0, 0, 90, 100), begins=51) == [("s", 51, 0, 0, 90, 100)]
    (extent,) = extents_of("cloud", Reach(1, 0, 0, 90, 100), [Epoch(1, "s")], routed=True)
    assert extent.told.routed


class Table(dict[str, Any]):
    async def put(self, key: str, value: Any) -> None:
        self[key] = value


async def test_a_route_that_comes_and_goes():
    table = Table()
    assert await whole_from(table, "cloud", 100, routed=False) == 0
    assert table == {}, "most have none"
    assert await whole_from(table, "cloud", 100, routed=True) == 0
    assert await whole_from(table, "cloud", 150, routed=True) == 0
    assert await whole_from(table, "cloud", 200, routed=False) == 201
    assert await whole_from(table, "cloud", 300, routed=False) == 201, "also after a restart"
    assert await whole_from(table, "cloud", 300, routed=True) == 0


async def test_what_an_upstream_would_not_take_is_remembered_and_bounded():
    table = Table()
    aside = SetAside(table, "cloud")
    assert aside.of("s") == ()
    for _ in range(2):
        await aside.add("s", 11, 20, 10)
        await aside.add("s", 30, 40, 5)
    await aside.add("t", 1, 1, 1)
    assert SetAside(table, "cloud").of("s") == ((11, 20, 10), (30, 40, 5))
    await aside.add("s", 15, 25, 9)
    assert aside.of("s") == ((11, 25, 15), (30, 40, 5)), "no more than there are numbers"
    (extent,) = extents_of("cloud", Reach(1, 0, 0, 90, 100), [Epoch(1, "s")], aside=aside)
    assert extent.told.aside == ((11, 25, 15), (30, 40, 5))
    for at in range(300):
        await aside.add("s", 1000 + 10 * at, 1001 + 10 * at, 2)
    assert len(aside.of("s")) == RANGES_MAX
    assert sum(count for _, _, count in aside.of("s")) == 15 + 5 + 600
    assert aside.of("t") == ((1, 1, 1),)
    assert len(to_json({"t": aside.of("s")})) < 4000


async def test_what_cannot_be_noted_of_that_is_told_all_the_same_and_noted_with_the_next():
    table = Table()
    aside = SetAside(table, "cloud")
    await aside.add("s", 1, 1, 1)
    with patch.object(table, "put", side_effect=RuntimeError("read-only file system")):
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await aside.add("s", 5, 6, 2)
    assert aside.of("s") == ((1, 1, 1), (5, 6, 2))
    assert SetAside(table, "cloud").of("s") == ((1, 1, 1),)
    await aside.add("t", 7, 7, 1)
    assert SetAside(table, "cloud").of("s") == ((1, 1, 1), (5, 6, 2))


class NoLosses:
    async def untold(self) -> Sequence[Any]:
        return ()

    async def told(self, version: int) -> None:
        raise AssertionError(version)


def test_it_is_told_at_once_and_then_ever_more_rarely():
    """A day at a reading a second: some 30 KB, and nothing while nothing changes."""
    sent: list[tuple[float, bytes]] = []

    async def day() -> None:
        loop = asyncio.get_running_loop()

        def look() -> list[Extent]:
            return extents_of("cloud", Reach(1, 0, 0, n := min(int(loop.time()), 43_200), n), [Epoch(1, "s")])

        async def send(pack: Pack) -> None:
            sent.append((loop.time(), pack.payload))

        teller = LossTeller("cloud", NoLosses(), lambda _: ("d", "s"), ExtentTeller(look))
        try:
            async with asyncio.timeout(86_400):
                await teller.run(send)
        except TimeoutError:
            return

    run_virtually(day())
    at = [round(moment) for moment, _ in sent]
    assert at[:6] == [10, 70, 190, 430, 910, 1510], "as soon as there is a reading"
    assert all(later - earlier == 600 for earlier, later in pairwise(at[4:]))
    assert at[-1] < 44_000
    assert 2 * sum(len(payload) for _, payload in sent) < 40_000
    assert from_json(sent[-1][1])["extent"]["settled"] == 43_200


def test_a_link_that_comes_and_goes_does_not_have_it_told_each_time():
    async def flapping() -> int:
        sent = 0
        extents = ExtentTeller(lambda: extents_of("cloud", Reach(1, 0, 0, n := 1 + sent, n), [Epoch(1, "s")]))

        async def send(_: Pack) -> None:
            nonlocal sent
            if sent % 2:
                sent += 1
                raise LinkLost("cut")
            sent += 1

        teller = LossTeller("cloud", NoLosses(), lambda _: ("d", "s"), extents, retry_s=1)
        for _ in range(60):
            try:
                async with asyncio.timeout(10):
                    await teller.run(send)
            except TimeoutError:
                continue
        return sent

    assert run_virtually(flapping()) < 2 * 600 / 60 + 10


def test_a_consumer_made_late_is_owed_what_was_there(tmp_path: Path):
    db = BufferDB(tmp_path / "b", threaded=False)
    db.insert_json([b'{"n":1}'] * 20)
    db.flush()
    db.remove(doc_ids=[3, 4, 9])
    first = db.consumer("first")
    assert first.reach == Reach(begins=1, since=20, absent=3, settled=0, newest=20)
    batch = first.take(100)
    assert batch is not None
    first.ack(batch)
    db.insert_json([b'{"n":1}'] * 5)
    db.flush()
    db.remove(doc_ids=[23])
    assert first.reach == Reach(1, 20, 3, 20, 25)
    second = db.consumer("second")
    assert second.reach == Reach(1, 25, 3, 0, 25), "the ledger tells it of 23"
    db.close()
    db = BufferDB(tmp_path / "b", threaded=False)
    assert db.consumer("second").reach == Reach(1, 25, 3, 0, 25)
    assert replace(db.consumer("first").reach, settled=20) == Reach(1, 20, 3, 20, 25)
    db.close()


def test_one_that_an_older_version_made_is_owed_what_came_since(tmp_path: Path):
    db = BufferDB(tmp_path / "b", threaded=False)
    db.insert_json([b'{"n":1}'] * 20)
    db.flush()
    db.consumer("cloud")
    rows = db.small_table("consumers")
    row = dict(rows.items())["cloud"]
    db.close()
    old = {key: row[key] for key in ("mark", "ranges", "floor", "since")}
    db = BufferDB(tmp_path / "b", threaded=False)
    db.small_table("consumers").put("cloud", old)
    db.close()
    db = BufferDB(tmp_path / "b", threaded=False)
    assert db.consumer("cloud").reach == Reach(begins=21, since=20, absent=0, settled=0, newest=20)
    db.close()


async def test_the_receiver_learns_what_it_should_have(tmp_path: Path) -> None:
    """Over the wire: the losses first, then how far it is; a loss after the last that came is seen, and what was refused is none."""
    database = tmp_path / "r.db"
    async with full_buffer(tmp_path / "b") as (buffer, last), receiver(database, "http://127.0.0.1:0") as url:
        consumer = buffer.consumer("cloud")
        aside = SetAside(buffer.state(ASIDE), "cloud")
        extents = ExtentTeller(
            lambda: extents_of("cloud", consumer.reach, buffer.epochs, aside=aside), aside, 0.0, 0.0
        )
        options = HttpUpstreamOptions.model_validate(
            {"url": url, "linger": 0, "retry": QUICK, "ack": "receiver"}
        )

        def settled() -> int:
            with closing(sqlite3.connect(database)) as connection:
                return connection.execute("SELECT coalesce(max(settled), 0) FROM extents").fetchone()[0]

        async with telling(options, buffer, extents):
            await until(lambda: settled() == last)
        await _lose_one(buffer)
        buffer.append([to_json(reading("soil", 2, tags={"note": "x" * 3000}))])
        await buffer.flush()
        small = options.model_copy(update={"message_size": 1024})
        async with telling(small, buffer, extents):
            await until(lambda: settled() == last + 2)
        dropped = buffer.database.ledger.dropped
    async with SqliteStore(str(database), SystemClock()) as store:
        (coverage,) = await store.coverage()
    found = missing_of(coverage)
    assert found.dropped.total() == dropped > 1000
    assert (found.under_way, found.unexplained, found.suspects) == (0, 1, [(last + 1, last + 1)])
    assert found.set_aside == 1, "it was too large for the upstream"
    assert coverage.extents[0].begins == 1


async def _lose_one(buffer: TinyDBBuffer) -> None:
    """The device takes it for delivered."""
    consumer = buffer.consumer("cloud")
    buffer.append([to_json(reading("soil", 1))])
    await buffer.flush()
    batch = await consumer.take(1)
    assert batch is not None
    consumer.ack(batch)


def test_what_is_told_is_small():
    far = ToldExtent(upstream="cloud", begins=1, since=0, absent=0, settled=2**40 - 1, newest=2**40)
    assert len(to_json(far)) < 130
