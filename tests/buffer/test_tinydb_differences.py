"""Where the buffer differs from stock TinyDB on purpose: what each of them does. `buffer.table` lists them."""

import re

import pytest
from tinydb import TinyDB, where
from tinydb.operations import increment
from tinydb.storages import MemoryStorage
from tinydb.table import Document

import buffer.table
from buffer import BufferClosed, BufferDB, BufferFull
from tests.buffer.tinydb_stores import buffer_by_the_window, stock_in_a_file, stock_in_memory


@pytest.fixture
def stock(tmp_path):
    with stock_in_a_file(tmp_path) as opened:
        yield opened


@pytest.fixture
def ours(tmp_path):
    with buffer_by_the_window(tmp_path) as opened:
        yield opened


def ids(documents):
    return [document.doc_id for document in documents]


def test_each_difference_that_is_listed_has_its_test():
    listed = re.findall(r"^- \*\*(\w+)\*\*: ", buffer.table.__doc__, re.MULTILINE)
    shown = [
        name.removeprefix("test_difference_") for name in globals() if name.startswith("test_difference_")
    ]
    assert listed
    assert sorted(listed) == sorted(shown)


def test_difference_ids_never_reused(stock, ours):
    for db in (stock, ours):
        db.insert_multiple([{}, {}])
        db.truncate()
    assert (stock.insert({}), ours.insert({})) == (1, 3)
    for db in (stock, ours):
        db.drop_tables()
    assert (stock.insert({}), ours.insert({})) == (1, 4)
    for db in (stock, ours):
        db.truncate()
        db.close()
    with TinyDB(stock.storage._handle.name) as again, BufferDB(ours.path, threaded=False) as ours_again:
        assert (again.insert({}), ours_again.insert({})) == (1, 5)


def test_difference_own_ids_above_all(stock, ours):
    for db in (stock, ours):
        db.insert(Document({}, doc_id=10))
    assert stock.insert(Document({}, doc_id=5)) == 5
    assert stock.insert(Document({}, doc_id=-5)) == -5
    for low in (5, 0, -5):
        with pytest.raises(ValueError, match="is below 11, the next free one"):
            ours.insert(Document({}, doc_id=low))
    with pytest.raises(ValueError, match="is below 21, the next free one"):
        ours.insert_multiple([Document({}, doc_id=20), Document({}, doc_id=15)])
    with pytest.raises(ValueError, match="the next free one"):
        ours.insert(Document({}, doc_id=2**40))
    assert ids(ours) == [10]
    # Stock TinyDB goes on with what it remembers, below the document's own id, and then over it.
    assert stock.insert_multiple([Document({"own": 1}, doc_id=12), {}, {}]) == [12, 11, 12]
    assert stock.get(doc_id=12) == {}
    assert ours.insert_multiple([Document({"own": 1}, doc_id=12), {}, {}]) == [12, 13, 14]
    assert ours.get(doc_id=12) == {"own": 1}


def test_difference_json_only(tmp_path, stock, ours):
    memory = stock_in_memory(None)
    for db in (memory, stock, ours):
        db.insert({1: (2, 3), None: True})
    assert memory.all() == [{1: (2, 3), None: True}]
    assert stock.all() == ours.all() == [{"1": [2, 3], "null": True}]
    for bad in ({"set": {1}}, {"object": object()}, {"bytes": b""}):
        for db in (stock, ours):
            with pytest.raises(TypeError):
                db.insert(bad)
    with pytest.raises(ValueError, match="JSON"):
        ours.insert({"nan": float("nan")})
    assert len(ours) == 1
    # Stock TinyDB leaves out the id of what could not be written.
    stock.insert({})
    assert (ids(stock), ours.insert({})) == ([1, 5], 2)
    stock.insert({"infinite": float("inf")})
    assert "Infinity" in (tmp_path / "stock.json").read_text()


def test_difference_no_cache_unless_asked(stock, ours):
    calls = []
    query = where("n").test(lambda _: calls.append(1) or True)
    for db, expected in ((stock, 1), (ours, 2)):
        db.insert({"n": 1})
        calls.clear()
        db.search(query)
        db.search(query)
        assert len(calls) == expected
    cached = ours.table("readings 2", cache_size=10)
    cached.insert({"n": 1})
    calls.clear()
    cached.search(query)
    cached.search(query)
    assert len(calls) == 1


def test_difference_streaming(stock, ours):
    for db in (stock, ours):
        db.insert_multiple({"n": at, "pad": "x" * 100} for at in range(600))
    ours.flush()
    for db, fresh in ((stock, 0), (ours, 600 - 500)):
        seen = []
        for document in db:
            if not seen:
                db.update({"new": True})
                db.insert_multiple([{}] * 3)
            seen.append(document)
        assert ids(seen) == list(range(1, 601))
        assert sum("new" in document for document in seen) == fresh
        assert len(db) == 603


def test_an_iteration_that_inserts_comes_to_an_end(tmp_path):
    with BufferDB(tmp_path, window_s=0) as db:
        db.insert_multiple({"n": at} for at in range(50))
        for document in db:
            db.insert({"n": document["n"]})
            db.flush()
        assert len(db) == 100


