"""Quota, reserve and maximum age: what goes, in which order, and that each of it is entered in the ledger."""

import errno
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from buffer import BufferDB, BufferFull, DiskFault
from tests.rigs.faulty_disk import FaultyDisk, PowerCut

NORMAL = b'{"n":%d,"pad":"' + b"x" * 100 + b'"}'
ALARM = b'{"n":%d,"pad":"' + b"x" * 100 + b'","lane":"alarm"}'
LANES = {"normal": "drop_oldest", "alarm": "block"}


class SetClock:
    """A clock that a test sets."""

    def __init__(self):
        self.wall = datetime(2026, 6, 1, tzinfo=UTC)
        self.running_s = 1000.0

    def pass_time(self, seconds):
        self.wall += timedelta(seconds=seconds)
        self.running_s += seconds

    def now(self):
        return self.wall

    def boottime_ns(self):
        return int(self.running_s * 1e9)

    def monotonic_s(self):
        return self.running_s


@pytest.fixture
def disk():
    return FaultyDisk(random.Random(0))


def opened(disk, **options):
    return BufferDB("/s", fs=disk, threaded=False, segment_bytes=4096, device_id="d", **options)


def fill(db, n, every=0, start=0):
    """`n` records, each `every`-th an alarm."""
    ids = db.insert_json([(ALARM if every and not at % every else NORMAL) % (start + at) for at in range(n)])
    db.flush()
    return ids


def drain(consumer, **how):
    got = []
    while (batch := consumer.take(50, **how)) is not None:
        got += [record.seq for record in batch.records]
        consumer.ack(batch)
    return got


def entries_of(db):
    return [entry for _, entry in db.ledger.items()]


def lost_ids(db, alarms=frozenset()):
    """The ids that the ledger says are lost, each once; `alarms` tells the lanes apart."""
    lost = []
    for entry in entries_of(db):
        ids = [each for each in range(entry["first"], entry["last"] + 1) if entry["count"]]
        if "lane" in entry:
            ids = [each for each in ids if (each in alarms) is (entry["lane"] == "alarm")]
        assert len(ids) == entry["count"], entry
        lost += ids
    assert len(lost) == len(set(lost)), "an id was lost twice"
    return set(lost)


def never_issued(db):
    return [
        (entry["first"], entry["last"])
        for entry in entries_of(db)
        if entry["why"] == "never issued" and not entry["count"]
    ]


def is_alarm(db, every=10):
    return {document.doc_id for document in db if document.get("lane") == "alarm"}


# -- the quota, lane by lane


def test_normal_readings_go_and_the_alarms_among_them_stay(disk):
    db = opened(disk, quota_bytes=30_000)
    consumer = db.consumer("cloud")
    alarms, ids = set(), []
    for turn in range(60):
        ids += fill(db, 10, every=5, start=turn * 10)
        alarms |= set(ids[-10::5])
        assert db.log("readings").disk_bytes <= 30_000 + 4096
    lost = lost_ids(db, alarms)
    assert lost
    assert not lost & alarms
    assert {entry["why"] for entry in entries_of(db)} == {"full: oldest dropped"}
    assert len(db.ledger.items()) == 1, "segment after segment extends one entry"
    assert consumer.backlog == len(ids) - len(lost)
    assert drain(consumer, lane="alarm") == sorted(alarms)
    assert set(drain(consumer)) | alarms | lost == set(ids)
    db.close()


def test_alarms_go_too_when_nothing_else_is_left(disk):
    db = opened(disk, quota_bytes=20_000)
    consumer = db.consumer("cloud")
    ids = []
    for _ in range(80):
        ids += fill(db, 10, every=2)
    alarms = set(ids[0::2])
    lost = lost_ids(db, alarms)
    assert lost & alarms
    assert max(lost & alarms) < min(lost - alarms | {10**9}) or max(lost - alarms) > max(lost & alarms)
    left = set(drain(consumer))
    assert left | lost == set(ids)
    assert not left & lost
    assert min(left) in alarms
    db.close()


