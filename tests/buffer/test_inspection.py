"""Looking at a buffer that a process is writing: nothing is missed, nothing seen twice, nothing disturbed."""

import os
import random
import threading

import pytest

from buffer import BufferDB
from buffer.inspection import Inspection, lock_holder
from buffer.overlay import Overlay
from buffer.verification import verify
from tests.rigs.faulty_disk import FaultyDisk, File


def documents(n, start=0):
    return [b'{"source":"s","t":%d,"pad":"%s"}' % (start + at, b"x" * 50) for at in range(n)]


def inspected(disk, **options):
    return Inspection("/s", fs=disk, pause=lambda: None, **options)


def seen(inspection):
    return [record_id for record_id, _ in inspection.readings.stream()]


def test_a_buffer_that_is_written_at_full_speed_is_seen_whole(tmp_path):
    stop = threading.Event()
    db = BufferDB(tmp_path, window_s=0.001, segment_bytes=1 << 14)
    consumer = db.consumer("cloud")

    def write():
        while not stop.is_set():
            db.wait_durable(db.insert_json(documents(20))[-1])

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(25):
            durable = db.durable_id()
            inspection = Inspection(tmp_path)
            assert inspection.in_use
            found = seen(inspection)
            assert found == list(range(1, len(found) + 1))
            assert len(found) >= durable
            assert verify(inspection).sound
            assert inspection.readings.losses == []
            assert inspection.backlog(inspection.consumers[0]) == len(found)
    finally:
        stop.set()
        writing.join()
    assert db.fault is None
    assert consumer.backlog == len(db)
    db.close()
    assert not Inspection(tmp_path).in_use
    assert seen(Inspection(tmp_path)) == list(range(1, db._logs.of("readings").durable_id + 1))


@pytest.fixture
def disk():
    return FaultyDisk(random.Random(0))


@pytest.fixture
def db(disk):
    opened = BufferDB("/s", fs=disk, threaded=False, segment_bytes=4096)
    opened.consumer("cloud")
    for at in range(30):
        opened.insert_json(documents(4, at * 4))
        opened.flush()
    return opened


def test_what_is_sealed_changed_or_dropped_meanwhile_is_looked_for(disk, db):
    inspection = inspected(disk, in_use=True)
    stream = inspection.readings.stream()
    assert [next(stream)[0] for _ in range(3)] == [1, 2, 3]
    db.update({"new": True}, doc_ids=[60, 70])
    db.log("readings").drop(db.log("readings").segments[1])
    rest = list(stream)
    assert [record_id for record_id, _ in rest][-1] == 120
    dropped = set(range(1, 121)) - {record_id for record_id, _ in rest} - {1, 2, 3}
    assert len(dropped) in range(20, 50)
    assert inspection.readings.losses == []
    assert verify(inspection).sound
    db.log("readings").roll()
    assert verify(inspection).sound


def test_a_commit_that_is_being_written_is_not_seen_and_not_damage(disk, db):
    (active,) = (name for name in disk.files if "/readings/a." in name)
    whole = bytes(disk.files[active].cache)
    last = len(whole.rstrip(b" ")) - 3
    for cut in (last - 1, last - 60, last - 97, last - 150):
        disk.files[active].cache[cut:last] = b" " * (last - cut)
        inspection = inspected(disk, in_use=True)
        assert seen(inspection) == list(range(1, 117))
        assert verify(inspection).sound
        assert not verify(inspected(disk, in_use=False)).sound
        disk.files[active].cache[:] = whole


def test_a_commit_that_is_completed_while_one_looks_is_seen(disk, db):
    (active,) = (name for name in disk.files if "/readings/a." in name)
    whole = bytes(disk.files[active].cache)
    pauses = []

    def complete():
        pauses.append(1)
        if len(pauses) == 3:
            disk.files[active].cache[:] = whole

    disk.files[active].cache[len(whole.rstrip(b" ")) - 40 :] = b" " * 40
    assert seen(Inspection("/s", fs=disk, in_use=True, pause=complete)) == list(range(1, 121))


