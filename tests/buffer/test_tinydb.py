"""TinyDB's documented behaviour, on a buffer; the intended differences are tested as such."""

import json
from pathlib import Path

import pytest
from tinydb import Query, TinyDB, where
from tinydb.operations import delete, increment
from tinydb.table import Document

from buffer import BufferDB


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


def test_reading_what_was_inserted(db):
    assert len(db) == 3
    assert [document["char"] for document in db] == ["a", "b", "c"]
    assert db.all() == db.search(where("int") == 1)
    assert db.count(where("char") == "b") == 1
    assert db.get(where("char") == "b").doc_id == 2
    assert db.get(doc_id=3)["char"] == "c"
    assert db.get(doc_id=99) is None
    assert db.get(doc_id=float("nan")) is None
    assert [document.doc_id for document in db.get(doc_ids=[3, 1, 99])] == [1, 3]
    assert db.contains(Query().char == "a")
    assert not db.contains(doc_id=17)
    with pytest.raises(RuntimeError):
        db.get()


def test_insert_is_seen_before_and_after_it_is_durable(db):
    record_id = db.insert({"int": 2})
    assert db.get(doc_id=record_id) == {"int": 2}
    assert db.durable_id() < record_id
    db.flush()
    assert db.durable_id() == record_id
    assert db.get(doc_id=record_id) == {"int": 2}


def test_insert_refuses_what_is_no_document(db):
    for wrong in ([1, 2], {1, 2}, "text", 5):
        with pytest.raises(ValueError, match="not a Mapping"):
            db.insert(wrong)
    with pytest.raises(TypeError):
        db.insert({"bark": object()})
    with pytest.raises(ValueError):
        db.insert({"nan": float("nan")})
    assert len(db) == 3


def test_documents_with_ids_of_their_own(db):
    assert db.insert(Document({"int": 5}, doc_id=77)) == 77
    assert db.insert({"int": 6}) == 78
    with pytest.raises(ValueError, match="already exists"):
        db.insert(Document({"int": 5}, doc_id=77))
    with pytest.raises(ValueError, match="below 79"):
        db.insert(Document({"int": 5}, doc_id=40))
    assert db.insert_multiple([Document({}, doc_id=100), {}, Document({}, doc_id=200)]) == [100, 101, 200]


def test_update(db):
    assert db.update({"int": 2}, where("char") == "a") == [1]
    assert db.update(increment("int"), doc_ids=[3, 1, 55]) == [3, 1]
    assert [document["int"] for document in db] == [3, 1, 2]
    assert db.update(delete("int")) == [1, 2, 3]
    assert db.count(where("int").exists()) == 0
    assert db.update_multiple([({"x": 1}, where("char") == "a"), ({"x": 2}, where("char") != "a")]) == [
        1,
        2,
        3,
    ]
    assert [document["x"] for document in db] == [1, 2, 2]


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


def test_upsert(db):
    assert db.upsert({"int": 5}, where("char") == "a") == [1]
    assert db.upsert({"int": 9, "char": "x"}, where("char") == "x") == [4]
    assert db.upsert(Document({"int": 7}, doc_id=2)) == [2]
    with pytest.raises(ValueError, match="doc_id"):
        db.upsert({"int": 1})
    assert {document["char"]: document["int"] for document in db} == {"a": 5, "b": 7, "c": 1, "x": 9}


def test_remove_and_truncate_never_reuse_an_id(db):
    assert db.remove(where("char") == "b") == [2]
    assert db.remove(doc_ids=[3, 55]) == [3]
    assert [document.doc_id for document in db] == [1]
    with pytest.raises(RuntimeError):
        db.remove()
    db.truncate()
    assert db.all() == []
    assert db.insert({}) == 4


def test_tables(db):
    other = db.table("other/.. ü")
    assert db.tables() == {"readings"}
    other.insert({"a": 1})
    assert db.tables() == {"readings", "other/.. ü"}
    assert db.table("other/.. ü") is other
    assert len(db) == 3
    db.drop_table("other/.. ü")
    assert db.tables() == {"readings"}
    assert db.table("other/.. ü").insert({}) == 2
    db.drop_tables()
    assert db.tables() == set()
    assert "BufferDB" in repr(db)


def test_everything_survives_reopening(db):
    db.table("more").insert({"n": 1})
    db.remove(doc_ids=[2])
    db.close()
    with BufferDB(db.path, threaded=False) as again:
        assert [document["char"] for document in again] == ["a", "c"]
        assert again.table("more").all() == [{"n": 1}]
        assert again.insert({}) == 4


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


def test_a_table_asked_for_empty_is_there(db):
    db.table("empty", persist_empty=True)
    assert "empty" in db.tables()


def test_the_query_cache_when_asked_for_is_never_stale(db):
    cached = db.table("cached", cache_size=5)
    assert cached.search(where("n") == 1) == []
    cached.insert({"n": 1})
    assert len(cached.search(where("n") == 1)) == 1
    cached.update({"n": 2})
    assert cached.search(where("n") == 1) == []


def test_streaming_while_it_grows_and_shrinks(db):
    db.insert_multiple({"n": at, "pad": "x" * 100} for at in range(300))
    db.flush()
    seen = []
    for document in db:
        seen.append(document.doc_id)
        if len(seen) == 5:
            db.update({"n": 0}, doc_ids=[250])
    assert seen == list(range(1, 304))