def test_left_over_alarms_are_joined_in_few_files(disk, monkeypatch):
    monkeypatch.setattr("buffer.thinning._JOINED_BYTES", 2000)
    db = opened(disk, quota_bytes=40_000)
    db.consumer("cloud")
    ids = []
    for _ in range(150):
        ids += fill(db, 10, every=20)
    segments = db.log("readings").segments
    thinned = [each for each in segments if each.count and each.count == (each.alarms and each.alarms.count)]
    assert len(thinned) <= 12
    assert sum(each.count for each in thinned) >= 50
    assert sorted(segments, key=lambda each: each.base) == segments
    db.close()
    db = opened(disk, quota_bytes=40_000)
    alarms = set(ids[0::10])
    assert drain(db.consumer("cloud"), lane="alarm") == sorted(alarms)
    assert lost_ids(db, alarms) | alarms | {document.doc_id for document in db} == set(ids)


def test_alarms_block_where_they_must_not_be_lost_and_normal_readings_are_dropped(disk):
    db = opened(disk, quota_bytes=20_000, full=LANES, pending_bytes_max=5_000)
    consumer = db.consumer("cloud")
    alarms = []
    while db.fault is None:
        alarms += db.insert_json([ALARM % at for at in range(5)])
        with suppress(DiskFault):
            db.flush()
    assert "quota" in db.fault
    normal = list(db.insert_json([NORMAL % 1, NORMAL % 2]))
    more = list(db.insert_json([ALARM % 1]))
    with pytest.raises(DiskFault, match="quota"):
        db.flush()
    assert [document["n"] for document in db if document.doc_id == more[0]] == [1], "it waits in memory"
    assert drain(consumer) + drain(consumer) == alarms[: consumer.mark]
    db.flush()
    assert db.fault is None
    assert drain(consumer)[-1] == more[0]
    assert lost_ids(db, {*alarms, *more}) <= set(normal)
    db.close()


def test_the_normal_readings_of_a_frame_are_dropped_and_the_alarms_kept(disk):
    db = opened(disk, quota_bytes=20_000, full={"normal": "drop_newest", "alarm": "block"})
    consumer = db.consumer("cloud")
    ids = []
    while not db.ledger.items():
        ids += fill(db, 10)
    mixed = db.insert_json([NORMAL % 1, ALARM % 2, NORMAL % 3])
    with pytest.raises(DiskFault):
        db.flush()
    lost = lost_ids(db, {mixed[1]})
    assert {*mixed} - lost == {mixed[1]}
    drain(consumer)
    db.flush()
    assert db.durable_id() == mixed[2], "whoever waits for a dropped record waits no longer"
    assert drain(consumer) == [mixed[1]]


def test_delivered_segments_go_first_wherever_they_are(disk):
    db = opened(disk, quota_bytes=60_000)
    consumer = db.consumer("cloud")
    ids = []
    for _ in range(30):
        ids += fill(db, 10)
    newest = []
    while len(newest) < 200:
        batch = consumer.take(40, newest=True)
        consumer.ack(batch)
        newest += [record.seq for record in batch.records]
    before = db.log("readings").disk_bytes
    while not db.ledger.items():
        ids += fill(db, 10)
        batch = consumer.take(40, newest=True)
        consumer.ack(batch)
        newest += [record.seq for record in batch.records]
        if len(ids) > 450:
            break
    assert db.ledger.items() == [], "what is delivered made room"
    assert before <= 60_000
    assert drain(consumer) == [each for each in ids if each not in set(newest)]


# -- ids


def test_ids_that_a_policy_dropped_are_not_given_again_after_a_kill(disk):
    db = opened(disk, quota_bytes=10_000, full="drop_newest")
    db.consumer("cloud")
    ids = []
    while len(ids) < 70_000:
        ids += fill(db, 5_000)
    disk.kill()
    db = opened(disk, quota_bytes=10_000, full="drop_newest")
    (again,) = db.insert_json([b"{}"])
    assert again > ids[-1]
    kept = {document.doc_id for document in db} - {again}
    ((first, last),) = never_issued(db)
    assert last == again - 1
    assert kept | lost_ids(db) == set(range(1, first))


