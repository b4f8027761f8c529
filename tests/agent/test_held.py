"""What steps hold back survives a crash at any point, and comes out once."""

from __future__ import annotations

import asyncio
from collections import Counter
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from agent import held as held_module
from agent.held import Held, Holder
from agent.processors.aggregate import Aggregate, AggregateOptions
from buffer import DiskFault
from collectors.models import Origin, Reading

NOON = 1_790_000_040.0
EVERY_S = 2.0


class Crash(BaseException):
    """The power is cut."""


class Disk:
    """What survives: the rows and the readings. It can cut the power, or refuse."""

    def __init__(self) -> None:
        self.rows: dict = {}
        self.readings: list[tuple[int, dict]] = []
        self.pending: list[tuple[int, dict]] = []
        self.next_id = 1
        self.fails: str | None = None
        self.commits = False
        """Whether who waits makes it commit; else it commits by itself, when it likes."""

    def items(self):
        return list(deepcopy(self.rows).items())

    async def put_all(self, rows):
        self._fail("before rows")
        for name, row in from_json(to_json(rows)).items():
            if row is None:
                self.rows.pop(name, None)
            else:
                self.rows[name] = row
        self._fail("after rows")

    async def submit(self, documents):
        self._fail("before readings")
        first = self.next_id
        for document in documents:
            self.pending.append((self.next_id, from_json(document)))
            self.next_id += 1
        self._fail("after readings")
        return range(first, self.next_id)

    def commit(self):
        self.readings += self.pending
        self.pending.clear()

    def durable_id(self):
        return self.readings[-1][0] if self.readings else 0

    async def wait_durable(self, last_id):
        if self.commits:
            self.commit()

    async def visit_recent(self, n, visit):
        for record_id, document in self.readings[-n:]:
            visit(record_id, document)

    def cut_power(self):
        self.pending.clear()
        self.next_id += 1000  # ids that could have been given out are skipped
        self.fails = None

    def _fail(self, moment):
        if self.fails == moment:
            raise Crash
        if self.fails == f"refuse {moment}":
            self.fails = None
            raise DiskFault("the disk refuses")


class Life:
    """The program from a start to a crash."""

    def __init__(self, disk: Disk, every: float = EVERY_S) -> None:
        self.step = Aggregate(AggregateOptions(every=every, functions=("count", "sum")))
        self.now_s = 1000.0
        self.held = Held(disk, disk.submit, lambda: self.now_s)
        self.disk = disk
        self.owed: list[tuple[int, int]] = []

    async def start(self, key: str = "p/0:aggregate") -> set[int]:
        """Go on; the messages that are known already."""

        async def resume(readings):
            self.held.absorb(documents(readings), None, awaited=False)

        await self.held.restore(self.disk, [Holder(key, self.step, resume)])
        return {origin.packet for origin, _ in self.held.restored_origins}

    async def take(self, number: int) -> None:
        reading = Reading(source="soil", t=NOON + number, values={"x": number})
        origin = Origin(client="c", packet=number + 1, payload_hash="ab")
        async with self.held.passage():
            result = await self.step.process([reading])
            version = self.held.absorb(documents(result.processed_data), origin, awaited=True)
        self.owed.append((version, number))

    async def pass_on(self, *texts: bytes) -> int:
        """What no step holds."""
        async with self.held.passage():
            return self.held.absorb(texts, None, awaited=False)

    def acknowledged(self) -> set[int]:
        return {number for version, number in self.owed if version <= self.held.durable_version}

    async def end(self) -> None:
        """Everything comes out and becomes durable."""
        self.now_s = 1e12
        await self.held.look()
        await self.held.snapshot()
        self.disk.commit()
        await self.held.snapshot()


def documents(readings):
    return [to_json(reading.to_document()) for reading in readings]


def counted(disk: Disk) -> dict[float, tuple[int, float]]:
    windows = [(d["t"] - NOON, d["values"]["x.count"], d["values"]["x.sum"]) for _, d in disk.readings]
    assert max(Counter(t for t, _, _ in windows).values(), default=0) <= 1, windows
    return {t: (count, total) for t, count, total in windows}


