"""What a disk that refuses, a full one and a damaged one get: bounded memory, a report, and recovery."""

import errno
import json
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from buffer import BufferDB, BufferFull, DiskFault
from buffer.journal import _Change
from tests.rigs.faulty_disk import FaultyDisk, File, PowerCut

DOCUMENT = b'{"n":%d,"pad":"' + b"x" * 100 + b'"}'


class ShiftedClock:
    def __init__(self):
        self.shift = timedelta()

    def now(self):
        return datetime.now(UTC) + self.shift

    def boottime_ns(self):
        return 0

    def monotonic_s(self):
        return 0.0


@pytest.fixture
def disk():
    return FaultyDisk(random.Random(0))


def opened(disk, **options):
    return BufferDB("/s", fs=disk, threaded=False, segment_bytes=4096, **options)


def fill(db, n):
    ids = db.insert_json([DOCUMENT % at for at in range(n)])
    db.flush()
    return ids


def names(disk, table="readings"):
    return sorted(name.rsplit("/", 1)[1] for name in disk.files if name.startswith(f"/s/{table}/"))


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_failed_file_is_never_synced_or_trusted_again(disk, error, operation):
    db = opened(disk)
    fill(db, 5)
    synced = []
    original = disk.sync

    def watched(handle):
        synced.append(disk._handles[handle])
        original(handle)

    disk.sync = watched
    failed_file = disk.files["/s/readings/a.0000000000000001.json"]
    disk.fail_when = lambda what: error if what == operation else None
    ids = db.insert_json([DOCUMENT % 1, DOCUMENT % 2])
    for _ in range(3):
        with pytest.raises(DiskFault):
            db.flush()
    assert db.fault
    assert db.durable_id() == 5
    disk.fail_when = lambda _: None
    synced.clear()
    db.flush()
    assert db.durable_id() == ids[-1]
    assert db.fault is None
    db.maintain()
    assert failed_file not in synced
    assert [document.doc_id for document in db] == [1, 2, 3, 4, 5, *ids]
    db.close()
    for name in names(disk):
        assert json.loads(bytes(disk.files[f"/s/readings/{name}"].cache))
    assert any(name.startswith("s.0000000000000001.1.5.") for name in names(disk))


def test_memory_is_bounded_while_the_disk_refuses(disk):
    db = opened(disk, pending_bytes_max=2_000)
    disk.fail_when = lambda what: errno.EIO if what in {"write", "sync", "create"} else None
    taken = 0
    while db.log("readings").has_room() or taken < 17:
        db.insert_json([DOCUMENT % taken])
        taken += 1
        with pytest.raises(DiskFault):
            db.flush()
    with pytest.raises(BufferFull, match="wait for the disk"):
        db.insert_json([DOCUMENT % taken])
    disk.fail_when = lambda _: None
    db.flush()
    assert len(db) == taken
    db.close()


def test_a_dead_disk_does_not_keep_it_from_opening(disk):
    db = opened(disk)
    fill(db, 3)
    disk.kill()
    disk.fail_when = lambda _: errno.EROFS
    db = opened(disk)
    assert db.fault
    (record_id,) = db.insert_json([b"{}"])
    assert record_id > 3
    assert db.get(doc_id=2)["n"] == 1
    disk.fail_when = lambda _: None
    db.flush()
    assert db.durable_id() == record_id
    assert len(db) == 4
    db.close()
    assert len(opened(disk)) == 4


@pytest.mark.parametrize("table", ["readings", "dead_letters"])
def test_a_fault_goes_with_its_reason_though_nothing_is_written(disk, table):
    disk.fail_when = lambda what: errno.ENOSPC if what in {"write", "create"} else None
    db = opened(disk)
    db.log(table)
    assert "injected" in db.fault
    with pytest.raises(DiskFault):
        db.maintain()
    assert db.fault
    disk.fail_when = lambda _: None
    db.maintain()
    assert db.fault is None
    (record_id,) = db.insert_json([DOCUMENT % 1], table=table)
    db.flush()
    assert db.durable_id(table) == record_id


def test_a_fault_while_something_waits_goes_only_when_that_is_durable(disk):
    db = opened(disk)
    fill(db, 5)
    disk.fail_when = lambda what: errno.ENOSPC if what == "write" else None
    db.insert_json([DOCUMENT % 1])
    with pytest.raises(DiskFault):
        db.flush()
    disk.fail_when = lambda _: None
    db.maintain()
    assert db.fault
    db.flush()
    assert db.fault is None


def test_a_cut_between_any_two_steps_of_rolling_reuses_no_id(disk):
    for step in range(1, 14):
        disk = FaultyDisk(random.Random(step))
        db = opened(disk)
        fill(db, 30)
        pending = db.insert_json([DOCUMENT % 0] * 10)
        disk.cut_at = disk.operations + step
        with suppress(PowerCut):
            db.flush()
        disk.power_cut()
        db = opened(disk)
        assert db.insert({}) > pending[-1]
        assert set(range(1, 31)) <= {document.doc_id for document in db}


