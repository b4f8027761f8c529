"""Any sequence of calls does what it does to a dictionary."""

import shutil
import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tinydb import where

from buffer import BufferDB

documents = st.dictionaries(
    st.text(max_size=5),
    st.one_of(st.integers(), st.text(max_size=20), st.none(), st.floats(-1e9, 1e9)),
    max_size=3,
)


class BufferAgainstADictionary(RuleBasedStateMachine):
    @initialize()
    def open_first(self):
        self.path = tempfile.mkdtemp()
        self.model = {}
        self.acked = set()
        self.out = []
        self.highest = 0
        self.open()

    def open(self):
        self.db = BufferDB(self.path, threaded=False, segment_bytes=4096)
        self.consumer = self.db.consumer("one")
        self.out = []

    def teardown(self):
        if hasattr(self, "db"):
            self.db.close()
            shutil.rmtree(self.path)

    @rule(added=st.lists(documents, max_size=8), n=st.integers(1, 40))
    def insert(self, added, n):
        added = [{**document, "k": at} for document in added for at in range(n)]
        for record_id, document in zip(self.db.insert_multiple(added), added, strict=True):
            assert record_id > self.highest
            self.highest = record_id
            self.model[record_id] = document

    @rule()
    def flush(self):
        self.db.flush()

    @rule(k=st.integers(0, 40), value=st.integers())
    def update(self, k, value):
        ids = self.db.update({"v": value}, where("k") == k)
        assert ids == [each for each, document in self.model.items() if document.get("k") == k]
        for each in ids:
            self.model[each]["v"] = value

    @rule(k=st.integers(0, 40))
    def remove(self, k):
        ids = self.db.remove(where("k") == k)
        assert ids == [each for each, document in self.model.items() if document.get("k") == k]
        for each in ids:
            del self.model[each]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data):
        chosen = data.draw(st.sampled_from(sorted(self.model)))
        self.db.delete(chosen)
        del self.model[chosen]

    @rule(n=st.integers(1, 60))
    def take(self, n):
        batch = self.consumer.take(n)
        if batch is None:
            return
        assert len(batch) <= n
        for record in batch.records:
            assert self.model[record.seq] == record.document
            assert record.seq not in self.acked
            assert all(record.seq not in {each.seq for each in other.records} for other in self.out)
        self.out.append(batch)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), arrived=st.booleans())
    def settle(self, data, arrived):
        batch = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if arrived:
            self.consumer.ack(batch)
            self.acked |= {record.seq for record in batch.records}
        else:
            self.consumer.release(batch)

    @rule()
    def reopen(self):
        self.db.close()
        self.open()

    @rule()
    def maintain(self):
        self.db.maintain()

    @invariant()
    def is_the_same(self):
        if not hasattr(self, "db"):
            return
        assert len(self.db) == len(self.model)
        assert {document.doc_id: dict(document) for document in self.db} == self.model
        durable = self.db.durable_id()
        owed = {each for each in self.model if each <= durable} - self.acked
        assert self.consumer.backlog == len(owed)
        recent = [each for each, _ in self.db.log("readings").recent(5)]
        assert recent == sorted(each for each in self.model if each <= durable)[-5:]


TestBufferAgainstADictionary = BufferAgainstADictionary.TestCase
TestBufferAgainstADictionary.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
