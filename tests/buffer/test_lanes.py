"""Alarms first, the newest first: out of a backlog of any size, without reading all of it."""

import asyncio
import random
import shutil

import pytest

from buffer import BufferDB, TinyDBBuffer
from buffer.filesystem import SystemFileSystem
from buffer.lanes import AlarmPages, alarm_starts, is_alarm, without_alarms
from buffer.layout import lines
from buffer.segment import parse_lines


class CountingDisk(SystemFileSystem):
    read_bytes = 0

    def read(self, handle, size, offset):
        data = super().read(handle, size, offset)
        self.read_bytes += len(data)
        return data


def document(n, lane=None):
    alarm = b',"lane":"%s"' % lane.encode() if lane else b""
    return b'{"n":%d,"pad":"%s"%s}' % (n, b"x" * 180, alarm)


def opened(path, **options):
    return BufferDB(path, **{"threaded": False, "segment_bytes": 64 << 10, **options})


def fill(db, n, every, start=0):
    """`n` records, each `every`-th an alarm; the ids of those."""
    ids = db.insert_json([document(start + at, None if at % every else "alarm") for at in range(n)])
    db.flush()
    return [each for at, each in enumerate(ids) if not at % every]


def drain(consumer, n, **how):
    got = []
    while (batch := consumer.take(n, **how)) is not None:
        got += [record.seq for record in batch.records]
        consumer.ack(batch)
    return got


def test_alarms_are_taken_out_of_a_backlog_and_the_rest_stays(tmp_path):
    with opened(tmp_path) as db:
        alarms = fill(db, 2000, every=100)
        consumer = db.consumer("cloud")
        first = consumer.take(3, lane="alarm")
        assert [record.seq for record in first.records] == alarms[:3]
        consumer.ack(first)
        assert (consumer.mark, consumer.backlog) == (0, 1997), "what lies between is not acknowledged"
        assert drain(consumer, 7, lane="alarm") == alarms[3:]
        assert drain(consumer, 7, lane="alarm") == []
        assert consumer.backlog == 1980
        batch = consumer.take(500)
        assert len(batch) == 500, "alarms that went before do not cut batches"
        consumer.release(batch)
        assert drain(consumer, 300) == [each for each in range(1, 2001) if each not in alarms]
        assert (consumer.mark, consumer.backlog) == (2000, 0)


def test_a_lane_s_state_survives_in_a_few_bytes(tmp_path):
    with opened(tmp_path / "a") as db:
        alarms = fill(db, 2000, every=3)
        consumer = db.consumer("cloud")
        drain(consumer, 50, lane="alarm")
        newest = consumer.take(100, newest=True)
        consumer.ack(newest)
        db.maintain()
        row = db.small_table("consumers").get("cloud")
        assert len(str(row)) < 200
        shutil.copytree(tmp_path / "a", tmp_path / "b")
    with opened(tmp_path / "b") as db:
        consumer = db.consumer("cloud")
        gone = {*alarms, *(record.seq for record in newest.records)}
        assert consumer.backlog == 2000 - len(gone)
        assert drain(consumer, 90, lane="alarm") == []
        assert drain(consumer, 90) == [each for each in range(1, 2001) if each not in gone]


def test_the_newest_go_first_in_order_and_then_those_that_came_meanwhile(tmp_path):
    with opened(tmp_path) as db:
        fill(db, 3000, every=10_000)
        consumer = db.consumer("cloud")
        one = consumer.take(50, newest=True)
        assert [record.seq for record in one.records] == list(range(2951, 3001))
        fill(db, 20, every=10_000)
        two = consumer.take(50, newest=True)
        assert [record.seq for record in two.records] == list(range(3001, 3021))
        three = consumer.take(50, newest=True)
        assert [record.seq for record in three.records] == list(range(2901, 2951))
        oldest = consumer.take(50)
        assert oldest.first == 1
        consumer.release(two)
        assert consumer.take(5, newest=True).last == 3020
        assert consumer.take(99, max_bytes=700, newest=True).first == 3013
        for batch in (one, two, three, oldest):
            consumer.ack(batch)
        assert consumer.mark == 50
        assert consumer.backlog == 3020 - 50 - 100 - 20


def test_a_late_acknowledgement_is_of_exactly_its_records(tmp_path):
    with opened(tmp_path) as db:
        alarms = fill(db, 100, every=33)
        consumer = db.consumer("cloud")
        batch = consumer.take(9, lane="alarm")
        consumer.release(batch)
        everything = consumer.take(100)
        assert (everything.first, everything.last) == (batch.first, batch.last) == (1, 100)
        consumer.ack(batch)
        assert consumer.backlog == 100 - len(alarms)
        consumer.release(everything)
        assert drain(consumer, 100) == [each for each in range(1, 101) if each not in alarms]


