"""What TinyDB's documentation says of its API, asked of stock TinyDB and of the buffer alike."""

import re
from collections import OrderedDict, UserDict
from types import MappingProxyType

import pytest
from tinydb import Query, where
from tinydb.operations import add, decrement, delete, increment, subtract
from tinydb.operations import set as set_field
from tinydb.table import Document

from tests.buffer.tinydb_stores import STORES


@pytest.fixture(params=STORES)
def db(request, tmp_path):
    with STORES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def people(db):
    """Four people, with ids 1 to 4."""
    db.insert_multiple(
        [
            {"name": "Ada", "age": 36, "groups": ["admin", "user"], "birth": {"year": 1815}},
            {"name": "Bob", "age": 22, "groups": ["user"], "birth": {"year": 2003}},
            {"name": "Cem", "age": 51, "groups": ["sudo", "user"], "first-name": "C."},
            {"name": "Dan", "age": 22, "groups": []},
        ]
    )
    return db


def ids(documents):
    return [document.doc_id for document in documents]


# -- inserting


def test_insert_gives_the_id_counting_from_one(db):
    assert [db.insert({"a": 1}), db.insert({"a": 1}), db.insert({})] == [1, 2, 3]


def test_insert_multiple_takes_any_iterable(db):
    documents = [{"n": 1}, {"n": 2}]
    for at, taken in enumerate([documents, tuple(documents), iter(documents), (each for each in documents)]):
        assert db.insert_multiple(taken) == [2 * at + 1, 2 * at + 2]
    assert db.insert_multiple([]) == []
    assert [document["n"] for document in db] == [1, 2] * 4


def test_any_mapping_is_a_document(db):
    ordered = OrderedDict([("z", 1), ("a", 2)])
    db.insert_multiple([ordered, UserDict({"u": 1}), MappingProxyType({"m": 1})])
    assert db.all() == [{"z": 1, "a": 2}, {"u": 1}, {"m": 1}]
    assert list(db.get(doc_id=1)) == ["z", "a"]


def test_what_is_no_mapping_is_a_value_error(db):
    db.insert({"n": 1})
    for wrong in ([1, 2], {"bark"}, "text", 5, None, b"{}"):
        with pytest.raises(ValueError, match="not a Mapping"):
            db.insert(wrong)
        with pytest.raises(ValueError, match="not a Mapping"):
            db.insert_multiple([{"n": 2}, wrong])
    assert db.all() == [{"n": 1}]


def test_an_iterable_that_raises_inserts_nothing(db):
    def failing():
        yield {"n": 1}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.insert_multiple(failing())
    assert len(db) == 0


def test_a_document_brings_its_own_id(db):
    assert db.insert(Document({"n": 1}, doc_id=12)) == 12
    assert db.insert({"n": 2}) == 13
    assert db.insert_multiple([Document({"n": 3}, doc_id=20), Document({"n": 4}, doc_id=31)]) == [20, 31]
    assert db.get(doc_id=31) == {"n": 4}
    with pytest.raises(ValueError, match="already exists"):
        db.insert(Document({"n": 5}, doc_id=12))
    with pytest.raises(ValueError, match="already exists"):
        db.insert_multiple([Document({"n": 6}, doc_id=40), Document({"n": 7}, doc_id=20)])
    assert ids(db) == [12, 13, 20, 31]


def test_what_is_inserted_is_a_copy(db):
    document = {"n": 1}
    db.insert(document)
    document["n"] = 2
    assert db.all() == [{"n": 1}]


def test_values_of_all_kinds_come_back(db):
    document = {
        "text": 'quo"te \\ \n\t\r ü \u2028 \U0001f600 \x00',
        "int": -(2**80),
        "float": 0.1 + 0.2,
        "tiny": 5e-324,
        "negative zero": -0.0,
        "true": True,
        "none": None,
        "list": [1, [2, {"three": []}]],
        "object": {"": {"a.b": {}}},
    }
    db.insert(document)
    (found,) = db.all()
    assert found == document
    assert str(found["negative zero"]) == "-0.0"
    assert found["true"] is True
    assert isinstance(found["int"], int)


# -- reading


def test_iteration_and_all(people):
    assert [document["name"] for document in people] == ["Ada", "Bob", "Cem", "Dan"]
    assert ids(people.all()) == [1, 2, 3, 4]
    assert all(isinstance(document, Document) for document in people)
    assert people.all() == list(people)


