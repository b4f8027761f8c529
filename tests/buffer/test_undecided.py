"""Changes of which nobody can say yet whether they happen: all of it does, or nothing, and the ledger with it.

A decision whose writing failed may be on the disk all the same; one that was written may wait for the
disk before it is carried out.
"""

import errno
import random
from contextlib import suppress

import pytest

from buffer import BufferDB, DiskFault
from buffer.inspection import Inspection
from buffer.layout import scan
from tests.rigs.crash_points import DiskClock
from tests.rigs.faulty_disk import FaultyDisk, PowerCut

RECORD = b'{"n":%d,"pad":"' + b"x" * 100 + b'"}'
ALARM = b'{"n":%d,"pad":"' + b"x" * 100 + b'","lane":"alarm"}'


@pytest.fixture
def disk():
    return FaultyDisk(random.Random(0))


def opened(disk, **options):
    return BufferDB("/s", fs=disk, threaded=False, segment_bytes=4096, device_id="d", **options)


def fill(db, n, every=0):
    ids = list(db.insert_json([(ALARM if every and not at % every else RECORD) % at for at in range(n)]))
    db.flush()
    return ids


def fail_decisions(disk, db):
    """The disk takes what is written to the small tables, and then says that it did not."""
    journal, calls = f"{db.path}/.state/", []
    sync = disk.sync

    def refusing(handle):
        sync(handle)
        if disk._paths[handle].startswith(journal):
            calls.append(handle)
            raise OSError(errno.EIO, "injected")

    disk.sync = refusing

    def end():
        disk.sync = sync
        return len(calls)

    return end


def told(db):
    return {why: count for why, count in db.ledger.lost().items() if count}


def present(db):
    return [document.doc_id for document in db]


def test_a_removal_in_doubt_and_its_entry_stand_or_fall_together(disk):
    db = opened(disk)
    db.consumer("cloud")
    ids = fill(db, 20)
    end = fail_decisions(disk, db)
    with pytest.raises(DiskFault):
        db.table("readings").remove(doc_ids=ids[5:10])
    assert end() == 1
    assert present(db) == ids
    assert told(db) == {}
    disk.kill()
    db = opened(disk)
    assert (present(db), told(db)) == (ids[:5] + ids[10:], {"removed": 5})


def test_what_was_in_doubt_never_happens_once_anything_else_was_decided(disk):
    db = opened(disk)
    db.consumer("cloud")
    ids = fill(db, 20)
    end = fail_decisions(disk, db)
    for _ in range(3):
        with pytest.raises(DiskFault):
            db.table("readings").remove(doc_ids=ids[5:10])
    end()
    assert len([name for name in disk.files if "/readings/t." in name]) == 1, "no more with each attempt"
    db.table("readings").remove(doc_ids=ids[:1])
    assert not [name for name in disk.files if "/readings/t." in name]
    disk.kill()
    db = opened(disk)
    assert (present(db), told(db)) == (ids[1:], {"removed": 1})


def test_what_was_in_doubt_never_happens_after_an_orderly_end(disk):
    db = opened(disk)
    db.consumer("cloud")
    ids = fill(db, 20)
    end = fail_decisions(disk, db)
    with pytest.raises(DiskFault):
        db.table("readings").remove(doc_ids=ids[5:10])
    end()
    db.close()
    db = opened(disk)
    assert (present(db), told(db)) == (ids, {})


@pytest.mark.parametrize("end", ["kill", "cut"])
@pytest.mark.parametrize("how", ["making room", "a removal"])
def test_what_is_given_up_on_a_full_disk_takes_its_entry_with_it(disk, how, end):
    options = {"quota_bytes": 16_384, "full": {"normal": "drop_oldest", "alarm": "block"}}
    db = opened(disk, **options)
    db.consumer("cloud")
    ids = fill(db, 80, every=5)
    db.log("readings").roll()
    before, had = told(db), present(db)
    write, journal = disk.write, f"{db.path}/.state/"

    def full(handle, data, offset):
        write(handle, data, offset)
        if disk._paths[handle].startswith(journal):
            disk.fail_when = lambda call: errno.ENOSPC if call == "create" else None
            raise OSError(errno.ENOSPC, "injected")

    disk.write = full
    if how == "making room":
        db.change(quota_bytes=8_192, full=options["full"])
        db.insert_json([RECORD % 1])
    with pytest.raises(DiskFault):
        db.flush() if how == "making room" else db.table("readings").remove(doc_ids=ids[5:10])
    disk.write = write
    disk.kill() if end == "kill" else disk.power_cut("most")
    disk.fail_when = lambda _: None
    for _ in range(2):
        seen = Inspection("/s", fs=disk, in_use=False)
        assert seen.told == sum(before.values())
        db = opened(disk)
        assert (present(db), told(db)) == (had, before)
        disk.kill()


