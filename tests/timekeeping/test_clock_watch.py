import logging

import pytest

from agent.timekeeping import Chronicle, ClockWatch
from agent.timekeeping.watch import ANCHOR_S, PROBE_S
from collectors.enums import ClockQuality
from tests.rigs.clock_table import MemoryTables
from tests.rigs.virtual_clock import VirtualClock

NOON = 1_790_000_000.0


@pytest.fixture
def clock():
    return VirtualClock(NOON, wall_t=NOON - 86_400)


@pytest.fixture
def tables():
    return MemoryTables()


@pytest.fixture
def chronicle(tables):
    return Chronicle(tables, boot=1)


@pytest.fixture
def watch(clock, chronicle):
    return ClockWatch(clock, chronicle, clock.probe)


def stretches(chronicle):
    return [
        (round(stretch.first.up_ns * 1e-9), round(stretch.last.up_ns * 1e-9))
        for stretch in chronicle.timeline.boot(1).stretches
    ]


async def look(watch, clock, *, after_s):
    clock.advance(after_s)
    await watch.look()


async def test_a_clock_that_nobody_set_is_estimated(watch, clock):
    await look(watch, clock, after_s=1)
    assert watch.quality() is ClockQuality.ESTIMATED


async def test_a_step_and_the_synchronisation_that_made_it_are_noticed_at_once(watch, clock, chronicle):
    await look(watch, clock, after_s=1)
    clock.synchronise()
    await look(watch, clock, after_s=1)
    assert watch.quality() is ClockQuality.SYNCED
    assert [round(step.by_s) for step in watch.steps] == [86_400]
    assert stretches(chronicle) == [(2, 2)]


async def test_a_wall_clock_set_by_hand_is_not_believed(watch, clock, chronicle):
    clock.synchronise()
    await look(watch, clock, after_s=1)
    clock.set_wall(NOON + 500)
    clock.synchronised_at = None  # settimeofday(2) clears the kernel's flag
    await look(watch, clock, after_s=1)
    assert watch.quality() is ClockQuality.ESTIMATED
    clock.synchronise()
    await look(watch, clock, after_s=1)
    assert stretches(chronicle) == [(1, 1), (3, 3)]


@pytest.mark.parametrize("by_s", [0.4, -0.4])
async def test_slewing_is_no_step(watch, clock, by_s):
    clock.synchronise()
    await look(watch, clock, after_s=1)
    clock.set_wall(clock.wall_t + by_s)
    await look(watch, clock, after_s=1)
    assert not watch.steps
    assert watch.quality() is ClockQuality.SYNCED


async def test_good_time_is_one_row_that_moves_on(watch, clock, chronicle, tables):
    clock.synchronise()
    await look(watch, clock, after_s=1)
    before = tables.writes
    for _ in range(100):
        clock.synchronise()
        await look(watch, clock, after_s=PROBE_S)
    assert stretches(chronicle) == [(1, 1001)]
    assert tables.writes - before <= 2 * (1 + 1000 // ANCHOR_S)
    assert len(tables("clock_anchors").rows) == 1


async def test_a_bound_that_has_grown_too_large_ends_good_time(watch, clock, chronicle):
    clock.synchronise()
    await look(watch, clock, after_s=1)
    await look(watch, clock, after_s=3000)
    assert watch.quality() is ClockQuality.SYNCED
    await look(watch, clock, after_s=1000)
    assert watch.quality() is ClockQuality.ESTIMATED
    clock.synchronise()
    await look(watch, clock, after_s=PROBE_S)
    assert stretches(chronicle) == [(1, 3001), (4011, 4011)]


async def test_a_boot_without_time_gives_signs_of_life(watch, clock, tables):
    for _ in range(5):
        await look(watch, clock, after_s=ANCHOR_S)
    assert tables("clock_boots").rows["1"]["alive_ns"] == pytest.approx(5 * ANCHOR_S * 1e9)
    clock.advance(7)
    await watch.close()
    assert tables("clock_boots").rows["1"]["alive_ns"] == pytest.approx((5 * ANCHOR_S + 7) * 1e9)


async def test_what_a_disk_refuses_is_written_when_it_takes_it(watch, clock, tables, chronicle, caplog):
    tables.refuse(refuses=True)
    clock.synchronise()
    with caplog.at_level(logging.WARNING):
        await look(watch, clock, after_s=1)
    assert "kept in memory" in caplog.text
    assert watch.quality() is ClockQuality.SYNCED
    assert not tables("clock_anchors").rows
    tables.refuse(refuses=False)
    await look(watch, clock, after_s=ANCHOR_S)
    assert list(tables("clock_anchors").rows) == ["1/0"]
    assert stretches(Chronicle(tables, boot=2)) == [(1, 901)]


@pytest.mark.parametrize(
    ("table", "key", "row"),
    [
        ("clock_boots", "1", {"alive": 3}),
        ("clock_boots", "one", {"alive_ns": 3, "battery": False}),
        ("clock_anchors", "1/0", {"first": [1, 2.0], "last": [1, 2.0]}),
        ("clock_anchors", "1", {}),
        ("clock_final", "1/0", {"high_ns": 5, "t": [1.0]}),
        ("clock_final", "1/0", ["of another version"]),
    ],
)
async def test_a_row_that_cannot_be_read_costs_what_it_says_and_no_start(
    clock, tables, chronicle, watch, caplog, table, key, row
):
    clock.synchronise()
    await look(watch, clock, after_s=1)
    await look(watch, clock, after_s=ANCHOR_S)
    tables(table).rows[key] = row
    again = Chronicle(tables, boot=2)
    assert f"1 row of {table} cannot be read" in caplog.text
    assert stretches(again) == ([] if table == "clock_anchors" else [(1, 901)])
    watch = ClockWatch(clock, again, clock.probe)
    await look(watch, clock, after_s=1)
    assert watch.quality() is ClockQuality.SYNCED
