"""Files of the readings that are gone when the buffer is opened: somebody removed them, or fsck did.

What they said of ids given out is gone with them; so what comes then must not look to a receiver, or to a
consumer, like what they had.
"""

import errno
import random
from contextlib import suppress
from itertools import count, product

import pytest

from buffer import BufferDB
from tests.rigs.faulty_disk import FaultyDisk, PowerCut

DOCUMENT = b'{"n":%d,"pad":"' + b"x" * 100 + b'"}'


@pytest.fixture
def disk():
    return FaultyDisk(random.Random(0))


def opened(disk, **options):
    return BufferDB(
        "/s", fs=disk, threaded=False, segment_bytes=4096, device_id="d", machine_id="m", **options
    )


def fill(db, n=60):
    for start in range(0, n, 10):
        db.insert_json([DOCUMENT % (start + at) for at in range(10)])
        db.flush()


def remove(disk, how_many=None):
    every = sorted(name for name in disk.files if name.startswith("/s/readings/"))
    gone = every if how_many is None else every[-how_many:]
    for name in gone:
        disk.unlink(name)
    return gone


def taken(consumer):
    found = []
    while (batch := consumer.take(50)) is not None:
        found += [(batch.store_id, record.seq) for record in batch.records]
        consumer.ack(batch)
    return found


def told(db):
    return [(e["first"], e["last"], e["count"], e["why"]) for _, e in db.ledger.items()]


@pytest.mark.parametrize("acked", [0, 20, 60])
def test_all_of_them(disk, acked):
    db = opened(disk)
    consumer = db.consumer("cloud")
    fill(db)
    while consumer.mark < acked:
        consumer.ack(consumer.take(10))
    before = db.store_id
    db.close()
    remove(disk)
    db = opened(disk)
    assert any("files of readings are missing" in note for note in db.notes)
    (new,) = db.insert_json([b"{}"])
    db.flush()
    assert taken(db.consumer("cloud")) == [(db.store_id, new)]
    assert new > 60
    assert db.store_id != before
    lost = [(acked + 1, 60, 60 - acked, "file missing")] if acked < 60 else []
    assert told(db) == [*lost, (61, new - 1, 0, "never issued")]
    after = db.store_id
    db.close()
    db = opened(disk)
    assert (db.store_id, len(db), len(told(db))) == (after, 1, len(lost) + 1)
    assert not db.notes


def test_the_last_ones(disk):
    db = opened(disk)
    consumer = db.consumer("cloud")
    fill(db)
    before = db.store_id
    db.close()
    remove(disk, 1)
    db = opened(disk)
    kept = len(db)
    assert 0 < kept < 60
    (new,) = db.insert_json([b"{}"])
    db.flush()
    consumer = db.consumer("cloud")
    assert taken(consumer) == [*((before, each) for each in range(1, kept + 1)), (db.store_id, new)]
    assert db.store_id != before
    assert told(db) == [(kept + 1, 60, 60 - kept, "file missing"), (61, new - 1, 0, "never issued")]


@pytest.mark.parametrize("kept", ["least", "most"])
@pytest.mark.parametrize("how_many", [1, None])
def test_a_cut_while_that_is_found_out_hides_it_from_nobody(disk, how_many, kept):
    db = opened(disk)
    db.consumer("cloud")
    fill(db)
    before = db.store_id
    db.close()
    remove(disk, how_many)
    disk.sync_directory("/s/readings")
    whole = disk
    for step in count(1):
        disk = whole.survivor(random.Random(step))
        disk.cut_at = step
        with suppress(PowerCut):
            opened(disk)
            break
        disk.power_cut(kept)
        db = opened(disk)
        assert db.store_id != before, f"cut at {step}"
        assert db.epochs[0].store_id == before
        assert [each for each in told(db) if each[3] == "file missing"] == [
            (len(db) + 1, 60, 60 - len(db), "file missing")
        ]
    assert step > 10


def test_after_a_crash_what_consumers_had_is_not_given_out_again(disk):
    db = opened(disk)
    consumer = db.consumer("cloud")
    fill(db)
    consumer.ack(consumer.take(20))
    db.maintain()
    before = db.store_id
    disk.kill()
    remove(disk)
    db = opened(disk)
    (new,) = db.insert_json([b"{}"])
    db.flush()
    assert new > 20
    assert taken(db.consumer("cloud")) == [(db.store_id, new)]
    assert db.store_id != before


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("segments", [1, 3])
def test_after_a_crash_the_one_that_was_written(disk, segments, earlier):
    """Nothing but the note that the buffer was open tells it from one that was closed."""
    if earlier:
        db = opened(disk)
        db.consumer("cloud")
        fill(db, 20)
        db.close()
    db = opened(disk)
    db.consumer("cloud")
    fill(db, 30 * segments)
    before, given = db.store_id, db.log("readings").next_id - 1
    disk.kill()
    gone = [name for name in disk.files if name.startswith("/s/readings/a.")]
    for name in gone:
        disk.unlink(name)
    db = opened(disk)
    kept = len(db)
    assert (kept > 0) == (segments > 1 or earlier)
    assert any("files of readings are missing" in note for note in db.notes)
    (new,) = db.insert_json([b"{}"])
    db.flush()
    assert db.store_id != before
    assert new > given
    assert taken(db.consumer("cloud")) == [
        *((before, each) for each in range(1, kept + 1)),
        (db.store_id, new),
    ]
    lost = {each for first, last, count, _ in told(db) if count for each in range(first, last + 1)}
    assert lost == {*range(kept + 1, new)}
    after = db.store_id
    db.close()
    db = opened(disk)
    assert (db.store_id, len(db), db.notes) == (after, kept + 1, [])