def test_search(people):
    found = people.search(where("age") == 22)
    assert ids(found) == [2, 4]
    assert isinstance(found, list)
    assert all(isinstance(document, Document) for document in found)
    assert people.search(where("age") == 99) == []


def test_search_results_belong_to_the_caller(people):
    query = where("age") == 22
    people.search(query).clear()
    assert ids(people.search(query)) == [2, 4]


def test_get(people):
    assert people.get(where("age") == 22).doc_id == 2
    assert people.get(where("age") == 99) is None
    assert people.get(doc_id=3)["name"] == "Cem"
    assert people.get(doc_id=3).doc_id == 3
    assert people.get(where("age") == 22, doc_id=1).doc_id == 1
    for absent in (0, 5, -1, 10**30, float("nan"), "x", "01", "٣", ""):
        assert people.get(doc_id=absent) is None
    with pytest.raises(RuntimeError):
        people.get()


def test_get_several(people):
    assert ids(people.get(doc_ids=[4, 1, 99, 1])) == [1, 4]
    assert people.get(doc_ids=[]) == []
    assert ids(people.get(doc_ids=["2"])) == [2]
    assert people.get(doc_ids=[True, None, "x", -3]) == []


def test_contains(people):
    assert people.contains(where("name") == "Ada")
    assert not people.contains(where("name") == "Eve")
    assert people.contains(doc_id=4)
    assert not people.contains(doc_id=5)
    with pytest.raises(RuntimeError):
        people.contains()


def test_count_and_len(people):
    assert people.count(where("age") == 22) == 2
    assert people.count(where("age") == 99) == 0
    assert len(people) == 4


def test_a_condition_may_be_any_callable(people):
    def older(document):
        return document["age"] > 30

    assert ids(people.search(older)) == [1, 3]
    assert people.count(older) == 2
    assert people.get(older).doc_id == 1
    assert people.remove(older) == [1, 3]


def test_a_condition_that_raises_is_heard(people):
    def failing(document):
        raise ZeroDivisionError

    for call in (people.search, people.count, people.get, people.remove, people.contains):
        with pytest.raises(ZeroDivisionError):
            call(failing)
    assert len(people) == 4


Person = Query()


QUERIES = [
    (Person.name == "Bob", [2]),
    (Person["name"] == "Bob", [2]),
    (Person.name != "Bob", [1, 3, 4]),
    (Person.age < 36, [2, 4]),
    (Person.age <= 36, [1, 2, 4]),
    (Person.age > 36, [3]),
    (Person.age >= 36, [1, 3]),
    (Person["first-name"].exists(), [3]),
    (Person.birth.year == 1815, [1]),
    (where("birth")["year"] > 0, [1, 2]),
    (Person.name.matches("[AB]"), [1, 2]),
    (Person.name.matches("aDA", flags=re.IGNORECASE), [1]),
    (Person.name.search("a"), [1, 4]),
    (Person.age.test(lambda age, low, high: low <= age <= high, 20, 40), [1, 2, 4]),
    (Person.groups.any(["admin", "sudo"]), [1, 3]),
    (Person.groups.all(["admin", "user"]), [1]),
    (Person.groups.all([]), [1, 2, 3, 4]),
    (Person.name.one_of(["Ada", "Dan"]), [1, 4]),
    (Person.fragment({"age": 22, "name": "Dan"}), [4]),
    (Person.birth.fragment({"year": 2003}), [2]),
    (Person.noop(), [1, 2, 3, 4]),
    (Person.name.map(str.lower) == "ada", [1]),
    (~(Person.age == 22), [1, 3]),
    ((Person.age == 22) & (Person.name == "Dan"), [4]),
    ((Person.age == 51) | (Person.name == "Ada"), [1, 3]),
    (Person.name == None, []),  # noqa: E711 (a query, not a comparison)
]


def test_queries(people):
    for query, expected in QUERIES:
        assert ids(people.search(query)) == expected, query
        assert people.count(query) == len(expected), query
        assert people.contains(query) is bool(expected), query


def test_queries_over_lists_of_objects(db):
    db.insert({"permissions": [{"type": "read"}]})
    db.insert({"permissions": [{"type": "read"}, {"type": "sudo"}]})
    permission = Query()
    assert ids(db.search(Query().permissions.any(permission.type == "sudo"))) == [2]
    assert ids(db.search(Query().permissions.all(permission.type == "read"))) == [1]