def test_a_full_disk_never_empties_the_directory(disk):
    db = opened(disk, keep_delivered_s=0)
    fill(db, 60)
    consumer = db.consumer("cloud")
    while (batch := consumer.take(50)) is not None:
        consumer.ack(batch)
    disk.fail_when = lambda what: errno.ENOSPC if what in {"write", "create"} else None
    db.insert_json([b"{}"])
    for call in (db.maintain, db.flush, db.maintain):
        try:
            call()
        except DiskFault:
            continue
    disk.fail_when = lambda _: None
    disk.power_cut()
    db = opened(disk)
    assert db.insert({}) > 61


def test_left_over_temporary_files_are_swept(disk):
    db = opened(disk)
    fill(db, 3)
    db.close()
    disk.files["/s/readings/t.0000.json"] = disk.files[f"/s/readings/{names(disk)[0]}"]
    db = opened(disk)
    assert not any(name.startswith("t.") for name in names(disk))
    assert len(db) == 3


def test_a_damaged_sealed_segment_is_salvaged_at_first_read(disk):
    db = opened(disk)
    for _ in range(10):
        fill(db, 10)
    db.close()
    victim = next(name for name in names(disk) if name.startswith("s.0000000000000001."))
    disk.files[f"/s/readings/{victim}"].cache[600] ^= 0x20
    db = opened(disk)
    found = [document.doc_id for document in db]
    assert found == list(range(11, 101))
    db.flush()
    ((_, entry),) = db.ledger.items()
    assert (entry["first"], entry["last"], entry["count"], entry["why"]) == (1, 10, 10, "damaged")
    assert any(name.startswith("/s/.quarantine/1.readings.s.") for name in disk.files)
    consumer = db.consumer("cloud")
    assert consumer.backlog == 90
    assert consumer.take(1000).first == 11