def expected(numbers) -> dict[float, tuple[int, float]]:
    windows: dict[float, list[int]] = {}
    for number in numbers:
        windows.setdefault(number // EVERY_S * EVERY_S, []).append(number)
    return {t: (len(found), float(sum(found))) for t, found in windows.items()}


MOMENTS = ["before rows", "after rows", "before readings", "after readings"]
FAULTS = [*MOMENTS, "refuse before rows", "refuse after rows", "refuse before readings"]
"""A buffer that refuses readings has taken none of them."""
actions = st.lists(
    st.sampled_from(["take"] * 12 + ["snapshot"] * 4 + ["commit"] * 4 + ["crash"] * 3 + FAULTS), max_size=60
)


@settings(max_examples=300)
@given(actions)
async def test_whenever_the_power_is_cut_each_message_counts_once(script):
    disk, life = Disk(), None
    unacknowledged: list[int] = []
    next_number = 0

    async def begin() -> Life:
        nonlocal unacknowledged
        born = Life(disk)
        known = await born.start()
        again = [number for number in unacknowledged if number + 1 not in known]
        unacknowledged = again  # what is known is acknowledged at once
        for number in again:
            await born.take(number)
        return born

    life = await begin()
    for action in script:
        if action == "take":
            unacknowledged.append(next_number)
            await life.take(next_number)
            next_number += 1
        elif action == "commit":
            disk.commit()
        elif action == "crash":
            disk.cut_power()
            life = await begin()
        else:
            disk.fails = action if action != "snapshot" else None
            try:
                await life.held.snapshot()
            except DiskFault:
                pass
            except Crash:
                disk.cut_power()
                life = await begin()
            disk.fails = None
            done = life.acknowledged()
            unacknowledged = [number for number in unacknowledged if number not in done]
    disk.cut_power()
    life = await begin()
    await life.end()
    assert counted(disk) == expected(range(next_number))


async def test_a_step_that_is_configured_no_more_gives_what_it_holds():
    disk = Disk()
    life = Life(disk)
    await life.start()
    for number in range(15):
        await life.take(number)
    await life.held.snapshot()
    disk.commit()
    after = Life(disk)
    await after.start(key="p/0:another")
    await after.held.settle()
    disk.commit()
    assert counted(disk) == expected(range(15))
    await after.held.snapshot()
    assert not [name for name in disk.rows if name.startswith("p/")]


async def test_who_waits_is_served_at_once_and_who_does_not_after_a_window(monkeypatch):
    monkeypatch.setattr(held_module, "WINDOW_S", 0.2)
    disk = Disk()
    life = Life(disk)
    await life.start()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(life.held.run(), name="held")
        async with asyncio.timeout(0.15):
            await life.take(1)
            await life.held.durable(life.owed[-1][0])
        version = await life.pass_on()
        async with asyncio.timeout(5):
            await life.held.durable(version)
        running.cancel()


async def test_a_disk_that_refuses_is_asked_again(monkeypatch, caplog):
    monkeypatch.setattr(held_module, "RETRY_S", 0.01)
    disk = Disk()
    disk.fails = "refuse before rows"
    life = Life(disk)
    await life.start()
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        running = group.create_task(life.held.run(), name="held")
        await life.take(1)
        await life.held.durable(life.owed[-1][0])
        running.cancel()
    assert "cannot be written down: the disk refuses" in caplog.text
    assert life.held.fault is None


async def test_what_waits_for_the_disk_is_bounded(monkeypatch):
    monkeypatch.setattr(held_module, "WAITING_MAX", 5)
    life = Life(Disk())
    await life.start()
    await life.pass_on(*[b"{}"] * 5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await life.pass_on(b"{}")
    waiting = asyncio.create_task(life.pass_on(b"{}"), name="pass")
    await life.held.snapshot()
    async with asyncio.timeout(5):
        await waiting


async def test_origins_are_bounded(monkeypatch):
    monkeypatch.setattr(held_module, "ORIGINS_MAX", 10)
    disk = Disk()
    life = Life(disk)
    await life.start()
    for number in range(50):
        await life.take(number)
        await life.held.snapshot()
    assert sum(len(row) for name, row in disk.rows.items() if name.startswith("!origins/")) <= 11


async def test_no_snapshot_is_made_of_half_a_message():
    disk = Disk()
    life = Life(disk)
    await life.start()
    await life.take(0)
    await life.held.snapshot()
    async with life.held.passage():
        closing = await life.step.process([Reading(source="soil", t=NOON + 9, values={"x": 9})])
        writing = asyncio.create_task(life.held.snapshot(), name="snapshot")
        for _ in range(20):
            await asyncio.sleep(0)
        assert "windows" in disk.rows['p/0:aggregate|["soil"]']
        assert "!out" not in disk.rows
        life.held.absorb(documents(closing.processed_data), None, awaited=False)
    await writing
    assert [document["t"] for document in disk.rows["!out"]["documents"]] == [NOON]


async def test_what_comes_while_a_snapshot_waits_to_begin_waits_for_it():
    life = Life(Disk())
    await life.start()
    async with life.held.passage():
        writing = asyncio.create_task(life.held.snapshot(), name="snapshot")
        await asyncio.sleep(0)
        late = asyncio.create_task(life.take(1), name="take")
        for _ in range(20):
            await asyncio.sleep(0)
        assert not late.done()
        assert not writing.done()
    await writing
    await late
    assert life.owed == [(2, 1)]


async def test_two_snapshots_are_made_one_after_the_other():
    """The second would not know that the first one's readings are not handed over yet."""
    disk = Disk()
    life = Life(disk)
    await life.start()
    slow = asyncio.Event()
    quick = disk.put_all

    async def put_all(rows):
        await slow.wait()
        await quick(rows)

    disk.put_all = put_all
    await life.pass_on(b'{"x":1}')
    first = asyncio.create_task(life.held.snapshot(), name="first")
    await asyncio.sleep(0)
    await life.pass_on(b'{"x":2}')
    second = asyncio.create_task(life.held.snapshot(), name="second")
    for _ in range(20):
        await asyncio.sleep(0)
    slow.set()
    await first
    await second
    assert disk.rows["!out"]["documents"] == [{"x": 1}, {"x": 2}]


async def test_another_step_of_the_same_kind_goes_on_with_what_one_holds():
    disk = Disk()
    life = Life(disk)
    await life.start()
    await life.take(0)
    successor = Aggregate(AggregateOptions(every=EVERY_S, functions=("count", "sum")))

    async def resume(readings):
        life.held.absorb(documents(readings), None, awaited=False)

    first = life.held._holders[0]
    await life.held.change([Holder(first.key, successor, resume)], lambda: None)
    life.step = successor
    assert list(successor.due(life.now_s + EVERY_S - 0.1)) == []
    await life.take(1)
    await life.end()
    assert counted(disk) == expected(range(2))


async def test_what_was_made_room_for_is_never_in_memory_only(monkeypatch):
    monkeypatch.setattr("agent.processors.series.SERIES_MAX", 1)
    disk = Disk()
    life = Life(disk)
    await life.start()
    for name in ("a", "b"):
        async with life.held.passage():
            await life.step.process([Reading(source=name, t=NOON, values={"x": 1})])
    await life.held.snapshot()
    assert [document["source"] for document in disk.rows["!out"]["documents"]] == ["a"]


async def test_what_cannot_go_through_the_rest_of_its_pipeline_is_kept_as_it_is():
    disk = Disk()
    life = Life(disk)
    await life.start()
    await life.take(0)

    async def fails(_readings):
        raise OSError("broken")

    first = life.held._holders[0]
    await life.held.change([Holder(first.key, life.step, fails)], lambda: None)
    life.now_s += 100
    with pytest.raises(OSError, match="broken"):
        await life.held.look()
    await life.end()
    assert counted(disk) == expected(range(1))


async def test_a_row_that_a_step_cannot_read_is_kept_as_what_it_stands_for(caplog):
    disk = Disk()
    life = Life(disk)
    await life.start()
    for number in range(2):
        await life.take(number)
    await life.held.snapshot()
    disk.commit()
    [name] = [name for name in disk.rows if name.startswith("p/")]
    del disk.rows[name]["watermark"]
    after = Life(disk)
    await after.start()
    assert "cannot go on with what it held" in caplog.text
    await after.end()
    assert counted(disk) == expected(range(2))


async def test_what_came_out_is_written_twice_and_not_with_each_snapshot():
    disk = Disk()
    disk.commits = True
    life = Life(disk)
    await life.start()
    for number in range(5):
        async with life.held.passage():
            life.held.absorb([to_json({"x": number})], None, awaited=True)
        await life.held.snapshot()
        assert disk.rows["!out"]["documents"] == [{"x": number}]
    assert len(disk.readings) == 5