def test_new_readings_whose_dropping_is_in_doubt_are_not_both_stored_and_told_as_lost(disk):
    options = {"quota_bytes": 16_384, "full": "drop_newest"}
    db = opened(disk, **options)
    db.consumer("cloud")
    ids = []
    while not db.ledger.dropped:
        ids += fill(db, 10)
    before = told(db)
    end = fail_decisions(disk, db)
    fresh = list(db.insert_json([RECORD % 1] * 10))
    with pytest.raises(DiskFault):
        db.flush()
    end()
    db.change(quota_bytes=1 << 20)
    db.flush()
    stored = set(present(db))
    disk.kill()
    db = opened(disk, **options)
    assert set(present(db)) == stored >= set(fresh)
    assert told(db) == before


@pytest.mark.parametrize("step", [None, *range(1, 16)])
@pytest.mark.parametrize("refuses", [False, True], ids=["it recovers", "it does not"])
@pytest.mark.parametrize("how", ["an orderly end", "an update"])
def test_what_waits_while_its_dropping_is_in_doubt_is_not_stored_before_that_is_settled(
    disk, how, refuses, step
):
    options = {"quota_bytes": 16_384, "full": "drop_newest"}
    db = opened(disk, **options)
    db.consumer("cloud")
    ids = []
    while not db.ledger.dropped:
        ids += fill(db, 10)
    before = db.ledger.dropped
    end = fail_decisions(disk, db)
    fresh = set(db.insert_json([RECORD % 1] * 10))
    with pytest.raises(DiskFault):
        db.flush()
    if not refuses:
        end()
    disk.cut_at = step and disk.operations + step
    with suppress(PowerCut, DiskFault):
        if how == "an orderly end":
            db.close()
        else:
            db.table("readings").update({"e": 1})
    end()
    disk.kill() if step is None else disk.power_cut("least")
    db = opened(disk, **options)
    stored = fresh & set(present(db))
    assert stored in (set(), fresh)
    assert db.ledger.dropped in ({before} if stored else {before, before + 10})
    if not refuses and step is None:
        assert stored


@pytest.mark.parametrize("before", [0, 3], ids=["first in its file", "behind others"])
@pytest.mark.parametrize(
    "policy", ["drop_newest", {"alarm": "drop_newest", "normal": "block"}], ids=["all", "alarms"]
)
@pytest.mark.parametrize("end", ["kill", "cut"])
def test_what_was_dropped_does_not_come_back_from_a_write_that_had_failed(disk, before, policy, end):
    db = opened(disk, full=policy, reserve_bytes=1 << 20)
    db.consumer("cloud")
    stored = fill(db, before)
    write = disk.write

    def refusing(handle, data, offset):
        write(handle, data, offset)
        if "/readings/" in disk._paths[handle]:
            raise OSError(errno.EIO, "injected")

    disk.write = refusing
    ids = list(db.insert_json([ALARM % 1, RECORD % 2, ALARM % 3]))
    with pytest.raises(DiskFault):
        db.flush()
    disk.write = write
    disk.free = 0
    with suppress(DiskFault):  # where one kind is not dropped, it waits
        db.flush()
    dropped = ids if policy == "drop_newest" else [ids[0], ids[2]]
    assert told(db) == {"full: newest dropped": len(dropped)}
    disk.kill() if end == "kill" else disk.power_cut("most")
    db = opened(disk)
    assert set(stored) <= set(present(db)) <= {*stored, *ids} - {*dropped}
    assert told(db) == {"full: newest dropped": len(dropped)}


@pytest.mark.parametrize("reopened", [False, True])
def test_a_failed_file_that_could_not_be_moved_away_does_not_come_back_when_its_successor_goes(
    disk, reopened
):
    db = opened(disk, keep_delivered_s=0)
    consumer = db.consumer("cloud")
    fill(db, 3)
    write, rename = disk.write, disk.rename

    def refusing(handle, data, offset):
        write(handle, data, offset)
        if "/readings/" in disk._paths[handle]:
            raise OSError(errno.EIO, "injected")

    def staying(source, target):
        if "/.quarantine/" in target:
            raise OSError(errno.EIO, "injected")
        rename(source, target)

    disk.write = refusing
    db.insert_json([RECORD % 1])
    with pytest.raises(DiskFault):
        db.flush()
    disk.write, disk.rename = write, staying
    with pytest.raises(DiskFault):
        db.maintain()
    db.flush()
    if reopened:
        disk.kill()
        db = opened(disk, keep_delivered_s=0)
        consumer = db.consumer("cloud")
    disk.rename = rename
    db.log("readings").roll()
    (last,) = fill(db, 1)
    while (batch := consumer.take(100)) is not None:
        consumer.ack(batch)
    db.maintain()
    assert present(db) == [last]
    disk.kill()
    assert present(opened(disk)) == [last]


