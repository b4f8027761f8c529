"""Ids inside a file that are no records any more: when the file goes, nobody is told that they are missing.

A consumer made after a record was removed inside a file knows nothing of that; where the rest of the
file goes later, the one that decides on it settles the holes for all.
"""

import errno
import random

import pytest

from buffer import BufferDB
from tests.rigs.faulty_disk import FaultyDisk

ROOT = "/s"
RECORD = b'{"n":%d,"pad":"' + b"x" * 100 + b'"}'


@pytest.fixture
def disk():
    return FaultyDisk(random.Random(0))


def opened(disk, **options):
    options = {"segment_bytes": 4096, "keep_delivered_s": 1e12, **options}
    return BufferDB(ROOT, fs=disk, threaded=False, device_id="d", **options)


def fill(db, n):
    ids = list(db.insert_json([RECORD % at for at in range(n)]))
    db.flush()
    return ids


def drain(consumer, n=1 << 30):
    got = []
    while len(got) < n and (batch := consumer.take(min(10, n - len(got)))) is not None:
        got += [record.seq for record in batch.records]
        consumer.ack(batch)
    return got


def told(db):
    """What the ledger counts, by reason; ids that were never given to anything aside."""
    return {why: count for why, count in db.ledger.lost().items() if count}


def with_holes(disk, **options):
    """Two files of 20 records, of which the first consumer has had, and a user removed, the first few."""
    db = opened(disk, **options)
    first = db.consumer("one")
    ids = [record_id for _ in range(4) for record_id in fill(db, 5)]
    db.log("readings").roll()
    fill(db, 20)
    db.log("readings").roll()
    fill(db, 1)
    assert drain(first, 8) == ids[:8]
    return db, ids


def after_a_cut(disk, **options):
    disk.power_cut("least")
    return opened(disk, **options)


def remove(db, ids):
    db.table("readings").remove(doc_ids=ids)


def delete(db, ids):
    for each in ids:
        db.delete(each)


@pytest.mark.parametrize("removal", [remove, delete])
@pytest.mark.parametrize("rest", [remove, delete])
def test_a_file_that_a_user_empties_in_two_goes_is_missed_by_nobody(disk, removal, rest):
    options = {"keep_delivered_s": 0}
    db, ids = with_holes(disk, **options)
    removal(db, ids[2:6])
    second = db.consumer("two")
    rest(db, ids[:2] + ids[6:])
    db.maintain()
    assert db.log("readings").lowest_id == ids[-1] + 1
    assert told(db) == {"removed": 16}
    assert second.backlog == 21
    db = after_a_cut(disk, **options)
    assert told(db) == {"removed": 16}
    assert len(drain(db.consumer("two"))) == 21


@pytest.mark.parametrize("emptied", [0, 1])
def test_a_file_that_is_empty_but_stays_is_a_hole_for_who_comes_then(disk, emptied):
    db, _ = with_holes(disk)
    log = db.log("readings")
    ids = log.reader.ids(log.segments[emptied])
    drain(db.consumer("one"))
    disk.fail_when = lambda call: errno.EIO if call == "unlink" and not log.segments[emptied].count else None
    remove(db, ids)
    disk.fail_when = lambda _: None
    assert not log.segments[emptied].count
    db.consumer("two")
    for _ in range(2):
        db = after_a_cut(disk)
        assert told(db) == {}


def acknowledge_late(consumer, n):
    """Acknowledge the next records one by one, and so nothing between them."""
    batch = consumer.take(n)
    consumer.release(batch)
    consumer.ack(batch)
    return [record.seq for record in batch.records]


def test_a_table_that_is_cleared_is_missed_by_nobody(disk):
    db, ids = with_holes(disk)
    remove(db, ids[2:6])
    delete(db, ids[7:8])
    assert acknowledge_late(db.consumer("two"), 5) == [*ids[:2], ids[6], *ids[8:10]]
    db.clear()
    assert told(db) == {"removed": 33}
    db = after_a_cut(disk)
    assert told(db) == {"removed": 33}
    assert not drain(db.consumer("two"))