def test_a_dead_disk_at_the_start_leaves_no_gap_unexplained(disk):
    db = opened(disk)
    db.consumer("cloud")
    fill(db, 3)
    db.close()
    disk.fail_when = lambda what: errno.EROFS if what in {"create", "write"} else None
    db = opened(disk)
    (first,) = db.insert_json([b"{}"])
    disk.fail_when = lambda _: None
    db.flush()
    db.maintain()
    assert never_issued(db) == [(4, first - 1)]
    disk.kill()
    db = opened(disk)
    (second,) = db.insert_json([b"{}"])
    db.flush()
    assert never_issued(db) == [(4, first - 1), (first + 1, second - 1)]


def test_a_file_removed_while_the_buffer_was_closed_is_noticed(disk):
    db = opened(disk)
    consumer = db.consumer("cloud")
    for _ in range(20):
        fill(db, 10)
    consumer.ack(consumer.take(50))
    db.close()
    names = sorted(name for name in disk.files if "/readings/s." in name)
    bounds = [tuple(map(int, (name.split(".")[1], name.split(".")[5]))) for name in names]
    (low, high) = bounds[3]
    del disk.files[names[3]]
    db = opened(disk)
    assert lost_ids(db) == set(range(max(low, 51), high + 1))
    assert {entry["why"] for entry in entries_of(db)} == {"file missing"}
    db.close()
    assert len(opened(disk).ledger.items()) == 1, "once"


def test_removed_records_are_in_the_ledger_when_somebody_was_to_have_them(disk):
    db = opened(disk)
    fill(db, 10)
    db.delete(1)
    db.remove(doc_ids=[2])
    assert db.ledger.items() == [], "nobody was"
    consumer = db.consumer("cloud")
    fill(db, 10)
    consumer.ack(consumer.take(3))
    for change in (
        lambda: db.delete(3),
        lambda: db.delete(7),
        lambda: db.remove(doc_ids=[8, 9, 12]),
        lambda: db.update({"lane": "alarm"}, doc_ids=[14]),
        lambda: db.delete(14),
        db.truncate,
    ):
        change()
    entries = entries_of(db)
    assert {entry["why"] for entry in entries} == {"removed"}
    assert sum(entry["count"] for entry in entries) == 15
    assert [entry["first"] for entry in entries if entry.get("lane") == "alarm"] == [14]
    db.close()
    db = opened(disk)
    assert len(db.ledger.items()) == len(entries), "no further gap is found"


@pytest.mark.parametrize("lanes", [1, 5, 0])
@pytest.mark.parametrize("full", ["drop_oldest", LANES])
def test_a_cut_at_any_step_of_making_room_loses_nothing_else(lanes, full):
    """Every id is either there or in the ledger, never in both, and each alarm is there."""
    for step in range(1, 60):
        disk = FaultyDisk(random.Random(step))
        db = opened(disk, quota_bytes=20_000, full=full)
        db.consumer("cloud")
        ids, alarms = [], set()
        with suppress(DiskFault):
            for _ in range(14):
                ids += fill(db, 10, every=lanes)
        ids = ids[: db.durable_id()]
        disk.cut_at = disk.operations + step
        with suppress(PowerCut, DiskFault):
            for _ in range(8):
                db.insert_json([(ALARM if lanes and not at % lanes else NORMAL) % at for at in range(10)])
                db.flush()
        disk.off = False
        durable = db.durable_id()
        disk.power_cut()
        db = opened(disk, quota_bytes=20_000, full=full)
        alarms = {each for each in range(1, 230) if lanes and not (each - 1) % 10 % lanes}
        present = {document.doc_id for document in db}
        lost = {each for each in lost_ids(db, alarms) if each <= durable}
        assert not lost & present, step
        assert present | lost >= set(range(1, durable + 1)), (step, db.ledger.items())
        if full is LANES:
            assert not lost & alarms
        consumer = db.consumer("cloud")
        assert consumer.backlog == len(drain(consumer)) == len(present)
        db.close()


