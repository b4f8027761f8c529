"""Readings on their way upstream: their time is final before they are first sent, and stays."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from agent.timekeeping import Chronicle, ClockWatch, Correction
from agent.timekeeping.chronicle import BOOTS_MAX, HORIZON_NS, STRETCHES_MAX
from agent.timekeeping.timeline import Anchor
from tests.rigs.clock_table import MemoryTables
from tests.rigs.virtual_clock import VirtualClock

NOON = 1_790_000_000.0
S = 10**9


@dataclass(frozen=True)
class Record:
    seq: int
    document: dict[str, Any]


class Device:
    """One boot after the other, on the same disk."""

    def __init__(self) -> None:
        self.tables = MemoryTables()
        self.boot_count = 0
        self.kept = True
        self.true_t = NOON
        self.seq = 0

    def boot(self, after_s: float = 0.0, wall_t: float = 0.0) -> None:
        self.boot_count += 1
        self.clock = VirtualClock(self.true_t + after_s, wall_t)
        self.start()

    def start(self) -> None:
        self.chronicle = Chronicle(self.tables, self.boot_count)
        self.watch = ClockWatch(self.clock, self.chronicle, self.clock.probe, lambda: self.kept)
        self.correction = Correction(self.chronicle, self.watch, self.clock)

    async def measure(self, after_s: float) -> Record:
        self.clock.advance(after_s)
        self.true_t = self.clock.true_t
        await self.watch.look()
        self.seq += 1
        document = {"source": "s", "t": self.clock.wall_t, "values": {"true": self.clock.true_t}}
        document |= {"boot": self.boot_count, "up": self.clock.boottime_ns()}
        if self.watch.quality().value != "synced":
            document["clock"] = self.watch.quality().value
        return Record(self.seq, document)


@pytest.fixture
async def device():
    made = Device()
    made.boot()
    return made


def near(expected):
    """To the millisecond: approx's own tolerance is relative, and half an hour for a time of today."""
    return pytest.approx(expected, rel=0, abs=1e-3)


def times(records):
    return [record.document["t"] for record in records]


def truths(records):
    return [record.document["values"]["true"] for record in records]


async def test_what_was_measured_with_a_good_clock_goes_as_it_is(device):
    device.clock.synchronise()
    records = [await device.measure(1), await device.measure(1)]
    assert await device.correction.apply(records) is records


async def test_an_anchor_of_the_same_boot_corrects_what_came_before_it(device):
    early = await device.measure(100)
    device.clock.synchronise()
    late = await device.measure(100)
    corrected = await device.correction.apply([early, late])
    assert times(corrected) == near(truths([early, late]))
    assert corrected[0].document["clock"] == "corrected"
    assert 0 < corrected[0].document["t_error"] < 0.2
    assert corrected[1] is late
    assert (corrected[0].seq, early.document["t"]) == (1, 100), "what is stored is not touched"


async def test_a_time_that_was_given_out_stays_whatever_is_learnt_later(device):
    early = await device.measure(100)
    first = await device.correction.apply([early])
    assert first[0].document["clock"] == "estimated"
    device.clock.synchronise()
    await device.measure(10)
    for restart in (False, True):
        if restart:
            device.start()
        again = await device.correction.apply([early])
        assert again[0].document == first[0].document


async def test_what_comes_after_it_is_corrected_all_the_same(device):
    await device.correction.apply([await device.measure(100)])
    later = await device.measure(100 + HORIZON_NS / S)
    device.clock.synchronise()
    await device.measure(10)
    corrected = await device.correction.apply([later])
    assert corrected[0].document["clock"] == "corrected"
    assert times(corrected) == near(truths([later]))


async def test_live_readings_without_time_cost_no_write_each(device):
    device.clock.synchronise()
    await device.measure(1)
    device.clock.synchronised_at = None
    await device.correction.apply([await device.measure(60)])
    before = device.tables("clock_final").writes
    for _ in range(100):
        await device.correction.apply([await device.measure(6)])
    assert device.tables("clock_final").writes - before <= 2
    assert len(device.tables("clock_final").rows) == 1, "one line that goes on"


async def test_two_upstreams_give_the_same_time(device):
    records = [await device.measure(100) for _ in range(5)]
    other = Correction(device.chronicle, device.watch, device.clock)
    one, two = await asyncio.gather(device.correction.apply(records), other.apply(records))
    assert [r.document for r in one] == [r.document for r in two]


async def test_a_disk_that_refuses_does_not_keep_readings_from_being_delivered(device):
    early = await device.measure(100)
    device.tables.refuse(refuses=True)
    first = await device.correction.apply([early])
    device.tables.refuse(refuses=False)
    await device.chronicle.write()
    device.start()
    assert (await device.correction.apply([early]))[0].document == first[0].document


async def test_what_cannot_be_placed_is_left_alone(device):
    for document in (
        {"source": "s", "t": 5.0, "values": {"x": 1}, "clock": "estimated"},
        {"source": "s", "t": 5.0, "values": {"x": 1}, "clock": "estimated", "boot": 1, "up": 0},
        {"source": "s", "t": 5.0, "values": {"x": 1}, "clock": "estimated", "boot": 0, "up": 7},
    ):
        records = [Record(1, document)]
        assert await device.correction.apply(records) is records