def test_a_change_of_a_small_table_that_is_being_written_is_waited_for(disk, db):
    (journal,) = (name for name in disk.files if "/.state/j." in name)
    whole = bytes(disk.files[journal].cache)
    pauses = []

    def complete():
        pauses.append(1)
        disk.files[journal].cache[:] = whole

    end = len(whole.rstrip(b" "))
    disk.files[journal].cache[end - 30 : end] = b" " * 30
    inspection = Inspection("/s", fs=disk, in_use=True, pause=complete)
    assert pauses == [1]
    assert not inspection.journal.damaged
    assert [consumer.name for consumer in inspection.consumers] == ["cloud"]


def test_nothing_below_an_overlay_is_changed(disk, db):
    before = {name: bytes(file.cache) for name, file in disk.files.items()}
    names = set(disk.files)
    over = Overlay(disk)
    path = next(iter(names))
    for forbidden in (
        lambda: over.open(path, write=True),
        lambda: over.rename(path, "/s/other"),
        lambda: over.unlink(path),
        lambda: over.lock("/s/.lock"),
        lambda: over.write(over.open(path), b"x", 0),
        lambda: over.truncate(over.open(path), 0),
    ):
        with pytest.raises(OSError, match="Read-only"):
            forbidden()
    handle = over.create("/s/readings/new")
    over.write_durably(handle, [b"ab", b"cd"], 0, grows=True)
    over.write(handle, b"X", 1)
    over.truncate(handle, 3)
    assert (over.read(handle, 9, 1), over.size(handle)) == (b"Xc", 3)
    with pytest.raises(FileExistsError):
        over.create("/s/readings/new")
    over.sync(handle)
    over.close(handle)
    assert "new" in over.list_directory("/s/readings")
    over.rename("/s/readings/new", "/s/readings/newer")
    assert over.read(over.open("/s/readings/newer"), 9, 0) == b"aXc"
    for at in range(9):
        over.close(over.create(f"/s/readings/{at}"))
    assert "newer" not in over.list_directory("/s/readings")
    over.unlink("/s/readings/8")
    with pytest.raises(FileNotFoundError):
        Overlay(SystemLike()).list_directory("/nowhere")
    assert {name: bytes(file.cache) for name, file in disk.files.items()} == before


class SystemLike:
    def list_directory(self, path):
        raise FileNotFoundError(path)


def test_looking_writes_nothing_and_takes_no_lock(tmp_path):
    with BufferDB(tmp_path, threaded=False) as db:
        db.insert_json(documents(10))
        db.flush()

    def state():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else sorted(path.iterdir()))
            for path in [tmp_path, *tmp_path.rglob("*")]
        }

    before = state()
    inspection = Inspection(tmp_path)
    assert len(seen(inspection)) == 10
    assert verify(inspection).sound
    assert inspection.table("nothing such").segments == []
    assert state() == before


def test_the_quarantine_is_listed_and_what_others_put_there_left_alone(disk, db):
    db.close()
    for name in ("3.readings.b.json", "12.state.j.json", "notes", ".hidden", "0x.y"):
        disk.files[f"/s/.quarantine/{name}"] = File(bytearray(b"12345"))
    inspection = inspected(disk)
    assert [(file.name, file.size_bytes) for file in inspection.quarantine()] == [
        ("3.readings.b.json", 5),
        ("12.state.j.json", 5),
    ]
    (first, *_) = (name for name in sorted(disk.files) if "/readings/s." in name)
    disk.files[first].cache.clear()
    db = BufferDB("/s", fs=disk, threaded=False, quarantine_files_max=2)
    assert len(db) == 120 - 36 or len(list(db)) < 120
    names = {name.rsplit("/", 1)[1] for name in disk.files if "/.quarantine/" in name}
    assert names == {f"13.readings.{first.rsplit('/', 1)[1]}", "12.state.j.json", "notes", ".hidden", "0x.y"}


def test_who_holds_the_lock(tmp_path):
    assert lock_holder(tmp_path) is None
    with BufferDB(tmp_path) as db:
        assert lock_holder(db.path) == os.getpid()
        assert lock_holder(db.path, tmp_path / "no such file") is None
    assert lock_holder(tmp_path) is None