def test_difference_id_order(stock, ours):
    for db, expected in ((stock, [3, 1, 2]), (ours, [1, 2, 3])):
        db.insert_multiple({"n": at} for at in (1, 2, 3))
        order = []
        assert db.update(lambda document: order.append(document["n"]), doc_ids=[3, 1, 2]) == [3, 1, 2]  # noqa: B023
        assert order == expected


def test_difference_removed_once(stock, ours):
    for db in (stock, ours):
        db.insert_multiple([{}, {}])
    with pytest.raises(KeyError):
        stock.remove(doc_ids=[2, 1, 2])
    assert ours.remove(doc_ids=[2, 1, 2]) == [2, 1]
    assert (len(stock), len(ours)) == (2, 0)


def test_difference_updates_read_once(stock, ours):
    for db, expected in ((stock, [1, 0, 0]), (ours, [1, 1, 1])):
        db.insert_multiple({"n": 0} for _ in range(3))
        db.update_multiple(iter([(increment("n"), where("n") == 0)]))
        assert [document["n"] for document in db] == expected


def test_difference_large_inserts(ours):
    most = buffer.table.INSERT_RECORDS_MAX
    assert f"{most:,} documents" in buffer.table.__doc__
    assert len(ours.insert_multiple([{}] * (3 * most))) == len(ours) == 3 * most
    with pytest.raises(TypeError):
        ours.insert_multiple([*[{}] * most, {"bad": object()}])
    with pytest.raises(ValueError, match="not a Mapping"):
        ours.insert_multiple([*[{}] * most, None])
    assert len(ours) == 3 * most  # what can be known before is: only a disk that refuses stops it half-way
    before, append = len(ours), ours.append_checked
    calls = []

    def refusing(documents, size, *, table):
        calls.append(len(documents))
        if len(calls) > 1:
            raise BufferFull
        return append(documents, size, table=table)

    ours.append_checked = refusing
    with pytest.raises(BufferFull):
        ours.insert_multiple([{}] * (most + 1))
    assert len(ours) == before + most
    with pytest.raises(BufferFull):
        ours.insert_multiple([{}] * most)
    assert len(ours) == before + most


def test_difference_durable_later(tmp_path, stock, ours):
    stock.insert({"n": 1})
    assert "n" in (tmp_path / "stock.json").read_text()
    record_id = ours.insert({"n": 1})
    assert ours.durable_id() < record_id
    ours.flush()
    assert ours.durable_id() == record_id
    with BufferDB(tmp_path / "each", sync="each", threaded=False) as each:
        assert each.insert({"n": 1}) == each.durable_id()
        assert each.insert_multiple([{"n": 1}] * 3)[-1] == each.durable_id()
        assert each.insert(Document({}, doc_id=77)) == each.durable_id()


def test_difference_tables_by_insert(tmp_path, stock, ours):
    for db in (stock, ours):
        db.table("a").update({"n": 1})
        db.table("b").truncate()
        db.table("c").remove(where("n") == 1)
        db.table("d").insert_multiple([])
    assert stock.tables() == {"a", "b", "c", "d"}
    assert ours.tables() == set()
    assert [path.name for path in (tmp_path / "buffer").iterdir() if path.name[0] != "."] == ["readings"]
    for db in (stock, ours):
        db.table("kept").insert({"n": 1})
        db._tables.clear()
        db.table("kept", persist_empty=True)
    assert (len(stock.table("kept")), len(ours.table("kept"))) == (0, 1)


def test_difference_table_names(tmp_path, stock, ours):
    for name in ("", "x" * 256, "ü" * 50):
        stock.table(name).insert({})
        with pytest.raises(ValueError, match="1 to 255"):
            ours.table(name).insert({})
        with pytest.raises(ValueError, match="1 to 255"):
            ours.table(name).all()
    odd = "../%2E ü\n"
    ours.table(odd).insert({"n": 1})
    ours.flush()
    assert ours.tables() == {odd}
    assert (tmp_path / "buffer" / "%2E.%2F%252E %C3%BC%0A").is_dir()


def test_difference_default_table(stock, ours):
    assert (stock.default_table_name, ours.default_table_name) == ("_default", "readings")


def test_difference_storage_is_for_reading(tmp_path, stock, ours):
    ours.insert({"n": 1})
    assert ours.storage.read()["readings"]["1"] == {"n": 1}
    stock.storage.write({"_default": {"1": {"n": 2}}})
    assert stock.all() == [{"n": 2}]
    with pytest.raises(TypeError, match="through its tables"):
        ours.storage.write({"readings": {}})
    with pytest.raises(TypeError):
        BufferDB(tmp_path / "other", storage=MemoryStorage)


def test_difference_closed(ours):
    memory = stock_in_memory(None)
    for db in (memory, ours):
        db.insert({"n": 1})
        db.close()
    assert memory.all() == [{"n": 1}]
    for call in (
        ours.all,
        ours.tables,
        ours.truncate,
        ours.storage.read,
        lambda: ours.insert({}),
        lambda: ours.get(doc_id=1),
        lambda: ours.search(where("n") == 1),
        lambda: ours.update({"n": 2}),
        lambda: ours.remove(doc_ids=[1]),
        lambda: len(ours),
        lambda: ours.drop_table("readings"),
        lambda: ours.table("x", persist_empty=True),
    ):
        with pytest.raises(BufferClosed):
            call()