def test_a_batch_of_another_consumer_acknowledges_its_records_and_no_more(tmp_path):
    with opened(tmp_path) as db:
        fill(db, 10, every=100)
        one, two = db.consumer("one"), db.consumer("two")
        two.take(7)
        two.ack(one.take(3))
        assert two.backlog == 7
        assert one.backlog == 10


def test_there_are_two_lanes(tmp_path):
    with opened(tmp_path) as db:
        fill(db, 1, every=1)
        with pytest.raises(ValueError, match="no lane 'urgent'; it is one of alarm, normal"):
            db.consumer("cloud").take(1, lane="urgent")


@pytest.mark.parametrize("reopened", [False, True])
def test_rare_alarms_are_found_without_reading_the_backlog(tmp_path, reopened):
    disk = CountingDisk()
    db = opened(tmp_path, segment_bytes=1 << 20, fs=disk)
    alarms = []
    for start in range(0, 60_000, 2000):
        alarms += fill(db, 2000, every=1000, start=start)
    stored = db.log("readings").disk_bytes
    if reopened:
        db.close()
        db = opened(tmp_path, segment_bytes=1 << 20, fs=disk)
        consumer = db.consumer("cloud")
        before = disk.read_bytes
        first = consumer.take(1, lane="alarm")
        assert disk.read_bytes - before < 10 << 20, "the search begins where an alarm may be"
        consumer.release(first)
    consumer = db.consumer("cloud")
    while (batch := consumer.take(20, lane="alarm")) is not None:
        consumer.release(batch)  # the whole way once, so that all files were looked at after a restart
        consumer.ack(consumer.take(20, lane="alarm"))
    fill(db, 10, every=100)
    disk.read_bytes = 0
    assert len(drain(consumer, 1, lane="alarm")) == 1
    assert disk.read_bytes < 100_000
    consumer.take(1, newest=True, lane="alarm")
    assert disk.read_bytes < stored // 50
    db.close()


def test_a_long_search_gives_others_their_turn(tmp_path):
    async def run():
        buffer = TinyDBBuffer("b", tmp_path, segment_bytes=64 << 10)
        await buffer.connect()
        consumer = await asyncio.to_thread(buffer.consumer, "cloud")
        searching = asyncio.ensure_future(consumer.take(5, lane="alarm"))
        await asyncio.sleep(0)
        oldest = await consumer.take(5)
        assert not searching.done()
        assert oldest.first == 1
        found = await searching
        assert [record.seq for record in found.records] == [20_001]
        consumer.ack(found)
        assert await consumer.take(5, lane="alarm") is None
        assert not await consumer.wait(0.01, lane="alarm")
        await buffer.disconnect()

    with opened(tmp_path) as db:
        for _ in range(50):
            db.insert_json([document(at) for at in range(400)])
            db.flush()
        db.insert_json([document(0, "alarm")])
    asyncio.run(run())


def test_what_only_looks_like_an_alarm_is_none():
    assert is_alarm(b'{"lane":"alarm"}')
    assert is_alarm(b'{"a":[1], "lane": "alarm"}')
    for raw in (
        b'{"lane":"normal"}',
        b'{"tags":{"lane":"alarm"}}',
        b'{"note":"the \\"lane\\":\\"alarm\\" is meant"}',
        b'{"kind":"alarm"}',
        b'"alarm',
    ):
        assert not is_alarm(raw)


def test_alarms_are_cut_out_of_any_lines():
    rng = random.Random(3)
    for _ in range(200):
        frames, wanted, at = [], {}, 0
        for number in range(rng.randint(1, 6)):
            frame = []
            for _ in range(rng.randint(1, 4)):
                at += 1
                alarm = rng.random() < 0.4
                frame.append((at, document(at, "alarm" if alarm else None)))
                if not alarm:
                    wanted[at] = at
            frames.append(lines(frame, first=number == 0) + b"\t\r" * 48)
        text = b"".join(frames)
        assert {each: found["n"] for each, found in parse_lines(without_alarms(text))} == wanted
        assert len(alarm_starts(text)) == at - len(wanted)


def test_pages_of_alarms_are_found_forwards_and_backwards():
    pages = AlarmPages().plus([100, 5000, 9000, 9100, 40_000])
    assert pages.count == 5
    assert pages.run_from(0) == (0, 12_288)
    assert pages.run_from(6000) == (6000, 12_288)
    assert pages.run_from(12_288) == (36_864, 40_960)
    assert pages.run_from(40_960) is None
    assert pages.run_before(1 << 30) == (36_864, 40_960)
    assert pages.run_before(36_864) == (0, 12_288)
    assert pages.run_before(5000) == (0, 5000)
    assert pages.run_before(0) is None
    full = AlarmPages(9, (1 << 100) - 1)
    assert full.run_from(0) == (0, 32 * 4096)
    assert full.run_before(100 * 4096) == (68 * 4096, 100 * 4096)