def test_any_file_may_be_anything(disk):
    """Zeros, nothing, halves, another store's: opening succeeds, and what is sound is there."""
    db = opened(disk)
    for _ in range(10):
        fill(db, 10)
    disk.kill()
    whole = {name: bytes(file.cache) for name, file in disk.files.items()}
    for name, content in whole.items():
        if "/readings/" not in name:
            continue
        for wrong in (b"", bytes(len(content)), content[: len(content) // 2], b"{}", b"\xff" * 500):
            disk.files = {each: File(bytearray(original)) for each, original in whole.items()}
            disk.files[name] = File(bytearray(wrong))
            db = opened(disk)
            present = {document.doc_id for document in db}
            assert db.insert({}) > 100
            assert set(range(1, 101)) - ids_of(content) <= present, (name, wrong[:10])
            disk.kill()


def ids_of(content):
    return {int(each) for each in json.loads(content)["readings"]}


def test_every_byte_of_the_small_tables_may_be_damaged(disk):
    db = opened(disk, device_id="d")
    store_id = db.store_id
    db.consumer("cloud")
    for at in range(4):
        db.small_table("device_state").put(f"key{at}", {"n": at})
    fill(db, 3)
    disk.kill()
    whole = {name: bytes(file.cache) for name, file in disk.files.items()}
    journal = next(name for name in whole if "/.state/j." in name)
    for at in range(0, len(whole[journal].rstrip()) + 20, 7):
        disk.files = {name: File(bytearray(content)) for name, content in whole.items()}
        disk.files[journal].cache[at] ^= 0x41
        db = opened(disk, device_id="d")
        assert len(db.small_table("device_state").items()) >= 3, at
        assert db.store_id == store_id, at
        disk.kill()


def test_quota_drops_the_oldest_and_says_so(disk):
    db = opened(disk, quota_bytes=20_000)
    db.consumer("cloud")
    for _ in range(60):
        fill(db, 10)
    assert db.log("readings").disk_bytes <= 20_000 + 4096
    kept = [document.doc_id for document in db]
    assert kept[-1] == 600
    assert kept == list(range(kept[0], 601))
    ((_, entry),) = db.ledger.items()
    assert (entry["first"], entry["last"], entry["count"]) == (1, kept[0] - 1, kept[0] - 1)
    assert entry["why"] == "full: oldest dropped"
    assert db.consumer("cloud").backlog == len(kept)


def test_quota_drops_what_is_delivered_first_and_silently(disk):
    db = opened(disk, quota_bytes=20_000)
    consumer = db.consumer("cloud")
    for _ in range(60):
        fill(db, 10)
        consumer.ack(consumer.take(1000))
    assert db.ledger.items() == []
    assert db.log("readings").disk_bytes <= 20_000 + 4096


def test_quota_drops_the_newest_and_says_so(disk):
    db = opened(disk, quota_bytes=20_000, full="drop_newest")
    consumer = db.consumer("cloud")
    for _ in range(60):
        ids = db.insert_json([b'{"lane":"alarm","pad":"' + b"x" * 100 + b'"}'] * 10)
        db.flush()
        assert db.durable_id() == ids[-1]
    kept = [document.doc_id for document in db]
    ((_, entry),) = db.ledger.items()
    assert kept == list(range(1, len(kept) + 1))
    assert (entry["first"], entry["last"], entry["count"]) == (len(kept) + 1, 600, 600 - len(kept))
    assert entry["lane"] == "alarm"
    db.close()
    disk.kill()
    db = opened(disk, quota_bytes=20_000, full="drop_newest")
    assert db.log("readings").next_id == 601
    consumer = db.consumer("cloud")
    while (batch := consumer.take(1000)) is not None:
        consumer.ack(batch)
    more = fill(db, 10)
    assert [record.seq for record in consumer.take(100).records] == list(more)


def test_quota_that_blocks_loses_nothing(disk):
    db = opened(disk, quota_bytes=20_000, full="block", pending_bytes_max=5_000)
    consumer = db.consumer("cloud")
    taken = 0
    while db.log("readings").has_room():
        db.insert_json([DOCUMENT % taken])
        taken += 1
        with suppress(DiskFault):
            db.flush()
    assert "quota" in db.fault
    assert len(db) == taken
    while (batch := consumer.take(1000)) is not None:
        consumer.ack(batch)
    db.flush()
    assert db.fault is None
    db.insert_json([b"{}"])


def test_delivered_segments_stay_for_a_while(disk):
    clock = ShiftedClock()
    disk.now_s = clock.now().timestamp()
    db = opened(disk, keep_delivered_s=3600, clock=clock)
    consumer = db.consumer("cloud")
    for _ in range(20):
        fill(db, 10)
    consumer.ack(consumer.take(100))
    db.maintain()
    assert len(db) == 200
    clock.shift = timedelta(hours=2)
    db.maintain()
    kept = [document.doc_id for document in db]
    assert 80 < kept[0] <= 101
    clock.shift = timedelta(days=-3000)
    db.maintain()
    assert [document.doc_id for document in db] == kept


def test_dead_letters_are_bounded_by_themselves(disk):
    db = opened(disk, dead_letter_bytes_max=12_000)
    for _ in range(40):
        db.insert_json([DOCUMENT % 1] * 10, table="dead_letters")
        db.flush()
    assert db.log("dead_letters").disk_bytes <= 12_000 + 4096
    ((_, entry),) = db.ledger.items()
    assert entry["table"] == "dead_letters"
    assert entry["count"] + len(db.table("dead_letters")) == 400


def test_dead_letters_that_somebody_deleted_are_no_loss_when_their_file_goes(disk):
    db = opened(disk, dead_letter_bytes_max=12_000)
    for _ in range(60):
        (each,) = db.insert_json([DOCUMENT % 1], table="dead_letters")
        db.flush()
        if each <= 20 or not each % 3:
            db.delete(each, table="dead_letters")
    given, deleted = 60, 20 + len([each for each in range(21, 61) if not each % 3])
    assert len(db.table("dead_letters")) < given - deleted
    assert db.ledger.dropped == given - deleted - len(db.table("dead_letters"))


def test_a_deletion_stands_though_its_tombstones_cannot_be_cleared_away(disk):
    db = opened(disk)
    db.insert_json([b"{}"] * 2010)
    db.flush()
    for each in range(1, 2001, 2):
        db.delete(each)
    made = disk.create

    def refused(path):
        if "/t." in path and "/readings/" in path:
            raise OSError(errno.ENOSPC, "injected")
        return made(path)

    disk.create = refused
    db.delete(2001)
    disk.create = made
    assert len(db) == 2010 - 1001
    db.delete(2003)
    assert len(db) == 2010 - 1002


@pytest.mark.parametrize("harm", ["zeros", "cut", "none"])
def test_of_two_generations_of_the_small_tables_the_newer_counts_unless_it_is_gone(disk, harm):
    db = opened(disk, device_id="d")
    table = db.small_table("device_state")
    table.put("a", {"n": 1})
    table.put("b", {"n": 1})
    (path,) = (name for name in disk.files if name.startswith("/s/.state/j."))
    older = bytes(disk.files[path].cache)
    table.put("b", None)
    table.put("a", {"n": 2})
    db.renew_state()
    (newer,) = (name for name in disk.files if name.startswith("/s/.state/j."))
    disk.kill()
    disk.put(path, older)
    content = bytes(disk.files[newer].cache)
    disk.put(newer, {"zeros": bytes(len(content)), "cut": b"", "none": content}[harm])
    found = dict(opened(disk, device_id="d").small_table("device_state").items())
    assert found == ({"a": {"n": 2}} if harm == "none" else {"a": {"n": 1}, "b": {"n": 1}})


def test_who_shares_a_write_that_is_broken_off_is_not_told_that_it_is_durable(disk):
    db = opened(disk)
    table, journal = db.small_table("device_state"), db.journal
    table.put("a", {"n": 1})
    other = _Change([("device_state", "b", b'{"n":1}')])
    journal._queue.append(other)
    sync = disk.sync

    def broken_off(_):
        raise KeyboardInterrupt

    disk.sync = broken_off
    with pytest.raises(KeyboardInterrupt):
        table.put("c", {"n": 1})
    disk.sync = sync
    assert other.done
    assert other.error is not None
    table.put("d", {"n": 1})
    disk.kill()
    assert dict(opened(disk).small_table("device_state").items()) == {"a": {"n": 1}, "d": {"n": 1}}