@pytest.mark.parametrize("kept", ["least", "most"])
def test_a_cut_while_it_is_closed_or_opened_takes_nothing_for_missing(disk, kept):
    db = opened(disk)
    db.consumer("cloud")
    fill(db, 30)
    before, whole = db.store_id, disk

    def cut_at(step):
        """Close, open, commit and close again, until the power goes."""
        disk = whole.survivor(random.Random(step), "most")
        db = opened(disk)
        disk.cut_at = disk.operations + step
        try:
            db.close()
            db = opened(disk)
            db.insert_json([b"{}"])
            db.flush()
            db.close()
        except PowerCut:
            disk.power_cut(kept)
            return disk
        return None

    for step in count(1):
        disk = cut_at(step)
        if disk is None:
            break
        db = opened(disk)
        assert (db.store_id, db.notes) == (before, [])
        assert not any(entry[2] for entry in told(db))
        assert len(db) >= 30
    assert step > 20


@pytest.mark.parametrize("noted", [False, True])
def test_a_file_left_active_that_does_not_open_is_told_as_a_loss(disk, noted):
    db = opened(disk)
    db.consumer("cloud")
    fill(db)
    if noted:
        db.close()
        db = opened(disk)
        fill(db, 10)
    disk.kill()
    (path,) = (name for name in disk.files if name.startswith("/s/readings/a."))
    first, last = int(path[-21:-5]), db.durable_id()
    harm = disk.open

    def refused(name, *, write=False):
        if name == path:
            raise OSError(errno.EUCLEAN, "injected", name)
        return harm(name, write=write)

    disk.open = refused
    db = opened(disk)
    (new,) = db.insert_json([b"{}"])
    db.flush()
    had = taken(db.consumer("cloud"))
    assert [seq for _, seq in had] == [*range(1, first), new]
    assert new > last
    (entry,) = (each for each in told(db) if each[1] == new - 1)
    assert entry == (first, new - 1, new - first, "file unreadable: at most")
    db.maintain()
    disk.kill()
    disk.open = harm
    db = opened(disk)
    assert taken(db.consumer("cloud")) == [], "what came too late was told as lost"
    assert entry in told(db)


def test_without_a_consumer_nothing_is_owed(disk):
    db = opened(disk)
    fill(db)
    before = db.store_id
    db.close()
    remove(disk)
    db = opened(disk)
    (new,) = db.insert_json([b"{}"])
    db.flush()
    assert new > 60
    assert db.store_id != before
    assert db.ledger.dropped == 0


def test_what_a_policy_dropped_at_the_end_is_no_missing_file(disk):
    options = {"quota_bytes": 8192, "full": "drop_newest"}
    db = opened(disk, **options)
    consumer = db.consumer("cloud")
    before = db.store_id
    fill(db, 100)
    assert db.ledger.lost()["full: newest dropped"]
    taken(consumer)
    db.maintain()
    disk.kill()
    db = opened(disk, **options)
    assert db.store_id == before
    assert not db.notes


@pytest.mark.parametrize("write", [lambda db: db._consumers.persist(), lambda db: db.delete(1)])
@pytest.mark.parametrize("made", ["before", "after"])
def test_ids_passed_over_while_the_disk_refused_are_no_missing_file(disk, made, write):
    db = opened(disk)
    if made == "before":
        db.consumer("cloud")
    fill(db)
    before = db.store_id
    disk.kill()
    disk.fail_when = lambda _: errno.EIO
    db = opened(disk)
    disk.fail_when = lambda _: None
    consumer = db.consumer("cloud")
    taken(consumer)
    assert consumer.mark > 60
    write(db)  # and it ends before anything else is written
    disk.kill()
    db = opened(disk)
    assert db.store_id == before
    assert not db.notes
    assert db.ledger.dropped == 0


def test_a_new_buffer_misses_nothing(disk):
    db = opened(disk)
    before = db.store_id
    disk.kill()
    db = opened(disk)
    db.close()
    db = opened(disk)
    assert db.store_id == before
    assert not db.notes


def test_when_the_small_tables_are_damaged_as_well_no_id_is_given_twice_under_one_store_id(disk):
    db = opened(disk)
    fill(db, 200)
    before, last = db.store_id, db.durable_id()
    disk.kill()
    (active,) = (name for name in disk.files if "/readings/a." in name)
    disk.unlink(active)
    (journal,) = (name for name in disk.files if "/.state/j." in name)
    for at in range(100, len(bytes(disk.files[journal].cache).rstrip(b" ")), 97):
        after = FaultyDisk(random.Random(1))
        for name, file in disk.files.items():
            after.put(name, bytes(file.cache)[:at] if name == journal else bytes(file.cache))
        db = opened(after)
        assert db.log("readings").next_id > last or db.store_id != before, f"cut at {at}"


@pytest.mark.parametrize("kept", ["least", "some", "most"])
def test_a_cut_at_any_step_of_closing_begins_no_new_store_id(kept):
    for seed, step in product(range(5), range(1, 25)):
        disk = FaultyDisk(random.Random(seed))
        db = opened(disk)
        consumer = db.consumer("cloud")
        fill(db)
        taken(consumer)
        before = db.store_id
        disk.cut_at = disk.operations + step
        with suppress(PowerCut):
            db.close()
        disk.power_cut(kept)
        assert opened(disk).store_id == before, (seed, step)