async def test_a_backlog_waits_for_the_time_that_comes_with_the_link(device):
    backlog = await device.measure(100)
    await device.measure(50)
    device.correction.linked()
    applying = asyncio.create_task(device.correction.apply([backlog]), name="apply")
    await asyncio.sleep(0.01)
    assert not applying.done()
    device.clock.synchronise()
    await device.measure(5)
    corrected = await applying
    assert corrected[0].document["clock"] == "corrected"
    assert times(corrected) == near(truths([backlog]))


async def test_but_not_for_ever(device, monkeypatch):
    monkeypatch.setattr("agent.timekeeping.correction.SYNC_WAIT_S", 0.05)
    backlog = await device.measure(100)
    await device.measure(50)
    device.correction.linked()
    async with asyncio.timeout(5):
        assert (await device.correction.apply([backlog]))[0].document["clock"] == "estimated"


async def test_where_nobody_keeps_the_time_nothing_waits_for_it(device):
    device.kept = False
    backlog = await device.measure(100)
    await device.measure(50)
    device.correction.linked()
    async with asyncio.timeout(5):
        assert (await device.correction.apply([backlog]))[0].document["clock"] == "estimated"


async def test_a_network_that_did_not_bring_the_time_is_not_waited_for_again(device, monkeypatch):
    monkeypatch.setattr("agent.timekeeping.correction.SYNC_WAIT_S", 0.05)
    device.correction.linked()
    await device.correction.apply([await device.measure(100)])
    monkeypatch.setattr("agent.timekeeping.correction.SYNC_WAIT_S", 60.0)
    again = Correction(device.chronicle, device.watch, device.clock)
    again.linked()
    async with asyncio.timeout(5):
        await again.apply([await device.measure(1000)])
    device.clock.synchronise()
    await device.measure(10)
    assert device.watch.may_come


async def test_live_readings_of_a_boot_that_has_known_the_time_do_not_wait(device):
    device.clock.synchronise()
    await device.measure(1)
    device.clock.synchronised_at = None
    live = await device.measure(60)
    assert live.document["clock"] == "estimated"
    device.correction.linked()
    async with asyncio.timeout(5):
        corrected = await device.correction.apply([live])
    assert corrected[0].document["clock"] == "corrected"
    assert times(corrected) == near(truths([live]))


async def test_an_alarm_does_not_wait_and_decides_for_no_other(device):
    before = await device.measure(100)
    alarm = await device.measure(10)
    alarm.document["lane"] = "alarm"
    after = await device.measure(10)
    device.correction.linked()
    async with asyncio.timeout(5):
        sent = await device.correction.apply([alarm])
    assert sent[0].document["clock"] == "estimated"
    device.clock.synchronise()
    await device.measure(5)
    corrected = await device.correction.apply([before, alarm, after])
    assert [record.document["clock"] for record in corrected] == ["corrected", "estimated", "corrected"]
    assert corrected[1].document == sent[0].document
    assert times([corrected[0], corrected[2]]) == near(truths([before, after]))


async def test_a_boot_that_never_knew_the_time_lies_between_its_neighbours(device):
    device.clock.synchronise()
    await device.measure(100)
    device.boot(after_s=300, wall_t=50.0)
    lost = await device.measure(60)
    await device.watch.close()
    device.boot(after_s=200, wall_t=60.0)
    device.clock.synchronise()
    await device.measure(5)
    corrected = (await device.correction.apply([lost]))[0].document
    assert corrected["clock"] == "estimated"
    assert abs(corrected["t"] - lost.document["values"]["true"]) <= corrected["t_error"]
    assert corrected["t_error"] == pytest.approx(250, abs=2)


async def test_what_is_known_is_bounded(device):
    for boot in range(2, BOOTS_MAX + 5):
        device.chronicle.alive(boot, S)
    await Chronicle(device.tables, 1).began(battery=False)
    device.chronicle.boot = BOOTS_MAX + 5
    await device.chronicle.began(battery=True)
    assert len(device.chronicle.timeline.boots) == BOOTS_MAX
    for place in range(STRETCHES_MAX + 5):
        anchor = Anchor((place + 1) * S, NOON + place, 0.1)
        device.chronicle.anchor(anchor, continues=False)
    assert len(device.chronicle.timeline.boot(BOOTS_MAX + 5).stretches) == STRETCHES_MAX


async def test_a_time_that_another_upstream_made_final_is_sent_only_when_that_is_on_the_disk(device):
    early = await device.measure(100)
    device.clock.synchronise()
    await device.measure(100)
    other = Correction(device.chronicle, device.watch, device.clock)
    device.tables("clock_final").quick.clear()
    first = asyncio.create_task(device.correction.apply([early]), name="first")
    second = asyncio.create_task(other.apply([early]), name="second")
    for _ in range(20):
        await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    device.tables("clock_final").quick.set()
    assert times(await second) == times(await first)
