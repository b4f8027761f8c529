"""How long room and card last."""

import random

import pytest

from buffer import BufferDB, wear_of
from buffer.capacity import ByteRate, Capacity
from tests.buffer.test_limits import NORMAL, SetClock, fill
from tests.rigs.faulty_disk import FaultyDisk


def test_a_rate_is_that_of_the_last_hour():
    rate = ByteRate(1000.0)
    assert rate.per_s(500, 1059.0) is None, "not yet a minute"
    assert rate.per_s(600, 1060.0) == 10.0
    total = 600
    for minute in range(2, 200):
        total += 1200 if minute > 100 else 0
        found = rate.per_s(total, 1000.0 + 60 * minute)
    assert found == pytest.approx(20.0)
    assert rate.per_s(total, 1000.0 + 60 * 199 + 7200) == 0.0


def test_room_is_told_as_time():
    assert Capacity(10_000, 4_000, 2.0).left_s == 3_000
    assert Capacity(10_000, 14_000, 2.0).left_s == 0
    assert Capacity(10_000, 4_000, None).left_s is None
    assert Capacity(10_000, 4_000, 0.0).left_s is None


def test_what_is_delivered_is_room():
    disk, clock = FaultyDisk(random.Random(0)), SetClock()
    db = BufferDB("/s", fs=disk, threaded=False, segment_bytes=4096, clock=clock, quota_bytes=1_000_000)
    consumer = db.consumer("cloud")
    assert db.capacity().left_s is None
    for _ in range(60):
        fill(db, 10)
        clock.pass_time(60)
        db.maintain()
    full = db.capacity()
    assert full.bound_bytes == 1_000_000
    assert full.undelivered_bytes == db.log("readings").disk_bytes
    # A trailer for every ten records of some 130 bytes.
    assert full.bytes_per_s == pytest.approx((10 * (len(NORMAL) + 8) + 96) / 60, rel=0.05)
    assert full.left_s == pytest.approx((1_000_000 - full.undelivered_bytes) / full.bytes_per_s)
    while (batch := consumer.take(100)) is not None:
        consumer.ack(batch)
    assert db.capacity().undelivered_bytes < 13_000
    disk.free = 50_000
    db.close()


def test_what_is_free_on_the_disk_bounds_it_without_a_quota():
    disk = FaultyDisk(random.Random(0))
    db = BufferDB("/s", fs=disk, threaded=False, segment_bytes=4096, reserve_bytes=1_000)
    fill(db, 100)
    disk.free = 50_000
    assert db.capacity().bound_bytes == db.log("readings").disk_bytes + 49_000
    db.close()


def test_wear_is_counted_over_restarts():
    disk, clock = FaultyDisk(random.Random(0)), SetClock()

    def opened():
        return BufferDB("/s", fs=disk, threaded=False, clock=clock, card_endurance_bytes=30 * 10**12)

    db = opened()
    assert db.wear().bytes_per_day is None
    fill(db, 100)
    clock.pass_time(1800)
    db.close()
    first = db.bytes_written
    db = opened()
    assert db.wear().bytes_total == pytest.approx(first + db.bytes_written, rel=0.1)
    fill(db, 100)
    clock.pass_time(1800)
    wear = db.wear()
    assert wear.running_s == 3600
    assert wear.bytes_per_day == pytest.approx(wear.bytes_total * 24)
    assert wear.life_years == pytest.approx(30e12 / (wear.bytes_per_day * 365.25))
    clock.pass_time(3600)
    db.maintain()
    disk.kill()
    assert opened().wear().bytes_total >= wear.bytes_total, "an hour's count is on the disk"


def test_nothing_is_said_about_a_card_of_which_nothing_is_known():
    assert wear_of(None).life_years is None
    assert wear_of({"bytes": 10**9, "running_s": 86_400}).life_years is None
    assert wear_of({"bytes": 10**9, "running_s": 86_400}).bytes_per_day == pytest.approx(10**9)