@pytest.mark.parametrize("taken", [{}, {"lane": "normal"}])
def test_what_was_delivered_of_a_file_that_goes_is_no_loss_after_a_cut(taken):
    """Its acknowledgement is not durable yet when the rest of the file is given up."""
    for step in range(1, 40):
        disk = FaultyDisk(random.Random(step))
        db = opened(disk, quota_bytes=20_000, full="drop_oldest")
        consumer = db.consumer("cloud")
        while db.log("readings").disk_bytes < 19_000:
            fill(db, 10)
        had = []
        for _ in range(3):
            batch = consumer.take(3, **taken)
            consumer.ack(batch)
            had += [record.seq for record in batch.records]
        disk.cut_at = disk.operations + step
        with suppress(PowerCut, DiskFault):
            for _ in range(8):
                fill(db, 10)
        disk.off = False
        disk.power_cut()
        db = opened(disk, quota_bytes=20_000, full="drop_oldest")
        assert "file missing" not in {entry["why"] for entry in entries_of(db)}, (step, db.ledger.items())
        assert not lost_ids(db) & set(had)
        db.close()


# -- the reserve, and a disk that is full


def test_the_reserve_stops_growth_and_the_oldest_makes_room(disk):
    db = opened(disk, reserve_bytes=1_000_000)
    db.consumer("cloud")
    ids = []
    for _ in range(20):
        ids += fill(db, 10)
    took = db.log("readings").disk_bytes
    disk.free = 999_999
    for _ in range(50):
        ids += fill(db, 10)
        assert db.log("readings").disk_bytes <= took + 4500
    kept = [document.doc_id for document in db]
    assert kept == ids[-len(kept) :]
    assert len(kept) > 100, "what others take is not given up in vain"
    assert lost_ids(db) == set(ids) - set(kept)
    disk.free = 1 << 30
    for _ in range(20):
        ids += fill(db, 10)
    assert db.log("readings").disk_bytes > took + 8192


def test_a_reserve_that_blocks(disk):
    db = opened(disk, reserve_bytes=1_000_000, full="block")
    for _ in range(10):
        fill(db, 10)
    disk.free = 999_999
    db.insert_json([b"{}"])
    with pytest.raises(DiskFault, match="less than 1,000,000 bytes are free on the disk"):
        db.flush()
    disk.free = 1 << 30
    db.flush()
    assert len(db) == 101


def test_a_reserve_is_at_most_a_tenth_of_a_small_disk(disk):
    disk.total, disk.free = 1_000_000, 100_000
    db = opened(disk, reserve_bytes=64 << 20, full="block")
    fill(db, 100)
    disk.free = 99_999
    db.insert_json([b"{}"])
    with pytest.raises(DiskFault, match="less than 100,000 bytes"):
        db.flush()


