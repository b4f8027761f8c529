"""What the buffer promises beyond TinyDB's own documentation, which `test_tinydb_api` asks of both."""

import json
import random
from pathlib import Path

import pytest
from tinydb import TinyDB, where

from buffer import BufferDB
from tests.rigs.faulty_disk import FaultyDisk


@pytest.fixture
def db(tmp_path):
    with BufferDB(tmp_path / "store", threaded=False, segment_bytes=4096) as opened:
        opened.insert_multiple({"int": 1, "char": char} for char in "abc")
        yield opened


def segments(path):
    return sorted((Path(path) / "readings").glob("[as].*.json"))


def stock(path):
    """Every segment, opened with stock TinyDB, as one dictionary."""
    found = {}
    for file in segments(path):
        with TinyDB(file, access_mode="r") as other:
            for document in other.table("readings"):
                found[document.doc_id] = dict(document)
    return found


def test_insert_is_seen_before_and_after_it_is_durable(db):
    record_id = db.insert({"int": 2})
    assert db.get(doc_id=record_id) == {"int": 2}
    assert db.durable_id() < record_id
    db.flush()
    assert db.durable_id() == record_id
    assert db.get(doc_id=record_id) == {"int": 2}


def test_an_update_that_raises_changes_nothing(db):
    db.insert_multiple({"int": 1, "pad": "x" * 500} for _ in range(40))
    before = db.all()

    def fail_late(document):
        document["int"] = 9
        if "pad" in document:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.update(fail_late)
    with pytest.raises(TypeError):
        db.update({"bad": object()})
    assert db.all() == before
    assert not [name for name in (Path(db.path) / "readings").iterdir() if name.name.startswith("t.")]


def test_stock_tinydb_opens_every_segment_after_every_commit(db):
    expected = {}
    for at in range(60):
        for record_id in db.insert_json([b'{"n":%d,"text":"\\u00fc \\t\\n"}' % at] * 7):
            expected[record_id] = {"n": at, "text": "ü \t\n"}
        db.flush()
        found = stock(db.path)
        assert {key: found[key] for key in expected} == expected
    assert len(segments(db.path)) > 3
    db.update({"n": -1}, where("n") >= 30)
    found = stock(db.path)
    assert all(
        found[key]["n"] == (-1 if document["n"] >= 30 else document["n"])
        for key, document in expected.items()
    )
    db.close()
    assert stock(db.path) == found
    for file in segments(db.path):
        assert json.loads(file.read_bytes())


def test_half_surrogates_and_odd_white_space_can_be_stored(db):
    odd = db.insert({"text": "\ud800"})
    (spaced,) = db.insert_json([b'{ "a" :\t1,\r\n"b": [ ] }'])
    db.flush()
    assert db.get(doc_id=odd) == {"text": "\ud800"}
    assert db.get(doc_id=spaced) == {"a": 1, "b": []}
    assert stock(db.path)[spaced] == {"a": 1, "b": []}


@pytest.mark.parametrize("wrong", [b"", b"[]", b"1", b"{", b'{"a":NaN}', b"{},{}", b'{"a":1}}', b"\xff{}"])
def test_only_json_objects_get_in(db, wrong):
    with pytest.raises(ValueError):
        db.insert_json([b"{}", wrong])
    assert len(db) == 3


def test_a_document_wrongly_vouched_for_costs_only_itself(db):
    ids = db.insert_json([b'{"n":1}', b"{wrong}", b'{"n":3}'], vouched=True)
    db.flush()
    consumer = db.consumer("cloud")
    batch = consumer.take(100)
    assert [record.seq for record in batch.records] == [1, 2, 3, ids[0], ids[2]]
    consumer.ack(batch)
    assert consumer.backlog == 0
    assert [document.doc_id for document in db] == [1, 2, 3, ids[0], ids[2]]
    db.flush()
    assert [(entry["first"], entry["count"], entry["why"]) for _, entry in db.ledger.items()] == [
        (ids[1], 1, "not JSON")
    ]


def test_streaming_while_it_grows_and_shrinks(db):
    db.insert_multiple({"n": at, "pad": "x" * 100} for at in range(300))
    db.flush()
    seen = []
    for document in db:
        seen.append(document.doc_id)
        if len(seen) == 5:
            db.update({"n": 0}, doc_ids=[250])
    assert seen == list(range(1, 304))


def test_truncating_reads_nothing(db):
    db.insert_multiple({"n": at, "pad": "x" * 500} for at in range(100))
    db.flush()
    reads = []
    fs = db.options.fs
    original = type(fs).read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(fs), "read", lambda *call: reads.append(call) or original(*call))
        db.truncate()
    assert reads == []
    assert db.all() == []
    assert stock(db.path) == {}
    assert db.insert({}) == 104


def test_counting_and_reading_values_go_through_the_files_once(db):
    db.insert_multiple({"n": at, "pad": "x" * 500} for at in range(400))
    db.flush()
    read = 0
    original = type(db.options.fs).read

    def counted(*call):
        nonlocal read
        data = original(*call)
        read += len(data)
        return data

    stored = sum(file.stat().st_size for file in segments(db.path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(db.options.fs), "read", counted)
        assert db.count(where("n") < 200) == 200
        assert sum(1 for _ in db.storage.read()["readings"].values()) == 403
    assert read < 3 * 2 * stored  # sealed files are read once more for their checksum


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_dropped_table_stays_dropped_after_a_crash(crashes):
    disk = FaultyDisk(random.Random(0))
    db = BufferDB("/s", fs=disk, threaded=False)
    db.table("gone").insert({"n": 1})
    db.drop_table("gone")
    for _ in range(crashes):
        disk.kill()
        db = BufferDB("/s", fs=disk, threaded=False)
        assert db.tables() == set()
    db.table("gone").insert({"n": 1})
    assert db.tables() == {"gone"}


def test_its_representation_says_where_it_is_and_what_it_has(db):
    assert repr(db) == f"<BufferDB path={db.path!r} tables={{'readings': 3}}>"
    db.close()
    assert repr(db) == f"<BufferDB path={db.path!r} tables=closed>"


def test_what_is_no_json_is_told_once_and_set_aside(tmp_path):
    with BufferDB(tmp_path, threaded=False) as db:
        db.insert_json([b'{"n":1}', b"{wrong}", b"[3]", b'{"n":4}'], vouched=True)
        db.flush()
        db.log("readings").roll()
        for _ in range(2):
            assert [document.doc_id for document in db] == [1, 4]
        db.flush()
        told = [(entry["first"], entry["count"], entry["why"]) for _, entry in db.ledger.items()]
        assert told == [(2, 2, "not JSON")]
    with BufferDB(tmp_path, threaded=False) as db:
        assert db.all() == [{"n": 1}, {"n": 4}]
        assert db.update({"n": 0}) == [1, 4]
        db.flush()
        assert db.ledger.dropped == 2
    (kept,) = (tmp_path / ".quarantine").iterdir()
    assert b"{wrong}" in kept.read_bytes()
