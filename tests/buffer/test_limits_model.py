"""Whatever happens under a quota and a maximum age, each reading is there, delivered to all, or in the ledger: never two of them."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from buffer import BufferDB
from tests.buffer.test_limits import ALARM, NORMAL, SetClock, entries_of
from tests.rigs.faulty_disk import FaultyDisk

POLICIES = st.sampled_from(["drop_oldest", "drop_newest"])


class LimitsAgainstAModel(RuleBasedStateMachine):
    @initialize(normal=POLICIES, alarm=POLICIES, aged=st.booleans(), quota=st.sampled_from([12_000, 30_000]))
    def begin(self, normal, alarm, aged, quota):
        self.disk, self.clock = FaultyDisk(random.Random(0)), SetClock()
        self.options = {
            "quota_bytes": quota,
            "full": {"normal": normal, "alarm": alarm},
            "max_age_s": 1000.0 if aged else None,
            "keep_delivered_s": 500.0,
        }
        self.alarms: dict[int, bool] = {}
        self.acked = {"one": set(), "two": set()}
        self.reopen()

    @rule()
    def reopen(self):
        if hasattr(self, "db"):
            self.db.close()
        self.db = BufferDB(
            "/s", fs=self.disk, threaded=False, segment_bytes=4096, clock=self.clock, **self.options
        )
        self.consumers = {name: self.db.consumer(name) for name in self.acked}
        self.out = []

    @rule(n=st.integers(1, 60), every=st.sampled_from([0, 1, 3, 20]))
    def insert(self, n, every):
        alarms = [bool(every) and not at % every for at in range(n)]
        ids = self.db.insert_json([(ALARM if alarm else NORMAL) % 1 for alarm in alarms])
        self.alarms |= dict(zip(ids, alarms, strict=True))
        self.db.flush()

    @rule(seconds=st.sampled_from([10, 200, 600]))
    def pass_time(self, seconds):
        self.clock.pass_time(seconds)
        self.disk.now_s = self.clock.now().timestamp()
        self.db.maintain()

    @rule(
        name=st.sampled_from(["one", "two"]),
        n=st.integers(1, 80),
        newest=st.booleans(),
        lane=st.sampled_from([None, None, "alarm", "normal"]),
    )
    def take(self, name, n, newest, lane):
        batch = self.consumers[name].take(n, newest=newest, lane=lane)
        if batch is not None:
            given = {record.seq for record in batch.records}
            assert not given & self.acked[name]
            assert lane is None or {self.alarms[each] for each in given} == {lane == "alarm"}
            self.out.append((name, batch, given))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), arrived=st.booleans())
    def settle(self, data, arrived):
        name, batch, given = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if arrived:
            self.consumers[name].ack(batch)
            self.acked[name] |= given
        else:
            self.consumers[name].release(batch)

    @invariant()
    def each_reading_is_accounted_for(self):
        if not hasattr(self, "db"):
            return
        present = {document.doc_id for document in self.db}
        lost = []
        for entry in entries_of(self.db):
            ids = [
                each
                for each, alarm in self.alarms.items()
                if entry["first"] <= each <= entry["last"]
                and entry["count"]
                and alarm is (entry["lane"] == "alarm")
            ]
            assert len(ids) >= entry["count"], "more were lost than there were"
            lost += ids
        delivered = self.acked["one"] & self.acked["two"]
        assert present | set(lost) | delivered >= set(self.alarms)
        assert len(self.consumers) == 2
        for name, consumer in self.consumers.items():
            assert consumer.backlog == len(present - self.acked[name])

    def teardown(self):
        if hasattr(self, "db"):
            self.db.close()


TestLimitsAgainstAModel = LimitsAgainstAModel.TestCase
TestLimitsAgainstAModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
