"""Taking, acknowledging, releasing: exactly the batch that is named."""

import json
import shutil
import threading
from dataclasses import replace

import pytest

from buffer import BufferDB, BufferLocked, UnknownBatch, UnknownRecord


def opened(path, **options):
    options = {"threaded": False, "segment_bytes": 4096, "device_id": "d", **options}
    return BufferDB(path, **options)


def fill(db, n, start=0):
    ids = db.insert_json([b'{"n":%d,"pad":"%s"}' % (start + at, b"x" * 40) for at in range(n)])
    db.flush()
    return ids


def drain(consumer, n=50):
    got = []
    while (batch := consumer.take(n)) is not None:
        got += [record.seq for record in batch.records]
        consumer.ack(batch)
    return got


def test_only_durable_records_are_given(tmp_path):
    with opened(tmp_path) as db:
        consumer = db.consumer("cloud")
        db.insert_json([b"{}"])
        assert consumer.take(10) is None
        assert not consumer.ready
        db.flush()
        assert len(consumer.take(10)) == 1


def test_batches_are_acknowledged_one_by_one_in_any_order(tmp_path):
    with opened(tmp_path) as db:
        fill(db, 100)
        consumer = db.consumer("cloud")
        one, two, three = (consumer.take(30) for _ in range(3))
        assert [(batch.first, batch.last, len(batch)) for batch in (one, two, three)] == [
            (1, 30, 30),
            (31, 60, 30),
            (61, 90, 30),
        ]
        consumer.ack(three)
        consumer.ack(one)
        consumer.ack(one)
        assert (consumer.mark, consumer.backlog, consumer.taken) == (30, 40, 1)
        consumer.release(two)
        consumer.release(two)
        again = consumer.take(100)
        assert (again.first, again.last) == (31, 60)
        consumer.ack(again)
        assert consumer.mark == 90
        assert drain(consumer) == list(range(91, 101))
        assert consumer.backlog == 0


def test_an_acknowledgement_of_something_else_is_refused(tmp_path):
    with opened(tmp_path) as db:
        fill(db, 10)
        consumer = db.consumer("cloud")
        batch = consumer.take(5)
        with pytest.raises(UnknownBatch):
            consumer.ack(replace(batch, store_id="0" * 32))
        with pytest.raises(UnknownBatch):
            consumer.ack(replace(batch, last=99))
        assert consumer.mark == 0


def test_a_batch_is_bounded_by_bytes_but_never_empty(tmp_path):
    with opened(tmp_path) as db:
        fill(db, 20)
        consumer = db.consumer("cloud")
        assert len(consumer.take(20, max_bytes=300)) == 4
        assert len(consumer.take(20, max_bytes=1)) == 1


def test_consumers_are_apart_and_survive(tmp_path):
    with opened(tmp_path) as db:
        fill(db, 60)
        assert len(drain(db.consumer("one"))) == 60
        batch = db.consumer("two").take(20)
        db.consumer("two").ack(batch)
    with opened(tmp_path) as db:
        assert db.consumer("one").backlog == 0
        assert db.consumer("two").backlog == 40
        assert drain(db.consumer("two")) == list(range(21, 61))
        assert db.consumers() == ["one", "two"]
        db.forget_consumer("two")
        assert db.consumers() == ["one"]


def copy_as_after_a_kill(db, target):
    """What is on disk now, as another process would find it."""
    shutil.copytree(db.path, target)
    return opened(target)


def test_the_mark_rides_in_the_next_trailer(tmp_path):
    with opened(tmp_path / "a") as db:
        consumer = db.consumer("cloud")
        fill(db, 30)
        consumer.ack(consumer.take(20))
        fill(db, 1)
        with copy_as_after_a_kill(db, tmp_path / "b") as killed:
            assert killed.consumer("cloud").mark == 20
            assert killed.consumer("cloud").backlog == 11


def test_a_new_consumer_gets_the_oldest_whatever_others_did(tmp_path):
    with opened(tmp_path / "a") as db:
        fill(db, 30)
        drain(db.consumer("old"))
        fill(db, 1)
        db.consumer("new")
        with copy_as_after_a_kill(db, tmp_path / "b") as killed:
            assert killed.consumer("old").mark == 30
            assert len(drain(killed.consumer("new"))) == 31