class SmallDisk(FaultyDisk):
    """So many bytes, and then ENOSPC."""

    size = 60_000
    others = 0
    """What somebody else has taken."""
    greedy = False
    """He takes what becomes free."""
    keeps_beginnings = False
    """What there is room for of a write that fails is there, as with every real disk."""

    def _taken(self):
        return self.others + sum(len(file.cache) for file in self.files.values())

    def write(self, handle, data, offset):
        grown = max(0, offset + len(data) - len(self._handles[handle].cache))
        if self._taken() + grown > self.size:
            fits = len(data) - (self._taken() + grown - self.size)
            if self.keeps_beginnings and fits > 0:
                super().write(handle, data[:fits], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(handle, data, offset)

    def unlink(self, path):
        before = self._taken()
        super().unlink(path)
        if self.greedy and "/readings/s." in path:
            self.others += before - self._taken()

    def free_bytes(self, path):
        return max(0, self.size - self._taken())

    def total_bytes(self, path):
        return self.size


@pytest.mark.parametrize("every", [0, 4])
def test_a_disk_that_is_full_in_spite_of_the_reserve_is_made_room_on(every):
    disk = SmallDisk(random.Random(0))
    db = opened(disk, reserve_bytes=1)
    db.consumer("cloud")
    ids = []
    for _ in range(100):
        ids += fill(db, 10, every=every)
    alarms = {each for each in ids if every and not (each - 1) % 10 % every}
    present = {document.doc_id for document in db}
    assert present | lost_ids(db, alarms) == set(ids)
    assert len(present) > 100
    db.close()


def test_room_that_somebody_else_takes_is_not_made_again_and_again():
    disk = SmallDisk(random.Random(0))
    db = opened(disk, reserve_bytes=1)
    db.consumer("cloud")
    taken = 0
    while disk.free_bytes("/") > 9000:
        taken += len(fill(db, 10))
    disk.greedy = True
    for _ in range(20):
        with suppress(BufferFull):
            taken += len(db.insert_json([NORMAL % 1] * 10))
        with suppress(DiskFault):
            db.flush()
    assert "No space left" in db.fault
    assert db.ledger.dropped <= 40, "one segment, and no more"
    disk.greedy = False
    disk.others = 0
    db.flush()
    assert len(db) + db.ledger.dropped == taken


def test_a_large_commit_on_a_full_disk_is_made_room_for_by_several_small_delivered_files():
    disk = SmallDisk(random.Random(0))
    db = opened(disk, keep_delivered_s=1e9)
    consumer = db.consumer("cloud")
    while disk.free_bytes("/") > 12_000:
        fill(db, 10)
        db.log("readings").roll()
    while (batch := consumer.take(100)) is not None:
        consumer.ack(batch)
    db.maintain()
    waiting = db.insert_json([NORMAL % 1] * 200)
    disk.keeps_beginnings = True
    db.flush()
    assert db.durable_id() == waiting[-1]
    assert db.ledger.dropped == 0
    assert consumer.backlog == 200


def test_without_any_limit_a_full_disk_costs_nothing():
    disk = SmallDisk(random.Random(0))
    db = opened(disk)
    ids = []
    while db.fault is None:
        ids += db.insert_json([NORMAL % 1] * 10)
        with suppress(DiskFault):
            db.flush()
    assert db.ledger.dropped == 0
    assert len(db) == len(ids)


# -- age


def aged(disk, clock, **options):
    db = opened(disk, clock=clock, max_age_s=1000.0, **options)
    disk.now_s = clock.now().timestamp()
    return db, db.consumer("cloud")


def test_what_is_too_old_goes_and_is_entered(disk):
    clock = SetClock()
    db, consumer = aged(disk, clock)
    ids = []
    for _ in range(40):
        disk.now_s = clock.now().timestamp()
        ids += fill(db, 10, every=10)
        clock.pass_time(50)
        db.maintain()
    alarms = set(ids[0::10])
    lost = lost_ids(db, alarms)
    assert {entry["why"] for entry in entries_of(db)} == {"too old"}
    assert lost == set(ids[: len(lost)])
    # 20 turns of 50 s are allowed, and a segment more; each was sealed when it was full, or after a tenth.
    assert 40 * 10 - 10 * (20 + 3) <= len(lost) <= 40 * 10 - 10 * 19
    assert drain(consumer) == ids[len(lost) :]


def test_a_slow_sensor_s_file_is_sealed_in_time_to_go(disk):
    clock = SetClock()
    db, _ = aged(disk, clock)
    for _ in range(30):
        disk.now_s = clock.now().timestamp()
        fill(db, 1)
        clock.pass_time(60)
        db.maintain()
    assert 10 <= db.ledger.dropped <= 14


def test_a_clock_that_jumps_ahead_is_no_age(disk):
    clock, trusted = SetClock(), [False]
    db, _ = aged(disk, clock, clock_trusted=lambda: trusted[0])
    for _ in range(20):
        fill(db, 10)
    clock.wall += timedelta(days=4000)
    db.maintain()
    assert db.ledger.dropped == 0
    clock.pass_time(999)
    db.maintain()
    assert db.ledger.dropped == 0
    clock.pass_time(2)
    db.maintain()
    assert db.ledger.dropped > 150, "so long it has been running"


def test_what_was_stored_before_the_clock_was_set_is_not_taken_for_old(disk):
    clock = SetClock()
    db, _ = aged(disk, clock)
    estimated = b'{"source":"s","t":1,"values":{"a":1},"clock":"estimated","pad":"%s"}' % (b"x" * 90)
    for _ in range(20):
        db.insert_json([estimated] * 10)
        db.flush()
    clock.wall += timedelta(days=4000)
    db.maintain()
    assert db.ledger.dropped == 0
    clock.pass_time(1001)
    db.maintain()
    assert db.ledger.dropped > 150


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("full", "drop"),
        ("full", {"normal": "block"}),
        ("full", {"normal": "block", "alarm": "keep"}),
        ("full", {"normal": "block", "alarm": "block", "live": "block"}),
        ("max_age_s", 0),
        ("quota_bytes", 4096),
        ("reserve_bytes", -1),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(disk, option, value):
    with pytest.raises(ValueError, match=option):
        opened(disk, **{option: value})


def test_a_file_that_could_not_be_sealed_makes_room_once_it_is_sound(disk):
    """It cannot be thinned before; others are, meanwhile."""
    db = opened(disk, quota_bytes=20_000, full=LANES)
    db.consumer("cloud")
    disk.fail_when = lambda call: errno.EIO if call == "truncate" else None
    ids = []
    while len(db.log("readings").segments) < 2:
        ids += fill(db, 10, every=5)
    disk.fail_when = lambda _: None
    (failed, _) = db.log("readings").segments
    assert not failed.sealed
    while not db.ledger.dropped:
        ids += fill(db, 10, every=5)
    assert min(lost_ids(db, set(ids[::5]))) > failed.last
    db.maintain()
    while min(lost_ids(db, set(ids[::5]))) > failed.last:
        ids += fill(db, 10, every=5)
    alarms = set(ids[::5])
    lost = lost_ids(db, alarms)
    assert not lost & alarms
    assert {document.doc_id for document in db} | lost == set(ids)


def test_what_went_delivered_behind_a_file_that_could_not_be_sealed_is_not_called_never_issued(disk):
    db = opened(disk, quota_bytes=20_000)
    consumer = db.consumer("cloud")
    disk.fail_when = lambda call: errno.EIO if call == "truncate" else None
    while len(db.log("readings").segments) < 2:
        fill(db, 10)
    disk.fail_when = lambda _: None
    while len(db.log("readings").segments) < 3:
        fill(db, 10)
    failed, delivered, _ = db.log("readings").segments
    while (batch := consumer.take(10, newest=True)) and batch.first >= delivered.base:
        consumer.ack(batch)
    consumer.release(batch)
    while delivered in db.log("readings").segments:
        fill(db, 10)
    assert failed in db.log("readings").segments
    assert not db.ledger.dropped
    disk.kill()
    db = opened(disk, quota_bytes=20_000)
    assert not [each for each in entries_of(db) if each["first"] <= delivered.last]


def test_each_consumer_is_told_of_what_it_lost_itself():
    disk = FaultyDisk(random.Random(0))
    db = opened(disk, quota_bytes=12_288)
    consumers = {name: db.consumer(name) for name in ("fast", "slow")}
    for name in consumers:
        db.ledger.feed(name)
    fill(db, 20)
    for count, consumer in zip((15, 5), consumers.values(), strict=True):
        consumer.ack(consumer.take(count))
    ids = [each for _ in range(20) for each in fill(db, 10)]
    lost = set(range(1, ids[-1] + 1)) - {document.doc_id for document in db}
    assert lost > set(range(1, 21))
    for name, had in (("fast", 15), ("slow", 5)):
        assert sum(entry.count for entry in db.ledger.untold(name)) == len(lost) - had
    assert db.ledger.dropped == len(lost) - 5


def test_alarms_of_two_identities_in_one_file_are_given_apart():
    disk = FaultyDisk(random.Random(0))
    for machine in "ab":
        db = opened(disk, quota_bytes=24_576, machine_id=machine)
        db.consumer("cloud")
        for _ in range(30):
            fill(db, 10, every=10)
        epochs = db.epochs
        if machine == "a":
            db.close()
    first, second = epochs
    both = [each for each in db.log("readings").segments if each.base < second.first_seq <= each.last]
    assert both, "the alarms that are left of both are in one file"
    for options in ({}, {"newest": True}, {"newest": True, "lane": "alarm"}, {"lane": "alarm"}):
        consumer, taken = db.consumer("cloud"), []
        while (batch := consumer.take(1000, **options)) is not None:
            of = {record.seq >= second.first_seq for record in batch.records}
            assert of == {batch.store_id == second.store_id}, options
            taken.append(batch)
        assert {batch.store_id for batch in taken} == {first.store_id, second.store_id}
        for batch in taken:
            consumer.release(batch)