@pytest.mark.parametrize("limit", [{"keep_delivered_s": 0}, {"max_age_s": 0.5}], ids=["delivered", "too old"])
@pytest.mark.parametrize("recovers", [True, False])
def test_what_went_is_hidden_until_the_disk_says_that_it_does_not_come_back(disk, limit, recovers):
    options = {**limit, "clock": DiskClock(disk)}
    db = opened(disk, **options)
    consumer = db.consumer("cloud")
    ids = fill(db, 10)
    db.log("readings").roll()
    ids += fill(db, 10)
    if "keep_delivered_s" in limit:
        consumer.ack(consumer.take(10))
    disk.now_s += 10
    sync_directory = disk.sync_directory

    def refusing(path):
        if path.endswith("/readings"):
            raise OSError(errno.EIO, "injected")
        sync_directory(path)

    disk.sync_directory = refusing
    with pytest.raises(DiskFault, match="may come back"):
        db.maintain()
    assert not set(ids[:10]) & set(present(db))
    if recovers:
        disk.sync_directory = sync_directory
        db.consumer("other")
    else:
        with pytest.raises(DiskFault):
            db.consumer("other")
    db.insert_json([RECORD % 1])
    db.flush()
    disk.power_cut("least")
    disk.sync_directory = sync_directory
    db = opened(disk, **options)
    lost = {each for _, e in db.ledger.items() if e["count"] for each in range(e["first"], e["last"] + 1)}
    assert not lost & set(present(db))
    assert lost == (set() if "keep_delivered_s" in limit else set(ids[:10]))


def test_a_new_file_that_failed_and_comes_back_says_nothing_of_who_came_since(disk):
    db = opened(disk)
    consumer = db.consumer("one")
    ids = fill(db, 20)
    consumer.ack(consumer.take(20))
    sync_directory, before = disk.sync_directory, set(disk.files)

    def refusing(path):
        raise OSError(errno.EIO, "injected")

    disk.sync_directory = refusing
    with pytest.raises(DiskFault):
        db.log("readings").roll()
    disk.sync_directory = sync_directory
    assert {name for name in disk.files if "/readings/" in name} <= before, "it was taken back"
    db.consumer("two")
    came_back = 0
    for seed in range(20):
        after = disk.survivor(random.Random(seed))
        came_back += any("/readings/a." in name and name not in before for name in after.files)
        found = opened(after).consumer("two").take(100)
        assert [record.seq for record in found.records] == ids
    assert came_back


def test_a_file_written_anew_meanwhile_leaves_no_half_of_a_change_in_doubt(disk):
    db = opened(disk)
    db.consumer("cloud")
    ids = fill(db, 10)
    db.log("readings").roll()
    ids += fill(db, 10)
    end = fail_decisions(disk, db)
    with pytest.raises(DiskFault):
        db.table("readings").update({"e": 1})
    end()
    (first, *_) = db.log("readings").segments
    db.log("readings").rewrite(first)
    disk.kill()
    db = opened(disk)
    assert present(db) == ids
    assert len({document.get("e") for document in db}) == 1
    assert told(db) == {}


def test_a_file_written_anew_before_a_change_was_carried_out_has_the_change(disk):
    db = opened(disk)
    ids = fill(db, 10)
    db.log("readings").roll()
    ids += fill(db, 10)
    disk.fail_look_when = lambda call: errno.EIO if call == "list_directory" else None
    with pytest.raises(DiskFault):
        db.table("readings").update({"e": 1})
    disk.fail_look_when = lambda _: None
    (first, *_) = db.log("readings").segments
    db.log("readings").rewrite(first)
    assert [document["e"] for document in db] == [1] * 20
    disk.kill()
    db = opened(disk)
    assert [document["e"] for document in db] == [1] * 20
    assert present(db) == ids