def test_a_kill_costs_ids_but_never_reuses_one(tmp_path):
    with opened(tmp_path / "a") as db:
        fill(db, 5)
        pending = db.insert_json([b"{}"] * 3)
        with copy_as_after_a_kill(db, tmp_path / "b") as killed:
            consumer = killed.consumer("cloud")
            assert drain(consumer) == [1, 2, 3, 4, 5]
            first = killed.insert({})
            assert first > pending[-1]
            killed.flush()
            assert drain(consumer) == [first]
            ((_, entry),) = killed.ledger.items()
            assert (entry["first"], entry["last"], entry["why"]) == (6, first - 1, "never issued")


def test_a_moved_card_gets_a_new_identity_and_keeps_the_old_one_for_its_records(tmp_path):
    with opened(tmp_path, machine_id="a") as db:
        fill(db, 10)
        old = db.store_id
    with opened(tmp_path, machine_id="b") as db:
        assert db.store_id != old
        fill(db, 10)
        consumer = db.consumer("cloud")
        first, second = consumer.take(100), consumer.take(100)
        assert (first.store_id, first.first, first.last) == (old, 1, 10)
        assert (second.store_id, second.first, second.last) == (db.store_id, 11, 20)
        new = db.store_id
    with opened(tmp_path, machine_id="b") as db:
        assert db.store_id == new
        assert [epoch.first_seq for epoch in db.epochs] == [1, 11]


def test_deleted_and_removed_records_are_not_given(tmp_path):
    with opened(tmp_path) as db:
        fill(db, 20)
        db.delete(3)
        with pytest.raises(UnknownRecord):
            db.delete(3)
        db.remove(doc_ids=[5, 6])
        consumer = db.consumer("cloud")
        assert consumer.backlog == 17
        assert drain(consumer) == [each for each in range(1, 21) if each not in {3, 5, 6}]
        assert consumer.backlog == 0
    with opened(tmp_path) as db:
        assert len(db) == 17


def test_many_deletions_are_purged(tmp_path, monkeypatch):
    monkeypatch.setattr("buffer.changing._TOMBSTONES_MAX", 50)
    with opened(tmp_path, segment_bytes=1 << 20) as db:
        fill(db, 120)
        for record_id in range(1, 120, 2):
            db.delete(record_id)
        assert len(db.log("readings").deleted) < 50
        assert len(db) == 60
    with opened(tmp_path) as db:
        assert len(db) == 60


