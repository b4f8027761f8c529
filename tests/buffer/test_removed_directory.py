"""Somebody removes the buffer's directory, or a part of it, while it is open."""

import asyncio
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from buffer import BufferDB, BufferLocked, DiskFault, TinyDBBuffer

DOCUMENT = b'{"n":%d,"pad":"' + b"x" * 100 + b'"}'


def opened(path, **options):
    return BufferDB(path, threaded=False, segment_bytes=4096, device_id="d", **options)


def fill(db, n):
    ids = db.insert_json([DOCUMENT % at for at in range(n)])
    for _ in range(3):
        try:
            db.flush()
        except DiskFault:
            continue
        break
    return ids


@pytest.mark.parametrize("what", ["", "readings", "readings/a.*", ".state", ".lock"])
@pytest.mark.parametrize("idle", [True, False])
def test_nothing_is_durable_in_a_file_that_was_removed(tmp_path, what, idle):
    db = opened(tmp_path / "b")
    store_id = db.store_id
    consumer = db.consumer("cloud")
    for _ in range(10):
        fill(db, 10)
    consumer.ack(consumer.take(30))
    assert consumer.backlog == 70
    for victim in tmp_path.glob(f"b/{what}" if what else "b"):
        shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    if idle:
        db.maintain()
    ids = fill(db, 5)
    assert db.durable_id() == ids[-1]
    assert db.fault is None
    db.maintain()
    db.flush()
    kept = [document.doc_id for document in db]
    assert kept[-5:] == list(ids)
    lost = set(range(31, ids[0])) - set(kept)
    assert {entry["why"] for _, entry in db.ledger.items()} <= {"file missing"}
    assert db.ledger.dropped == len(lost)
    assert bool(lost) is (what not in {".state", ".lock"})
    assert consumer.backlog == len([each for each in kept if each > 30])
    with pytest.raises(BufferLocked):
        opened(tmp_path / "b")
    db.close()
    db = opened(tmp_path / "b")
    assert db.store_id == store_id
    assert [document.doc_id for document in db] == kept
    assert db.ledger.dropped == len(lost)
    assert db.consumer("cloud").take(1000).last == ids[-1]


def test_reading_from_a_removed_directory_ends(tmp_path):
    db = opened(tmp_path / "b")
    fill(db, 5)
    consumer = db.consumer("cloud")
    shutil.rmtree(tmp_path / "b")
    assert consumer.take(10) is None
    db.flush()
    assert db.ledger.dropped == 5


def test_a_place_that_cannot_be_made_again_is_a_fault_until_it_can(tmp_path):
    db = opened(tmp_path / "b")
    fill(db, 5)
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "b").write_text("in the way")
    (waiting,) = db.insert_json([b"{}"])
    for call in (db.flush, db.flush, db.maintain):
        with pytest.raises(DiskFault):
            call()
    assert db.durable_id() < waiting
    with pytest.raises(DiskFault):
        list(db.log("readings").recent(5))
    (tmp_path / "b").unlink()
    db.flush()
    db.maintain()
    assert db.fault is None
    assert db.durable_id() == waiting
    assert [document.doc_id for document in db] == [waiting]


async def test_a_running_buffer_recovers_by_itself(tmp_path):
    backend = TinyDBBuffer("buffer", tmp_path / "b")
    await backend.connect()
    await backend.wait_durable(backend.append([b"{}"] * 7)[-1])
    place = Path(tmp_path / "b")
    await asyncio.to_thread(shutil.rmtree, place)
    (after,) = backend.append([b'{"after":1}'])
    await backend.wait_durable(after)
    assert b'"after":1' in next(place.glob("readings/a.*")).read_bytes()
    await backend.flush()
    assert backend.database.ledger.dropped == 7
    assert backend.fault is None
    await backend.disconnect()


def test_several_threads_that_commit_enter_a_loss_once(tmp_path):
    db = opened(tmp_path / "b")
    for turn in range(20):
        fill(db, 5)
        db.log("readings").roll()
        fill(db, 2)
        shutil.rmtree(tmp_path / "b")
        db.insert_json([b"{}"])
        with ThreadPoolExecutor(4) as pool:
            errors = [each.exception() for each in [pool.submit(db.flush) for _ in range(4)]]
        db.flush()
        assert all(error is None or isinstance(error, DiskFault) for error in errors)
        assert db.ledger.dropped == (turn + 1) * 7 + turn
        db.flush()


def test_what_was_moved_or_unmounted_is_neither_lost_nor_begun_anew(tmp_path):
    db = opened(tmp_path / "b")
    consumer = db.consumer("cloud")
    for _ in range(10):
        ids = fill(db, 10)
    (tmp_path / "b").rename(tmp_path / "elsewhere")
    ids = db.insert_json([b"{}", b"{}"])
    db.flush()  # into the file that is open, wherever it is
    assert db.durable_id() == ids[-1]
    waiting = db.insert_json([DOCUMENT % at for at in range(40)])
    for work in (db.flush, db.maintain, lambda: consumer.take(200)):
        with pytest.raises(DiskFault, match="moved, or its disk unmounted"):
            work()
    assert not (tmp_path / "b").exists()
    assert db.durable_id() == ids[-1]
    (tmp_path / "elsewhere").rename(tmp_path / "b")
    db.flush()
    db.maintain()
    assert db.fault is None
    assert db.durable_id() == waiting[-1]
    assert db.ledger.dropped == 0
    assert len(consumer.take(200)) == 142
    db.close()
    with opened(tmp_path / "b") as again:
        assert len(again) == 142


def test_a_place_that_was_moved_stays_a_fault_until_it_is_back(tmp_path, monkeypatch):
    monkeypatch.setattr("buffer.committer._MAINTENANCE_S", 0.02)
    db = BufferDB(tmp_path / "b", window_s=0.01)
    db.insert_json([b"{}"])
    db.flush()
    (tmp_path / "b").rename(tmp_path / "elsewhere")
    while db.fault is None:
        time.sleep(0.01)
    (waiting,) = db.insert_json([b"{}"])
    for _ in range(3):
        with pytest.raises(DiskFault, match="moved, or its disk unmounted"):
            db.flush()
        assert db.fault is not None
    assert db.durable_id() < waiting
    (tmp_path / "elsewhere").rename(tmp_path / "b")
    db.wait_durable(waiting)
    while db.fault is not None:
        time.sleep(0.01)
    db.close()