def test_an_empty_query_is_an_error(people):
    with pytest.raises(RuntimeError, match="Empty query"):
        people.search(Query())


# -- changing


def test_update_of_all_of_some_and_by_id(people):
    assert people.update({"seen": True}) == [1, 2, 3, 4]
    assert people.count(where("seen") == True) == 4  # noqa: E712 (a query, not a comparison)
    assert people.update({"age": 23}, where("age") == 22) == [2, 4]
    assert people.update({"age": 0}, doc_ids=[3, 1, 99]) == [3, 1]
    assert [document["age"] for document in people] == [0, 23, 0, 23]
    assert people.update({"age": 1}, where("age") == 22) == []
    assert people.update({"age": 1}, doc_ids=[]) == []
    assert people.update({}, doc_ids=iter([1])) == [1]


def test_an_id_named_twice_is_updated_twice(people):
    assert people.update(increment("age"), doc_ids=[2, 1, 2]) == [2, 1, 2]
    assert [document["age"] for document in people] == [37, 24, 51, 22]


def test_what_is_no_id_is_not_updated(people):
    assert people.update({"age": 1}, doc_ids=["1", None, (1,), 2.0, 1.5]) == [2.0]
    assert [document["age"] for document in people] == [36, 1, 51, 22]


def test_operations(people):
    for operation, expected in [
        (increment("age"), 37),
        (decrement("age"), 36),
        (add("age", 5), 41),
        (subtract("age", 40), 1),
        (set_field("age", [1]), [1]),
        (delete("age"), None),
    ]:
        assert people.update(operation, where("name") == "Ada") == [1]
        assert people.get(doc_id=1).get("age") == expected
    assert people.get(doc_id=2)["age"] == 22


def test_operations_add_texts(people):
    people.update(add("name", "!"))
    assert [document["name"] for document in people] == ["Ada!", "Bob!", "Cem!", "Dan!"]


def test_an_operation_of_ones_own(people):
    def rename(document):
        document["called"] = document.pop("name")

    people.update(rename, where("age") > 30)
    assert people.count(where("called").exists()) == 2


def test_update_multiple(people):
    done = people.update_multiple(
        [
            ({"age": 1}, where("name") == "Ada"),
            (increment("age"), where("age") == 22),
            ({"old": True}, where("age") > 22),
        ]
    )
    assert done == [1, 2, 2, 3, 4, 4]
    assert [document["age"] for document in people] == [1, 23, 51, 23]
    assert people.update_multiple([]) == []


def test_upsert(people):
    assert people.upsert({"name": "Ada", "in": True}, where("name") == "Ada") == [1]
    assert people.upsert({"age": 5}, where("age") == 22) == [2, 4]
    assert people.upsert({"name": "Eve"}, where("name") == "Eve") == [5]
    assert people.upsert(Document({"age": 7}, doc_id=3)) == [3]
    assert people.upsert(Document({"age": 8}, doc_id=2), where("name") == "Ada") == [2]
    assert people.upsert(Document({"name": "Fay"}, doc_id=9)) == [9]
    assert [document.get("age") for document in people] == [36, 8, 7, 5, None, None]
    with pytest.raises(ValueError, match="doc_id"):
        people.upsert({"name": "Eve"})


def test_remove(people):
    assert people.remove(where("age") == 22) == [2, 4]
    assert people.remove(doc_ids=[99, 3]) == [3]
    assert people.remove(doc_ids=[]) == []
    assert people.remove(where("age") == 22) == []
    assert ids(people) == [1]
    with pytest.raises(RuntimeError, match="truncate"):
        people.remove()


def test_truncate(people):
    people.truncate()
    assert len(people) == 0
    assert people.all() == []
    assert people.get(doc_id=1) is None
    people.insert({"n": 1})
    assert people.all() == [{"n": 1}]


# -- tables


def test_tables_do_not_know_of_each_other(db):
    one, two = db.table("one"), db.table("two")
    one.insert({"n": 1})
    two.insert_multiple([{"n": 2}, {"n": 3}])
    db.insert({"n": 4})
    assert db.tables() == {"one", "two", db.default_table_name}
    assert (len(one), len(two), len(db)) == (1, 2, 1)
    two.truncate()
    assert db.tables() == {"one", "two", db.default_table_name}
    assert one.all() == [{"n": 1}]
    assert (one.name, two.name) == ("one", "two")
    assert db.table("one") is one
    assert one.storage is db.storage