def test_a_second_process_is_told(tmp_path):
    with opened(tmp_path), pytest.raises(BufferLocked, match="another process"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_recent_and_threads_window(tmp_path):
    with BufferDB(tmp_path, segment_bytes=4096, window_s=0.01) as db:
        last = db.insert_json([b'{"n":%d}' % at for at in range(500)])[-1]
        db.wait_durable(last)
        assert [seq for seq, _ in db.log("readings").recent(3)] == [last - 2, last - 1, last]
        assert len(db.log("readings").recent(10_000)) == 500
        more = db.insert({"n": 1})
        db.wait_durable(more)
        assert db.durable_id() == more


def test_a_record_deleted_while_its_batch_is_out_does_not_count_twice(tmp_path):
    with opened(tmp_path) as db:
        consumer = db.consumer("cloud")
        first, _ = fill(db, 2)
        batch = consumer.take(1)
        db.delete(first)
        assert consumer.backlog == 1
        consumer.ack(batch)
        assert consumer.backlog == 1


def test_a_batch_gives_its_records_as_they_are_stored_without_parsing_them(tmp_path):
    with opened(tmp_path) as db:
        for start in range(0, 3000, 500):  # several reads of the file, and frames between the records
            db.insert_json([b'{"n":%d,"pad":"%s"}' % (start + at, b"x" * 200) for at in range(500)])
            db.flush()
        db.delete(7)
        consumer = db.consumer("cloud")
        batch = consumer.take(2000)
        assert (batch.first, batch.last, len(batch)) == (1, 2001, 2000)
        encoded = batch.encoded
        assert not {*b"\t\r\n "} & {*encoded}
        told = json.loads(encoded)
        assert {int(key): document for key, document in told.items()} == {
            record.seq: record.document for record in batch.records
        }
        assert "7" not in told
        assert "1" in told
        consumer.ack(batch)
        assert consumer.take(2000).first == 2002


@pytest.mark.parametrize("sealed", [True, False])
def test_what_is_no_json_in_a_batch_is_left_out_and_told_once(tmp_path, sealed):
    with opened(tmp_path) as db:
        db.insert_json([b'{"n":1}', b"{wrong}", b"[3]", b'{"n":4}'], vouched=True)
        db.flush()
        if sealed:
            db.log("readings").roll()
        first, second = db.consumer("cloud").take(10), db.consumer("archive").take(10)
        for batch in (first, second, first):
            assert [record.seq for record in batch.records] == [1, 4]
        db.flush()
        assert sorted((row["first"], row["count"]) for _, row in db.ledger.items() if row["count"]) in (
            [(2, 1), (3, 1)],
            [(2, 2)],
        )
        db.consumer("cloud").ack(first)
        assert db.consumer("cloud").backlog == 0
        assert [document["n"] for document in db.table("readings")] == [1, 4]


def test_a_part_of_the_records_is_taken_by_its_ids(tmp_path):
    with opened(tmp_path) as db:
        fill(db, 100)
        consumer = db.consumer("cloud")
        live = consumer.take(30, after=60)
        assert (live.first, live.last, consumer.newest_id) == (61, 90, 100)
        rest = consumer.take(30, after=60)
        assert (rest.first, rest.last) == (91, 100)
        assert consumer.take(30, after=60) is None
        assert consumer.take(30, lane="normal", after=100) is None
        old = consumer.take(1000, upto=50)
        assert (old.first, old.last) == (1, 50)
        assert not consumer.ready_in(upto=50)
        assert consumer.ready_in(after=50)
        for batch in (live, old):
            consumer.ack(batch)
        assert (consumer.mark, consumer.backlog) == (50, 20)
        between = consumer.take(1000, newest=True, after=55)
        assert (between.first, between.last) == (56, 60)
        consumer.release(between)
        assert drain(consumer) == list(range(51, 61))
        fill(db, 5)
        assert [record.seq for record in consumer.take(100, after=98).records] == list(range(101, 106))


def test_one_that_is_forgotten_while_its_state_is_written_stays_forgotten(tmp_path, monkeypatch):
    with opened(tmp_path) as db:
        consumer = db.consumer("cloud")
        fill(db, 10)
        consumer.ack(consumer.take(5))
        forgetting = threading.Thread(target=db.forget_consumer, args=("cloud",))
        put = db.journal.put

        def slowly(changes):
            if any(key == "cloud" and value for _, key, value in changes) and not forgetting.ident:
                forgetting.start()
                forgetting.join(0.2)  # as long as it is kept out
            put(changes)

        monkeypatch.setattr(db.journal, "put", slowly)
        db.maintain()
        forgetting.join(10)
        assert not forgetting.is_alive()
        assert db.consumers() == []
    with opened(tmp_path) as db:
        assert db.consumers() == []


def test_deleting_in_two_tables_at_once_ends(tmp_path, monkeypatch):
    with opened(tmp_path) as db:
        tables = ["one", "two"]
        for table in tables:
            db.insert_json([b"{}"], table=table)
        both, flush = threading.Barrier(2), db.flush

        def together():
            both.wait(10)
            flush()

        monkeypatch.setattr(db, "flush", together)
        threads = [
            threading.Thread(target=db.delete, args=(1,), kwargs={"table": t}, daemon=True) for t in tables
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)
        assert [len(db.table(table)) for table in tables] == [0, 0]


@pytest.mark.parametrize("second_copy", [True, False])
def test_a_damaged_journal_leaves_nobodys_records_without_an_identity(tmp_path, second_copy):
    for machine in ("a", "b"):
        with opened(tmp_path / "b", machine_id=machine) as db:
            fill(db, 2)
            epochs = [(each.first_seq, each.store_id) for each in db.epochs]
    assert [first for first, _ in epochs] == [1, 3]
    state = tmp_path / "b" / ".state"
    if not second_copy:
        next(state.glob("identity.*")).unlink()
    (journal,) = state.glob("j.*")
    content = journal.read_bytes()
    for _, store_id in epochs:
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        shutil.copytree(tmp_path / "b", tmp_path / "c")
        damaged = bytearray(content)
        damaged[content.index(store_id.encode())] ^= 1
        (tmp_path / "c" / ".state" / journal.name).write_bytes(damaged)
        with opened(tmp_path / "c", machine_id="b") as db:
            consumer, found = db.consumer("cloud"), []
            while (batch := consumer.take(10)) is not None:
                found += [(record.seq, batch.store_id) for record in batch.records]
                consumer.ack(batch)
            assert [seq for seq, _ in found] == [1, 2, 3, 4]
            if second_copy:
                assert [of for _, of in found] == [epochs[0][1]] * 2 + [epochs[1][1]] * 2
