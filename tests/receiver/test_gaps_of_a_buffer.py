"""Whatever befalls a real buffer, its receiver's report is right: what was lost without a word is counted exactly, nothing else is."""

from __future__ import annotations

import random
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.receiver.gaps import Missing, missing_of
from agent.receiver.store import KnownExtent, KnownLoss
from agent.sync.extent import extents_of
from buffer import BufferDB
from tests.buffer.test_ledger import Receiver
from tests.buffer.test_limits import ALARM, NORMAL, SetClock
from tests.receiver.test_gaps import coverage
from tests.rigs.faulty_disk import FaultyDisk


class GapsOfABuffer(RuleBasedStateMachine):
    """Readings are stored, dropped at a quota, removed, delivered, lost on their way, and never given a number."""

    @initialize(quota=st.sampled_from([12_000, 60_000]))
    def begin(self, quota: int) -> None:
        self.disk, self.clock, self.quota = FaultyDisk(random.Random(0)), SetClock(), quota
        self.came: set[int] = set()
        self.silent: set[int] = set()
        self.exact = True
        self.made = False
        self.ledger = Receiver()
        self.extents: dict[str, KnownExtent] = {}
        self.open()

    def open(self) -> None:
        self.db = BufferDB(
            "/s",
            fs=self.disk,
            threaded=False,
            segment_bytes=4096,
            clock=self.clock,
            quota_bytes=self.quota,
            keep_delivered_s=500.0,
            device_id="d",
        )
        if self.made:
            self.make_consumer()

    @rule()
    def make_consumer(self) -> None:
        self.consumer = self.db.consumer("cloud")
        if not self.made:  # of an entry that began before, some may be from before, and some not
            begins = self.consumer.reach.begins
            entries = [entry for _, entry in self.db.ledger.items()]
            self.exact &= not any(entry["first"] < begins <= entry["last"] for entry in entries)
        self.made = True
        self.db.ledger.feed("cloud")

    @rule()
    def reopen(self) -> None:
        self.db.close()
        self.open()

    @rule(pending=st.integers(0, 5))
    def crash(self, pending: int) -> None:
        """Numbers that were given out are skipped, since nobody knows what became of them."""
        self.db.maintain()
        self.db.insert_json([NORMAL % 1] * pending)
        self.disk = self.disk.survivor(random.Random(pending), "least")
        self.open()

    @rule(n=st.integers(1, 60), every=st.sampled_from([0, 1, 3, 20]))
    def store(self, n: int, every: int) -> None:
        self.db.insert_json([(ALARM if every and not at % every else NORMAL) % 1 for at in range(n)])
        self.db.flush()

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        there = [document.doc_id for document in self.db]
        if there:
            some = data.draw(st.lists(st.sampled_from(there), min_size=1, max_size=9))
            with patch("buffer.changing._REMOVALS_TOLD_APART", 2):
                self.db.remove(doc_ids=set(some))

    @rule(seconds=st.sampled_from([10, 600]))
    def pass_time(self, seconds: int) -> None:
        self.clock.pass_time(seconds)
        self.disk.now_s = self.clock.now().timestamp()
        self.db.maintain()

    @precondition(lambda self: self.made)
    @rule(n=st.integers(1, 80), lane=st.sampled_from([None, "alarm", "normal"]), fate=st.sampled_from("ddds"))
    def deliver(self, n: int, lane: str | None, fate: str) -> None:
        """What is lost on the way the device takes for delivered."""
        batch = self.consumer.take(n, lane=lane)
        if batch is not None:
            (self.came if fate == "d" else self.silent).update(record.seq for record in batch.records)
            self.consumer.ack(batch)

    @precondition(lambda self: self.made)
    @rule(n=st.integers(1, 80))
    def deliver_unheard(self, n: int) -> None:
        """It has come, but the device was not told: what it drops of that later is counted as lost."""
        batch = self.consumer.take(n)
        if batch is not None:
            self.exact = False
            self.came.update(record.seq for record in batch.records)
            self.consumer.release(batch)

    @precondition(lambda self: self.made)
    @rule()
    def tell(self) -> None:
        """As `LossTeller` does: first it looks how far it is, then it tells the losses, then how far it was."""
        found = extents_of("cloud", self.consumer.reach, self.db.epochs)
        for entry in self.db.ledger.untold("cloud"):
            self.ledger.take(entry)
            self.db.ledger.told("cloud", entry.version)
        for each in found:
            told = each.told
            self.extents[each.store_id] = KnownExtent(
                told.upstream,
                told.begins,
                told.since,
                told.absent,
                told.settled,
                told.newest,
                routed=False,
                aside=(),
                told_at=0.0,
            )

    def report(self) -> Missing:
        losses = [
            KnownLoss(first, last, count, why)
            for ((_, why), first), (last, count) in self.ledger.rows.items()
        ]
        return missing_of(coverage(self.came, *losses, extents=list(self.extents.values())))

    @invariant()
    def nothing_is_called_lost_that_was_not(self) -> None:
        if hasattr(self, "db") and self.extents:
            assert self.report().unexplained <= len(self.silent)

    def teardown(self) -> None:
        if not hasattr(self, "db"):
            return
        self.make_consumer()
        while (batch := self.consumer.take(100)) is not None:
            self.came.update(record.seq for record in batch.records)
            self.consumer.ack(batch)
        self.db.flush()
        self.tell()
        found = self.report()
        assert (found.under_way, found.not_judged) == (0, 0)
        if self.exact:
            assert found.unexplained == len(self.silent)
        self.db.close()


TestGapsOfABuffer = GapsOfABuffer.TestCase
TestGapsOfABuffer.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