@pytest.mark.parametrize("end", ["another change", "a delivered file goes"])
def test_a_full_disk_gets_back_the_room_of_a_change_in_doubt(disk, end):
    db = opened(disk, keep_delivered_s=0)
    consumer = db.consumer("cloud")
    ids = fill(db, 10)
    db.log("readings").roll()
    ids += fill(db, 10)
    write, create = disk.write, disk.create

    def require_room(path):
        if "/.state/" in path and any("/readings/t." in name for name in disk.files):
            raise OSError(errno.ENOSPC, "injected")

    def writing(handle, data, offset):
        require_room(disk._paths[handle])
        write(handle, data, offset)

    def creating(path):
        require_room(path)
        return create(path)

    disk.write, disk.create = writing, creating
    for _ in range(2):
        with pytest.raises(DiskFault):
            db.table("readings").update({"e": 1})
    if end == "another change":
        db.delete(ids[0])
    else:
        consumer.ack(consumer.take(10))
        db.maintain()
        assert db.log("readings").lowest_id == ids[10]
    assert not any("/readings/t." in name for name in disk.files)
    disk.kill()
    db = opened(disk)
    assert not any("e" in document for document in db)


@pytest.mark.parametrize("step", range(1, 16))
def test_a_decision_that_is_not_on_the_disk_is_written_before_it_is_carried_out(disk, step):
    """It is read after a kill: the kernel still has what its disk had refused."""
    db = opened(disk)
    db.consumer("cloud")
    ids = fill(db, 20)
    sync = disk.sync

    def refusing(handle):
        file = disk._handles[handle]
        if disk._paths[handle].startswith(f"{db.path}/.state/"):
            file.failed |= file.dirty
            file.dirty.clear()
            file.size_dirty = False
            raise OSError(errno.EIO, "injected")
        sync(handle)

    disk.sync = refusing
    with pytest.raises(DiskFault):
        db.table("readings").remove(doc_ids=ids[5:10])
    disk.sync = sync
    disk.kill()
    disk.cut_at = disk.operations + step
    with suppress(PowerCut):
        opened(disk)
    disk.power_cut("least")
    db = opened(disk)
    assert (present(db), told(db)) in [(ids, {}), (ids[:5] + ids[10:], {"removed": 5})]


def test_a_consumer_whose_making_is_in_doubt_is_owed_everything(disk):
    db = opened(disk)
    first = db.consumer("first")
    fill(db, 20)
    end = fail_decisions(disk, db)
    with pytest.raises(DiskFault):
        db.consumer("second")
    assert end()
    first.ack(first.take(20))
    fill(db, 5)  # its trailer says what all have acknowledged
    disk.kill()
    db = opened(disk)
    assert set(db.consumers()) == {"first", "second"}, "it was on the disk all the same"
    assert db.consumer("second").backlog == 25


def test_a_consumer_made_before_a_removal_is_carried_out_misses_nothing_of_it(disk):
    db = opened(disk)
    first = db.consumer("first")
    fill(db, 20)
    first.ack(first.take(20))
    db.log("readings").roll()
    rename = disk.rename

    def refusing(source, target):
        if "/readings/t." in source and "/readings/s." in target:
            raise OSError(errno.EIO, "injected")
        rename(source, target)

    disk.rename = refusing
    with pytest.raises(DiskFault):
        db.table("readings").truncate()
    disk.rename = rename
    db.consumer("second")
    fill(db, 1)
    db.table("readings").update({"e": 1})  # carries out what was left undone
    disk.kill()
    db = opened(disk)
    assert told(db) == {}


def test_a_damaged_journal_gives_up_nothing_that_was_carried_out(disk):
    db = opened(disk)
    db.consumer("cloud")
    ids = fill(db, 40)
    db.table("readings").remove(doc_ids=ids[::2])
    db.table("readings").remove(doc_ids=ids[1::2])
    disk.kill()
    (journal,) = (name for name in disk.files if "/.state/j." in name)
    frame = [each for each in scan(bytes(disk.files[journal].cache)) if each.intact][-1]
    disk.files[journal].cache[(frame.start + frame.end) // 2 - 15] ^= (
        1  # it says that the last removal was carried out
    )
    db = opened(disk)
    assert (present(db), told(db)) == ([], {"removed": 40})


def test_who_only_looks_gives_up_nothing_that_a_running_process_carries_out(disk):
    db = opened(disk)
    db.consumer("cloud")
    ids = fill(db, 20)
    end = fail_decisions(disk, db)
    with pytest.raises(DiskFault):
        db.table("readings").remove(doc_ids=ids[5:10])
    end()
    for name in [name for name in disk.files if "/readings/t." in name]:
        disk.unlink(name)
    assert Inspection("/s", fs=disk, in_use=False, pause=lambda: None).told == 0
    assert Inspection("/s", fs=disk, in_use=True, pause=lambda: None).told == 5
