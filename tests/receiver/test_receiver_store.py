"""The receiver's databases: every reading once, in order of arrival, durable before anybody is told. One suite for all."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from agent.receiver.packs import Received, Refused
from agent.receiver.postgres_store import PostgresStore
from agent.receiver.sqlite_store import SqliteStore
from agent.receiver.store import (
    Coverage,
    KnownExtent,
    KnownLoss,
    Part,
    ReadingStore,
    Stored,
    StoreError,
    StoreUnavailable,
    Unstorable,
    store_for,
)
from agent.sync import senml
from agent.sync.acknowledgement import digest
from agent.sync.extent import ToldExtent
from agent.sync.losses import ToldLoss, ToldLosses
from collectors.clock import SystemClock
from tests.receiver.packs import STORE, received
from tests.rigs import cloud
from tests.rigs.proxy import ChaosProxy
from tests.sync.memory_buffer import MemoryRecord, reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.rigs.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'r.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url(server.new_database())


@pytest.fixture
async def store(url: str) -> AsyncIterator[ReadingStore]:
    async with opened(url) as store:
        yield store


def opened(url: str) -> ReadingStore:
    return store_for(url, SystemClock())


def execute(url: str, sqlite: str, postgresql: str) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.executescript(sqlite)
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(postgresql.encode())


async def test_what_a_row_holds(url: str) -> None:
    async with opened(url) as store:
        assert await store.write([received(7, 2, tags={"room": "ä"})]) == Stored(2, 0)
    first, second = cloud.rows(url)
    assert (first.device_id, first.store_id, first.seq, first.source) == ("greenhouse-3", STORE, 7, "soil")
    assert first.document == reading("soil", 7, tags={"room": "ä"})
    assert second.seq == 8
    seconds = (
        "t, received_at"
        if url.startswith("sqlite")
        else "extract(epoch from t), extract(epoch from received_at)"
    )
    t, received_at = cloud.fetch(url, f"SELECT {seconds} FROM readings ORDER BY arrival")[0]
    assert float(t) == 1790000007.0
    assert abs(float(received_at) - SystemClock().now().timestamp()) < 60


async def test_a_resend_inserts_nothing_whatever_its_bounds(url: str) -> None:
    async with opened(url) as store:
        assert await store.write([received(1, 20)]) == Stored(20, 0)
        assert await store.write([received(1, 20)]) == Stored(0, 20)
        assert await store.write([received(11, 20), received(15, 3)]) == Stored(10, 13)
        assert await store.write([received(1, 5, store="another"), received(1, 5, device="b")]) == Stored(
            10, 0
        )
        statistics = await store.statistics()
    assert (statistics.readings, statistics.inserted, statistics.duplicates) == (40, 40, 33)
    mine = [row.seq for row in cloud.rows(url) if (row.device_id, row.store_id) == ("greenhouse-3", STORE)]
    assert mine == list(range(1, 31))


async def test_arrival_is_the_order_in_which_packs_came(url: str) -> None:
    """Of each device: the newest first, when it sends live readings before its backlog."""
    async with opened(url) as store:
        await store.write(
            [received(900, 50), received(1, 3, device="b"), received(100, 50), received(150, 50)]
        )
    mine = [row.seq for row in cloud.rows(url) if row.device_id == "greenhouse-3"]
    assert mine == [*range(900, 950), *range(100, 200)]


async def test_it_opens_again_and_goes_on(url: str) -> None:
    for expected in (Stored(20, 0), Stored(0, 20)):
        async with opened(url) as store:
            assert await store.write([received()]) == expected


async def test_a_database_of_the_future_is_refused(url: str) -> None:
    async with opened(url):
        pass
    execute(url, "PRAGMA user_version = 99", "INSERT INTO outstation.schema_version VALUES (99)")
    with pytest.raises(StoreError, match="of version 99"):
        async with opened(url):
            pass


async def test_all_or_nothing(url: str) -> None:
    async with opened(url) as store:
        await store.write([received(1, 1)])
        execute(
            url,
            "CREATE TRIGGER sick BEFORE INSERT ON readings WHEN new.seq = 15"
            " BEGIN SELECT RAISE(ABORT, 'sick table'); END",
            "CREATE FUNCTION sick() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RAISE EXCEPTION ''sick table''; END';"
            "CREATE TRIGGER sick BEFORE INSERT ON outstation.readings FOR EACH ROW WHEN (new.seq = 15)"
            " EXECUTE FUNCTION sick()",
        )
        with pytest.raises(StoreError, match="sick table") as caught:
            await store.write([received(2, 10), received(12, 10)])
        assert type(caught.value) is StoreError
        assert cloud.count(url) == 1
        execute(url, "DROP TRIGGER sick", "DROP TRIGGER sick ON outstation.readings")
        assert await store.write([received(2, 10), received(12, 10)]) == Stored(20, 0)


async def test_rejected_packs_are_kept_and_bounded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sqlite_store", "postgres_store"):
        monkeypatch.setattr(f"agent.receiver.{module}.REJECTED_MAX", 5)
    async with opened(url) as store:
        for n in range(8):
            refused = Refused("outstation/x/readings", b"%d\0" % n + b"x" * 100_000, "not JSON: \0")
            await store.write([], [refused])
        assert (await store.statistics()).rejected == 8
    kept = cloud.fetch(url, "SELECT payload, origin FROM rejected ORDER BY id")
    assert [payload[:1] for payload, _ in kept] == [b"3", b"4", b"5", b"6", b"7"]
    assert len(kept[0][0]) == 65536


def loss(
    first: int, last: int, count: int, why: str = "full: oldest dropped", lane: str = "normal"
) -> ToldLoss:
    return ToldLoss(first=first, last=last, count=count, lane=lane, why=why, since=1.0, until=2.0)


def told(*losses: ToldLoss, device: str = "greenhouse-3") -> ToldLosses:
    return ToldLosses(device=device, store=STORE, version=1, losses=list(losses))


async def test_losses_are_told_again_and_grow(url: str) -> None:
    async with opened(url) as store:
        await store.write([], [], [told(loss(5, 10, 6)), told(loss(5, 10, 6))])
        await store.write(
            [], [], [told(loss(5, 20, 15)), told(loss(0, 0, 3, "memory full"), loss(1, 4, 0, "never issued"))]
        )
        await store.write([], [], [told(loss(5, 10, 6), loss(0, 0, 7, "memory full"))])
        # What no ledger of ours says must not bring a receiver to a halt either.
        await store.write([], [], [told(loss(5, 8, 99))])
        (coverage,) = await store.coverage()
    assert KnownLoss(1, 4, 0, "never issued") in coverage.losses
    assert KnownLoss(0, 0, 7, "memory full") in coverage.losses
    assert len(coverage.losses) == 3


async def test_which_numbers_have_come(url: str) -> None:
    async with opened(url) as store:
        assert await store.coverage() == []
        packs = [received(3, 8), received(20, 10), received(31, 1), received(1, 4, device="b")]
        await store.write(packs, [], [told(loss(11, 15, 5)), told(loss(1, 2, 2), device="c")])
        by_device = {one.device_id: one for one in await store.coverage()}
        assert by_device["b"] == Coverage("b", STORE, 1, 4, 4, parts=[Part(1, 4, 4)])
        parts = by_device["greenhouse-3"].parts
        assert parts == [Part(3, 10, 8), Part(11, 15, 0), Part(16, 31, 11)]
        assert by_device["c"].losses == [KnownLoss(1, 2, 2, "full: oldest dropped")]
        assert by_device["c"].parts == [Part(1, 2, 0)]
        assert [one.device_id for one in await store.coverage("c")] == ["c"]
        assert await store.coverage("nobody") == []


async def test_which_have_not(url: str) -> None:
    async with opened(url) as store:
        await store.write([received(3, 8), received(20, 10), received(31, 1), received(1, 99, device="b")])

        async def holes(*within: tuple[int, int], most: int = 9) -> list[tuple[int, int]]:
            return await store.holes("greenhouse-3", STORE, within, most)

        assert await holes((1, 40)) == [(1, 2), (11, 19), (30, 30), (32, 40)]
        assert await holes((1, 40), most=2) == [(1, 2), (11, 19)]
        assert await holes((4, 9), (15, 18), (19, 21), (40, 41)) == [(15, 18), (19, 19), (40, 41)]
        assert await holes((4, 9), (15, 18), (19, 21), most=1) == [(15, 18)]


async def test_how_far_a_device_is_is_told_again_and_what_is_late_changes_nothing(url: str) -> None:
    def says(settled: int, newest: int, begins: int = 1, **other: Any) -> ToldLosses:
        extent = ToldExtent(upstream="cloud", begins=begins, settled=settled, newest=newest, **other)
        return told().model_copy(update={"extent": extent})

    async with opened(url) as store:
        await store.write([received(3, 8)], [], [says(5, 9), says(2, 3)])
        ((extent,),) = [one.extents for one in await store.coverage()]
        assert (extent.upstream, extent.begins, extent.settled, extent.newest) == ("cloud", 1, 5, 9)
        assert extent.routed is False
        assert abs(extent.told_at - SystemClock().now().timestamp()) < 60
        # After a crash the device may have forgotten what was acknowledged.
        aside = ((5, 6, 2), (9, 9, 1))
        await store.write([], [], [says(4, 9, begins=2, since=3, absent=1, routed=True, aside=aside)])
        ((extent,),) = [one.extents for one in await store.coverage()]
        assert extent == KnownExtent("cloud", 2, 3, 1, 5, 9, routed=True, aside=aside, told_at=extent.told_at)
        await store.write([], [], [says(20, 20)])
        (one,) = await store.coverage()
        assert one.parts == [Part(1, 2, 0), Part(3, 10, 8), Part(11, 20, 0)]


async def test_a_database_of_before_there_were_extents_gets_them(url: str) -> None:
    async with opened(url) as store:
        await store.write([received(1, 20)])
    execute(
        url,
        "DROP TABLE extents; PRAGMA user_version = 2",
        "DROP TABLE outstation.extents; DELETE FROM outstation.schema_version WHERE version > 1",
    )
    async with opened(url) as store:
        (one,) = await store.coverage()
        assert (one.readings, one.extents) == (20, [])


any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
name = any_text.filter(bool)
number = st.floats(allow_nan=False, allow_infinity=False)
value = st.booleans() | st.integers(-(2**63), 2**63 - 1) | number | any_text
documents = st.builds(
    lambda source, t, values, tags: {"source": source, "t": t, "values": values, "tags": tags},
    name,
    number | st.integers(-(2**53), 2**53),
    st.dictionaries(name, value, min_size=1, max_size=3),
    st.dictionaries(any_text, any_text, max_size=2),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(device=name, written=st.lists(documents, min_size=1, max_size=3))
async def test_whatever_a_pack_may_say_is_stored_as_it_is_or_refused_for_good(
    url: str, store: ReadingStore, device: str, written: list[dict[str, Any]]
) -> None:
    """No pack that was decoded can bring a receiver to a halt."""
    store_id = uuid.uuid4().hex
    payload = senml.encode(
        device, store_id, [MemoryRecord(n, document) for n, document in enumerate(written, 1)]
    )
    pack = Received(device, store_id, senml.decode(payload), digest(payload))
    try:
        await store.write([pack])
    except Unstorable:
        assert url.startswith("postgresql")
        assert "\0" in device or any("\0" in document["source"] for document in written)
        return
    query = f"SELECT document FROM readings WHERE store_id = '{store_id}' ORDER BY seq"
    if url.startswith("postgresql"):
        query = query.replace("document FROM", "document::text FROM")
    found = [from_json(document) for (document,) in cloud.fetch(url, query)]
    assert to_json(found) == to_json([each.document for each in pack.readings])


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://host/x", "sqlite:///", "x.db", ""])
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:///file\.db"):
        opened(url)


def test_urls_that_do() -> None:
    for url, path in {"sqlite:///a/b%20c.db": "a/b c.db", "sqlite:////var/lib/r.db": "/var/lib/r.db"}.items():
        store = opened(url)
        assert isinstance(store, SqliteStore)
        assert store.path == path
    store = opened("postgresql://writer:secret@db.example.com/fleet?sslmode=require")
    assert isinstance(store, PostgresStore)
    assert store.name == "postgresql://db.example.com/fleet"


# SQLite alone


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_text("hello " * 1000)
    with pytest.raises(StoreError, match="not a database"):
        async with opened(f"sqlite:///{tmp_path / 'r.db'}"):
            pass


async def test_a_file_that_another_program_holds_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.receiver.sqlite_store._BUSY_TIMEOUT_S", 0.05)
    async with opened(f"sqlite:///{tmp_path / 'r.db'}") as store:
        with closing(sqlite3.connect(tmp_path / "r.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.write([received()])
            other.execute("ROLLBACK")
        assert await store.write([received()]) == Stored(20, 0)


# PostgreSQL alone


_NOTE_HOW_DURABLE = """
CREATE TABLE noted (setting text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO noted VALUES (current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT ON outstation.readings EXECUTE FUNCTION note();
"""


async def test_a_commit_is_durable_whatever_the_default(postgres: Postgres) -> None:
    database = postgres.new_database()
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database} SET synchronous_commit = off".encode())
    async with PostgresStore(postgres.url(database), SystemClock()) as store:
        connection = store._connection
        assert connection is not None
        connection.execute(_NOTE_HOW_DURABLE)
        await store.write([received(1, 20)])
        connection.execute("RESET ALL")  # as if a pooler had given us another one
        await store.write([received(21, 20)])
        assert connection.execute("SELECT setting FROM noted").fetchall() == [("on",), ("on",)]


async def test_two_receivers_make_the_tables_together_and_share_the_readings(postgres: Postgres) -> None:
    url = postgres.url(postgres.new_database())
    async with PostgresStore(url, SystemClock()) as first, PostgresStore(url, SystemClock()) as second:
        assert await first.write([received(1, 20)]) == Stored(20, 0)
        assert await second.write([received(11, 20)]) == Stored(10, 10)


async def test_a_partitioned_table_may_take_the_place_of_ours(postgres: Postgres) -> None:
    """As docs/fleet.md says it: nothing but the key is other."""
    url = postgres.url(postgres.new_database())
    async with PostgresStore(url, SystemClock()):
        pass
    execute(
        url,
        "",
        "ALTER TABLE outstation.readings RENAME TO readings_plain;"
        "CREATE TABLE outstation.readings (LIKE outstation.readings_plain) PARTITION BY RANGE (t);"
        "ALTER TABLE outstation.readings ALTER arrival ADD GENERATED ALWAYS AS IDENTITY,"
        " ADD PRIMARY KEY (device_id, store_id, seq, t);"
        "CREATE TABLE outstation.readings_2026 PARTITION OF outstation.readings"
        " FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');",
    )
    async with PostgresStore(url, SystemClock()) as store:
        assert await store.write([received(1, 20)]) == Stored(20, 0)
        assert await store.write([received(11, 20)]) == Stored(10, 10)
        (coverage,) = await store.coverage()
        assert coverage.readings == 30
    assert [row.seq for row in cloud.rows(url)] == list(range(1, 31))


async def test_a_server_that_dies_is_waited_for_and_comes_back() -> None:
    from tests.rigs.postgres import Postgres

    with Postgres() as server:
        url = server.url(server.new_database())
        async with PostgresStore(url, SystemClock()) as store:
            assert await store.write([received(1, 20)]) == Stored(20, 0)
            server.kill()
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await store.write([received(11, 20)])
            server.start()
            assert await store.write([received(11, 20)]) == Stored(10, 10)
        server.kill()
        with pytest.raises(StoreUnavailable, match="refused"):
            async with PostgresStore(url, SystemClock()):
                pass


async def test_a_connection_that_is_cut_or_falls_silent_is_made_anew(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.receiver.postgres_store.ANSWER_TIMEOUT_S", 0.3)
    database = postgres.new_database()
    async with ChaosProxy(("127.0.0.1", postgres.port)) as proxy:
        url = postgres.url(database, port=proxy.port) + "?gssencmode=disable&sslmode=disable"
        async with PostgresStore(url, SystemClock()) as store:
            await store.write([received(1, 20)])
            proxy.reset_all()
            with pytest.raises(StoreUnavailable):
                await store.write([received(11, 20)])
            assert await store.write([received(11, 20)]) == Stored(10, 10)
            proxy.blackhole()
            with pytest.raises(StoreUnavailable, match="no answer within"):
                await store.write([received(21, 20)])
            proxy.heal()
            assert await store.write([received(31, 20)]) == Stored(20, 0)
    assert cloud.count(postgres.url(database)) in {50, 60}


async def test_an_end_does_not_wait_for_a_server_that_is_silent(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.receiver.postgres_store.CLOSE_TIMEOUT_S", 0.1)
    async with ChaosProxy(("127.0.0.1", postgres.port)) as proxy:
        url = postgres.url(postgres.new_database(), port=proxy.port) + "?sslmode=disable"
        async with PostgresStore(url, SystemClock()) as store:
            proxy.blackhole()
            writing = asyncio.create_task(store.write([received()]))
            await asyncio.sleep(0.1)
            writing.cancel()


async def test_a_wrong_database_is_the_operators_affair(postgres: Postgres) -> None:
    with pytest.raises(StoreError, match="does not exist") as caught:
        async with PostgresStore(postgres.url("nowhere"), SystemClock()):
            pass
    assert type(caught.value) is StoreError


async def test_no_password_in_what_is_said() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        async with PostgresStore("postgresql://me:hunter2@127.0.0.1:1/x", SystemClock()):
            pass
    assert "hunter2" not in str(caught.value)