def test_the_database_is_its_default_table(db):
    db.insert({"n": 1})
    assert db.table(db.default_table_name).all() == db.all() == list(db)
    assert len(db.table(db.default_table_name)) == len(db) == 1


def test_dropping_tables(db):
    db.insert({"n": 1})
    db.table("one").insert({"n": 1})
    table = db.table("one")
    db.drop_table("one")
    assert db.tables() == {db.default_table_name}
    assert db.table("one") is not table
    assert table.all() == db.table("one").all() == []
    db.drop_table("never there")
    table = db.table("one")
    table.insert({"n": 2})
    assert db.tables() == {db.default_table_name, "one"}
    db.drop_tables()
    assert db.tables() == set()
    assert len(db) == 0
    assert db.table("one") is not table
    db.drop_tables()


def test_looking_makes_no_table(db):
    table = db.table("looked at")
    assert table.all() == table.search(where("n") == 1) == []
    assert table.get(doc_id=1) is None
    assert len(table) == table.count(where("n") == 1) == 0
    assert db.tables() == set()
    assert db.storage.read() is None


def test_an_empty_table_when_asked_for(db):
    table = db.table("empty", persist_empty=True)
    assert db.tables() == {"empty"}
    assert table.all() == []
    db.drop_table("empty")
    assert db.tables() == set()


def test_a_tables_representation(db):
    db.insert({"n": 1})
    assert "total=1" in repr(db.table(db.default_table_name))


def test_the_storage_reads_all_tables(people):
    people.table("more").insert({"n": 1})
    data = people.storage.read()
    assert set(data) == {people.default_table_name, "more"}
    assert data["more"]["1"] == {"n": 1}
    assert dict(data["more"]) == {"1": {"n": 1}}
    table = data[people.default_table_name]
    assert list(table) == list(table.keys()) == ["1", "2", "3", "4"]
    assert [document["name"] for document in table.values()] == ["Ada", "Bob", "Cem", "Dan"]
    assert [key for key, _ in table.items()] == ["1", "2", "3", "4"]
    assert len(table.items()) == len(table.values()) == 4
    assert ("1", table["1"]) in table.items()
    assert "1" in table
    assert "9" not in table


# -- the query cache


def test_a_cache_that_was_asked_for_is_never_stale(db):
    table = db.table("cached", cache_size=5)
    calls = []

    def counted(value):
        calls.append(value)
        return value == 1

    query = where("n").test(counted)
    assert table.search(query) == []
    table.insert({"n": 1})
    assert table.search(query) == [{"n": 1}]
    seen = len(calls)
    assert table.search(query) == [{"n": 1}]
    assert len(calls) == seen
    for change in (
        lambda: table.insert(Document({"n": 1}, doc_id=50)),
        lambda: table.update({"n": 2}, doc_ids=[50]),
        lambda: table.upsert({"n": 1}, where("n") == 2),
        lambda: table.remove(doc_ids=[50]),
        lambda: table.insert_multiple([{"n": 1}, {"n": 0}]),
        table.truncate,
    ):
        change()
        assert table.search(query) == [document for document in table if document["n"] == 1]
    table.clear_cache()
    assert table.search(query) == []


def test_a_cache_may_be_unbounded(db):
    table = db.table("cached", cache_size=None)
    table.insert({"n": 1})
    for n in range(40):
        assert table.search(where("n") == n) == ([{"n": 1}] if n == 1 else [])


# -- opening and closing


@pytest.mark.parametrize("name", [name for name in STORES if name != "stock-memory"])
def test_everything_is_there_after_reopening(name, tmp_path):
    with STORES[name](tmp_path) as db:
        db.insert_multiple({"n": at} for at in range(100))
        db.table("more").insert({"n": 1})
        db.remove(doc_ids=[7])
        db.update({"n": -1}, doc_ids=[50])
        before = db.all()
    with STORES[name](tmp_path) as db:
        assert db.all() == before
        assert ids(db) == ids(before)
        assert db.table("more").all() == [{"n": 1}]
        assert db.insert({}) == 101
    db.close()


def test_closing_twice_is_harmless(db):
    db.insert({"n": 1})
    db.close()
    db.close()
