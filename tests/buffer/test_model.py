"""Any sequence of calls does what it does to a dictionary."""

import shutil
import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tinydb import where

from buffer import BufferDB
from buffer.lanes import lane_of

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
        self.acked = {"one": set(), "two": set()}
        self.highest = 0
        self.open()

    def open(self):
        self.db = BufferDB(self.path, threaded=False, segment_bytes=4096)
        self.consumers = {name: self.db.consumer(name) for name in self.acked}
        self.out = []
        self.moved = False
        """A record came into another lane while a batch was out: it may be held back until that is settled."""

    def teardown(self):
        if hasattr(self, "db"):
            self.db.close()
            shutil.rmtree(self.path)

    @rule(added=st.lists(documents, max_size=8), n=st.integers(1, 40), every=st.integers(1, 20))
    def insert(self, added, n, every):
        added = [{**document, "k": at} for document in added for at in range(n)]
        for document in added[::every]:
            document["lane"] = "alarm"
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

    @rule(k=st.integers(0, 40), lane=st.sampled_from(["alarm", "normal"]))
    def change_lane(self, k, lane):
        for each in self.db.update({"lane": lane}, where("k") == k):
            self.moved |= bool(self.out) and lane_of(self.model[each]) != lane
            self.model[each]["lane"] = lane

    @rule(
        n=st.integers(1, 60),
        name=st.sampled_from(["one", "two"]),
        lane=st.sampled_from([None, None, "alarm", "normal"]),
        newest=st.booleans(),
    )
    def take(self, n, name, lane, newest):
        batch = self.consumers[name].take(n, newest=newest, lane=lane)
        free = self.free(name, lane)
        if batch is None:
            assert self.moved or not free
            return
        given = [record.seq for record in batch.records]
        assert given == sorted(set(given) - self.acked[name])
        assert len(given) <= n
        if not self.moved:
            assert set(given) <= set(free)
            assert (given[-1] == free[-1]) if newest else (given[0] == free[0])
        assert [record.document for record in batch.records] == [self.model[each] for each in given]
        self.out.append((name, batch))

    def free(self, name, lane):
        """What this consumer may be given, ascending."""
        durable = self.db.durable_id()
        taken = {record.seq for other, batch in self.out if other == name for record in batch.records}
        return [
            each
            for each in sorted(self.model.keys() - self.acked[name] - taken)
            if each <= durable and lane in {None, lane_of(self.model[each])}
        ]

    @precondition(lambda self: self.out)
    @rule(data=st.data(), arrived=st.booleans())
    def settle(self, data, arrived):
        name, batch = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if arrived:
            self.consumers[name].ack(batch)
            self.acked[name] |= {record.seq for record in batch.records}
        else:
            self.consumers[name].release(batch)
        self.moved &= bool(self.out)

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
        for name, consumer in self.consumers.items():
            owed = {each for each in self.model if each <= durable} - self.acked[name]
            assert consumer.backlog == len(owed)
        recent = [each for each, _ in self.db.log("readings").recent(5)]
        assert recent == sorted(each for each in self.model if each <= durable)[-5:]


TestBufferAgainstADictionary = BufferAgainstADictionary.TestCase
TestBufferAgainstADictionary.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
