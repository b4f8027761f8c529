"""Any sequence of calls does to the buffer what it does to stock TinyDB; only the ids may differ, not their order."""

import json
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tinydb import Query, TinyDB, where
from tinydb.operations import add, decrement, delete, increment, subtract
from tinydb.operations import set as set_field
from tinydb.storages import Storage
from tinydb.table import Document

from buffer import BufferDB
from tests.rigs.faulty_disk import FaultyDisk

FIELDS = ["a", "b", "ü"]
fields = st.sampled_from(FIELDS)
small = st.integers(0, 3)
values = st.recursive(
    small
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
documents = st.dictionaries(fields, small, min_size=1, max_size=3) | st.dictionaries(
    fields, values, max_size=3
)
paths = st.builds(where, fields)
queries = st.recursive(
    st.builds(lambda path, value: path == value, paths, small)
    | st.builds(lambda path, value: path == value, paths, values)
    | st.builds(lambda path, value: path != value, paths, small)
    | st.builds(lambda path, value: path < value, paths, small)  # of a text it raises, in both
    | st.builds(lambda path: path.exists(), paths)
    | st.builds(lambda path: path.test(lambda value: value == 1), paths)
    | st.builds(lambda path, value: path.one_of([value, 0]), paths, small)
    | st.builds(lambda path, value: path.any([value]), paths, small)
    | st.builds(lambda path: path.all([]), paths)
    | st.builds(lambda path: path.search("[a-z]"), paths)
    | st.builds(lambda part: Query().fragment(part), st.dictionaries(fields, small, max_size=2)),
    lambda inner: (
        st.builds(lambda one, other: one & other, inner, inner)
        | st.builds(lambda one, other: one | other, inner, inner)
        | st.builds(lambda one: ~one, inner)
    ),
    max_leaves=3,
)
changes = (
    st.dictionaries(fields, small, max_size=2)
    | st.builds(increment, fields)
    | st.builds(decrement, fields)
    | st.builds(delete, fields)
    | st.builds(add, fields, small)
    | st.builds(subtract, fields, small)
    | st.builds(set_field, fields, values)
)
tables = st.sampled_from(["", "other", "cached"])
places = st.lists(st.integers(0, 5), max_size=5)

ONES = where("a") == 1


class TextStorage(Storage):
    """Stock TinyDB's file, without the disk."""

    def __init__(self, texts):
        self.texts = texts

    def read(self):
        return json.loads(self.texts[-1]) if self.texts else None

    def write(self, data):
        self.texts[:] = [json.dumps(data)]


class TheSameAsStock(RuleBasedStateMachine):
    @initialize()
    def open_both(self):
        self.texts = []
        self.disk = FaultyDisk(random.Random(0))
        self.open()
        for name in ("", "other", "cached"):
            self.insert_multiple(name, [{"a": 1, "b": 2}, {"a": 2}, {"ü": 0}, {}], times=1)

    def open(self):
        self.stock = TinyDB(self.texts, storage=TextStorage)
        self.ours = BufferDB("/store", fs=self.disk, threaded=False, segment_bytes=4096)
        self.highest = {}

    def teardown(self):
        if hasattr(self, "ours"):
            self.stock.close()
            self.ours.close()

    # -- asking both

    def pair(self, name):
        if not name:
            return self.stock.table("_default"), self.ours.table("readings")
        options = {"cache_size": 3} if name == "cached" else {"cache_size": 0}
        return self.stock.table(name, **options), self.ours.table(name, **options)

    def ids(self, name):
        stock, ours = self.pair(name)
        return [document.doc_id for document in stock], [document.doc_id for document in ours]

    def both(self, name, call):
        """Call both; what came of it must be the same, ids by their places."""
        before = self.ids(name)
        results = []
        for at, table in enumerate(self.pair(name)):
            try:
                result = call(table, before[at])
            except Exception as error:  # noqa: BLE001 (compared)
                result = type(error)
            results.append(result)
        after = self.ids(name)
        known = [
            {doc_id: at for at, doc_id in enumerate(dict.fromkeys(before[n] + after[n]))} for n in (0, 1)
        ]
        stock, ours = (self.by_place(result, known[at]) for at, result in enumerate(results))
        assert ours == stock
        return results[1]

    def by_place(self, result, known):
        if isinstance(result, list):
            return [self.by_place(each, known) for each in result]
        if isinstance(result, Document):
            return known[result.doc_id], dict(result)
        return known[result] if type(result) is int else result

    # -- the calls

    @rule(name=tables, document=documents)
    def insert(self, name, document):
        self.note_new(name, [self.both(name, lambda table, _: table.insert(document))])

    @rule(name=tables, several=st.lists(documents, max_size=5), times=st.sampled_from([1, 1, 20]))
    def insert_many(self, name, several, times):
        self.insert_multiple(name, several, times)

    def insert_multiple(self, name, several, times):
        several = several * times
        self.note_new(name, self.both(name, lambda table, _: table.insert_multiple(iter(several))))

    @rule(name=tables, document=documents, gap=st.integers(0, 5))
    def insert_with_an_id(self, name, document, gap):
        ours = name or "readings"
        following = self.ours.log(ours).next_id if self.ours.has_log(ours) else 1
        own = max([following, *(each + 1 for each in self.ids(name)[0])]) + gap
        self.note_new(name, [self.both(name, lambda table, _: table.insert(Document(document, doc_id=own)))])

    def used(self):
        return {name if name != "readings" else "" for name in self.ours.tables()}

    def note_new(self, name, new):
        for doc_id in new:
            assert doc_id > self.highest.get(name, 0), "an id was used again"
            self.highest[name] = doc_id

    @rule(name=tables, change=changes)
    def update_all(self, name, change):
        self.both(name, lambda table, _: table.update(change))

    @rule(name=tables, change=changes, query=queries)
    def update(self, name, change, query):
        self.both(name, lambda table, _: table.update(change, query))

    @rule(name=tables, change=changes, chosen=places)
    def update_some(self, name, change, chosen):
        self.both(name, lambda table, ids: table.update(change, doc_ids=pick(ids, sorted(chosen))))

    @rule(name=tables, updates=st.lists(st.tuples(changes, queries), max_size=3))
    def update_multiple(self, name, updates):
        self.both(name, lambda table, _: table.update_multiple(updates))

    @rule(name=tables, document=documents, query=queries)
    def upsert(self, name, document, query):
        self.both(name, lambda table, _: table.upsert(document, query))

    @rule(name=tables, document=documents, place=st.integers(0, 30))
    def upsert_one(self, name, document, place):
        if place < len(self.ids(name)[0]):
            self.both(name, lambda table, ids: table.upsert(Document(document, doc_id=ids[place])))

    @rule(name=tables, query=queries)
    def remove(self, name, query):
        self.both(name, lambda table, _: table.remove(query))

    @rule(name=tables, chosen=places)
    def remove_some(self, name, chosen):
        self.both(name, lambda table, ids: table.remove(doc_ids=pick(ids, dict.fromkeys(chosen))))

    @rule(name=tables, how=st.sampled_from(["truncate", "truncate", "drop", "drop all"]))
    def empty(self, name, how):
        if how == "truncate":
            self.both(name, lambda table, _: table.truncate())
        elif how == "drop":
            self.stock.drop_table(name or "_default")
            self.ours.drop_table(name or "readings")
        else:
            self.stock.drop_tables()
            self.ours.drop_tables()

    @rule()
    def flush(self):
        self.ours.flush()
        self.ours.maintain()

    @rule()
    def reopen(self):
        highest = self.highest
        self.stock.close()
        self.ours.close()
        self.open()
        self.highest = highest

    # -- looking

    @rule(name=tables, query=queries, chosen=places)
    def look(self, name, query, chosen):
        for _ in range(2):  # the second time from the cache, where there is one
            self.both(name, lambda table, _: table.search(query))
        self.both(name, lambda table, _: [table.get(query)])
        self.both(name, lambda table, _: float(table.count(query)))
        self.both(name, lambda table, _: table.contains(query))
        self.both(name, lambda table, ids: table.get(doc_ids=pick(ids, chosen)))
        self.both(name, lambda table, ids: [table.get(doc_id=each) for each in pick(ids, chosen)])
        self.both(name, lambda table, ids: [table.contains(doc_id=each) for each in pick(ids, chosen)])

    @invariant()
    def is_the_same(self):
        if not hasattr(self, "ours"):
            return
        self.both("cached", lambda table, _: table.search(ONES))
        filled = set()
        for name in ("", "other", "cached"):
            stock, ours = self.pair(name)
            assert json.dumps(ours.all()) == json.dumps(stock.all())
            assert len(ours) == len(stock)
            if len(stock):
                filled.add(name)
        assert filled <= self.used()
        present = self.stock.tables()
        assert self.used() <= {name if name != "_default" else "" for name in present}


def pick(ids, chosen):
    """The ids at some places; for those that are none, an id that nobody has."""
    return [ids[at] if at < len(ids) else 10**9 + at for at in chosen]


TestTheSameAsStock = TheSameAsStock.TestCase
TestTheSameAsStock.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