@pytest.mark.parametrize("removal", [remove, delete])
def test_of_a_file_that_a_quota_lets_go_only_what_was_in_it_is_lost(disk, removal):
    options = {"quota_bytes": 16384}
    db, ids = with_holes(disk, **options)
    removal(db, ids[2:6])
    assert acknowledge_late(db.consumer("two"), 3) == [*ids[:2], ids[6]]
    while db.log("readings").lowest_id == 1:
        fill(db, 5)
    assert told(db) == {"full: oldest dropped": 13}
    db = after_a_cut(disk, **options)
    assert set(told(db)) == {"full: oldest dropped"}


def damage(disk, db, segment, records):
    """Turn bytes of records of a sealed file to zeros."""
    name = f"{db.log('readings').directory}/{segment.name}"
    data = bytearray(disk.files[name].cache)
    for record_id in records:
        at = (
            data.index(b'\n"%d":' % record_id)
            if b'\n"%d":' % record_id in data
            else data.index(b'"%d":' % record_id)
        )
        data[at + 4 : at + 20] = bytes(16)
    disk.put(name, bytes(data))


def damaged_later(disk, db, **options):
    db.close()
    db = opened(disk, **options)
    return db, db.log("readings").segments[0]


def test_a_file_that_damage_leaves_nothing_of_is_told_once(disk):
    db, ids = with_holes(disk)
    remove(db, ids[2:6])
    db.consumer("two")
    db, segment = damaged_later(disk, db)
    damage(disk, db, segment, [ids[0]])  # a file written anew is one frame
    assert len(list(db)) == 21
    assert told(db) == {"damaged": 16}
    db.close()
    db = opened(disk)
    db.close()
    db = opened(disk)
    assert told(db) == {"damaged": 16}


def test_damage_to_a_deleted_record_is_no_loss_and_hides_no_other(disk):
    options = {"keep_delivered_s": 0}
    db = opened(disk, **options)
    db.consumer("one")
    ids = [record_id for _ in range(4) for record_id in fill(db, 1)]
    db.log("readings").roll()
    ids += fill(db, 2)
    delete(db, ids[1:2])
    db, segment = damaged_later(disk, db, **options)
    damage(disk, db, segment, [ids[1]])
    assert [document.doc_id for document in db] == ids[:1] + ids[2:]
    assert len(db) == 5
    assert told(db) == {"removed": 1}
    delete(db, ids[2:3])
    assert len(db) == 4
    delete(db, ids[3:4])
    db.maintain()
    assert [document.doc_id for document in db] == [ids[0], *ids[4:]]
    db = after_a_cut(disk, **options)
    assert [document.doc_id for document in db] == [ids[0], *ids[4:]]


def test_a_damaged_file_that_cannot_be_written_anew_is_given_up_and_told_once(disk):
    options = {"quota_bytes": 16384}
    db, ids = with_holes(disk, **options)
    delete(db, ids[12:14])
    assert len(drain(db.consumer("one"), 4)) == 4  # in memory only
    (segment, *_) = db.log("readings").segments
    damage(disk, db, segment, [ids[17]])
    segment.verified = False
    name = f"{db.log('readings').directory}/{segment.name}"
    disk.fail_when = lambda call: errno.ENOSPC if call == "create" and name in disk.files else None
    while name in disk.files:
        fill(db, 5)
    disk.fail_when = lambda _: None
    assert told(db) == {"removed": 2, "damaged": 5, "full: oldest dropped": 1}
    db = after_a_cut(disk, **options)
    assert told(db) == {"removed": 2, "damaged": 5, "full: oldest dropped": 1}


def test_ids_that_were_jumped_over_are_no_hole_before_anything_beyond_them_is_durable(disk):
    db = opened(disk)
    ids = fill(db, 5)
    db.close()
    disk.fail_when = lambda call: errno.EIO if call == "rename" else None
    db = opened(disk)  # no file can be made: ids go on far away
    disk.fail_when = lambda _: None
    db.maintain()
    assert db.log("readings").next_id > 1_000
    assert drain(db.consumer("late")) == ids
    later = fill(db, 3)
    assert drain(db.consumer("late")) == later
    disk.kill()
    assert told(opened(disk)) == {}
