"""The loss ledger: bounded, its sums right, and told to receivers until they know it all."""

import random
from contextlib import contextmanager

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from buffer import BufferDB, DiskFault
from buffer.journal import Journal
from buffer.ledger import Ledger, Lost
from buffer.loss import Loss
from tests.rigs.faulty_disk import FaultyDisk


@pytest.fixture
def disk():
    return FaultyDisk(random.Random(0))


def opened(disk, now_s=lambda: 5.0, epoch_of=lambda _: "s"):
    return Ledger(Journal(disk, "/j"), "readings", now_s, epoch_of)


def told(ledger, consumer="cloud"):
    return [
        (entry.first, entry.last, entry.count, entry.lane, entry.why, entry.version)
        for entry in ledger.untold(consumer)
    ]


def test_a_loss_that_goes_on_extends_its_entry(disk):
    times = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    ledger = opened(disk, lambda: next(times))
    ledger.add("readings", Loss(1, 100, 95, "full"), lane="normal")
    ledger.add("readings", Loss(40, 40, 1, "full"), lane="alarm")
    ledger.add("readings", Loss(101, 200, 100, "full"), lane="normal")
    ledger.add("readings", Loss(201, 300, 0, "never issued"))
    ledger.add("readings", Loss(301, 310, 10, "full"), lane="normal")
    ledger.add("dead_letters", Loss(201, 210, 10, "full"), lane="normal")
    assert [entry for _, entry in opened(disk).items()] == [
        {"table": "readings", "first": 1, "last": 200, "count": 195, "lane": "normal", "why": "full"}
        | {"since": 1.0, "until": 3.0, "v": 3},
        {"table": "readings", "first": 40, "last": 40, "count": 1, "lane": "alarm", "why": "full"}
        | {"since": 2.0, "until": 2.0, "v": 2},
        {"table": "readings", "first": 201, "last": 300, "count": 0, "why": "never issued"}
        | {"since": 4.0, "until": 4.0, "v": 4},
        {"table": "readings", "first": 301, "last": 310, "count": 10, "lane": "normal", "why": "full"}
        | {"since": 5.0, "until": 5.0, "v": 5},
        {"table": "dead_letters", "first": 201, "last": 210, "count": 10, "lane": "normal", "why": "full"}
        | {"since": 6.0, "until": 6.0, "v": 6},
    ]
    assert ledger.lost() == {"full": 216}


def test_ids_of_two_identities_are_never_one_entry(disk):
    ledger = opened(disk, epoch_of=lambda each: "old" if each <= 100 else "new")
    ledger.add("readings", Loss(1, 100, 100, "full"))
    ledger.add("readings", Loss(101, 200, 100, "full"))
    assert len(ledger.items()) == 2


def test_what_is_entered_again_after_a_crash_counts_once(disk):
    ledger = opened(disk)
    for _ in range(2):
        ledger.add("readings", Loss(1, 100, 95, "damaged"), once=True)
        ledger.add("readings", Loss(101, 200, 95, "damaged"), once=True)
    assert ledger.lost() == {"damaged": 190}


def test_a_second_damage_is_no_repetition_of_the_first(disk):
    """Whether its range is in the first one's, around it, or overlaps it; entries of a kind never overlap."""
    ledger = opened(disk)
    for first, last, count, file in [(10, 500, 5, "f.1"), (50, 60, 11, "f.2"), (400, 600, 7, "f.3")]:
        for _ in range(2):
            ledger.add("readings", Loss(first, last, count, "damaged", file), once=True)
            ledger = opened(disk)
    assert told(ledger) == [(10, 600, 23, None, "damaged", 3)]
    ledger.add("readings", Loss(700, 710, 3, "damaged", "g.1"), once=True)
    ledger.add("readings", Loss(1, 800, 4, "damaged", "h.1"), once=True)
    assert told(ledger) == [(1, 800, 30, None, "damaged", 5)]


def test_what_is_told_again_may_have_grown_and_begin_elsewhere(disk):
    """The mark of what was delivered trims a loss, and may be another one after a crash."""
    ledger = opened(disk)
    for first, last, count in [(101, 500, 5), (10, 500, 5), (101, 500, 4), (101, 500, 7), (600, 601, 2)]:
        ledger.add("readings", Loss(first, last, count, "damaged", "f.1"), once=True)
    assert [entry[:3] for entry in told(ledger)] == [(10, 500, 7), (600, 601, 2)]


def test_only_the_last_files_of_an_entry_are_remembered(disk):
    ledger = opened(disk)
    for at in range(20):
        ledger.add("readings", Loss(at, at + 5, 1, "damaged", f"f.{at}") if at else Loss(1, 1, 1, "damaged"))
    ((_, entry),) = ledger.items()
    assert entry["count"] == 20
    for at in range(1, 20):
        ledger.add("readings", Loss(100 + at, 105 + at, 1, "damaged", f"f.{at}"), once=True)
    assert len(ledger.items()[-1][1]["files"]) == 8


def test_removals_that_overlap_add_up(disk):
    ledger = opened(disk)
    ledger.feed("cloud")
    ledger.add("readings", Loss(5, 5, 1, "removed"), lane="normal")
    ledger.told("cloud", 1)
    ledger.add("readings", Loss(1, 9, 4, "removed"), lane="normal")
    ledger.add("readings", Loss(2, 8, 3, "removed"), lane="alarm")
    assert told(ledger) == [(1, 9, 5, "normal", "removed", 2), (2, 8, 3, "alarm", "removed", 3)]


def test_records_without_ids_are_one_entry(disk):
    ledger = opened(disk)
    for _ in range(3):
        ledger.add("readings", Loss(0, 0, 7, "memory full"), lane="normal")
        ledger.add("readings", Loss(1, 2, 2, "full"))
    assert ledger.lost() == {"memory full": 21, "full": 6}
    assert sum(not entry["first"] for _, entry in ledger.items()) == 1


def test_a_disk_that_refuses_enters_nothing(disk):
    ledger = opened(disk)
    ledger.add("readings", Loss(1, 1, 1, "full"))
    disk.fail_when = lambda _: 5
    with pytest.raises(DiskFault):
        ledger.add("readings", Loss(2, 2, 1, "full"))
    assert ledger.dropped == 1
    disk.fail_when = lambda _: None
    ledger.add("readings", Loss(2, 2, 1, "full"))
    assert ledger.dropped == opened(disk).dropped == 2


def test_a_feed_gives_each_change_until_it_is_acknowledged(disk):
    ledger = opened(disk)
    ledger.feed("cloud")
    ledger.add("readings", Loss(1, 10, 10, "full"))
    ledger.add("dead_letters", Loss(1, 10, 10, "full"))
    assert told(ledger) == [(1, 10, 10, None, "full", 1)]
    assert told(ledger) == [(1, 10, 10, None, "full", 1)]
    ledger.told("cloud", 1)
    assert told(ledger) == []
    ledger.add("readings", Loss(11, 20, 10, "full"))
    assert told(opened(disk)) == [(1, 20, 20, None, "full", 3)]
    assert told(ledger, "other") == [(1, 20, 20, None, "full", 3)]
    ledger.told("cloud", 3)
    ledger.told("cloud", 2)
    assert told(opened(disk)) == []
    ledger.forget("cloud")
    ledger.forget("cloud")
    ledger.feed("cloud")
    assert told(ledger) == [(1, 20, 20, None, "full", 3)]


def test_each_receiver_is_told_what_it_lost(disk):
    ledger = opened(disk)
    ledger.add_all([Lost("readings", Loss(1, 10, 10, "full"), None, {"one": 10, "two": 4})])
    ledger.add_all([Lost("readings", Loss(11, 20, 10, "full"), None, {"one": 10, "two": 10})])
    ledger.add_all([Lost("readings", Loss(31, 40, 10, "full"), None, {"one": 0, "two": 10})])
    assert [entry[:3] for entry in told(ledger, "one")] == [(1, 20, 20)]
    assert [entry[:3] for entry in told(ledger, "two")] == [(1, 20, 14), (31, 40, 10)]
    assert [entry[:3] for entry in told(ledger, "new")] == [(1, 20, 20), (31, 40, 10)]


def test_entries_of_an_earlier_version_are_read_and_told(disk):
    old = {"table": "readings", "first": 1, "last": 9, "count": 9, "alarms": 2, "why": "full: oldest dropped"}
    Journal(disk, "/j").put([("ledger", "4", old)])
    ledger = opened(disk)
    assert ledger.lost() == {"full: oldest dropped": 9}
    ledger.add("readings", Loss(10, 12, 3, "full: oldest dropped"))
    assert told(ledger) == [(1, 12, 12, None, "full: oldest dropped", 1)]


class Receiver:
    """What a receiver makes of what it is told, as often and in whatever order that comes."""

    def __init__(self):
        self.rows = {}

    def take(self, entry):
        kind = (entry.lane, entry.why)
        if entry.first == 0:
            self.rows[kind, 0] = (0, max(entry.count, self.rows.get((kind, 0), (0, 0))[1]))
            return
        for (other, first), (last, count) in list(self.rows.items()):
            if other == kind and first <= entry.first and entry.last <= last and entry.count <= count:
                return
            if other == kind and entry.first <= first and last <= entry.last:
                del self.rows[other, first]
        self.rows[kind, entry.first] = (entry.last, entry.count)


class LedgerAgainstAReceiver(RuleBasedStateMachine):
    """Whoever is told knows every loss exactly in the end, however late and however often he is told."""

    def __init__(self):
        super().__init__()
        self.disk = FaultyDisk(random.Random(0))
        self.receiver, self.sent = Receiver(), []
        self.total, self.next_id = 0, 1
        self.reopen()
        self.ledger.feed("cloud")

    @rule()
    def reopen(self):
        self.ledger = opened(self.disk)

    @rule(
        gap=st.sampled_from([0, 0, 5]),
        count=st.integers(1, 20),
        why=st.sampled_from(["full", "too old", "memory"]),
        lane=st.sampled_from(["alarm", None]),
    )
    def lose(self, gap, count, why, lane):
        self.next_id += gap
        first, last = (0, 0) if why == "memory" else (self.next_id, self.next_id + count - 1)
        with small_ledgers():
            self.ledger.add("readings", Loss(first, last, count, why), lane=lane)
        self.next_id += count if first else 0
        self.total += count

    @rule(n=st.integers(1, 4), acknowledged=st.booleans())
    def tell(self, n, acknowledged):
        some = self.ledger.untold("cloud")[:n]
        for entry in some:
            self.receiver.take(entry)
        self.sent += some
        if some and acknowledged:
            self.ledger.told("cloud", some[-1].version)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def come_again(self, data):
        self.receiver.take(data.draw(st.sampled_from(self.sent)))

    @invariant()
    def sums_are_right(self):
        assert self.ledger.dropped == self.total
        assert len(self.ledger.items()) <= ENTRIES_MAX

    def teardown(self):
        for entry in self.ledger.untold("cloud"):
            self.receiver.take(entry)
        assert sum(count for _, count in self.receiver.rows.values()) == self.total


ENTRIES_MAX = 8


@contextmanager
def small_ledgers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("buffer.ledger._ENTRIES_MAX", ENTRIES_MAX)
        yield


TestLedgerAgainstAReceiver = LedgerAgainstAReceiver.TestCase
TestLedgerAgainstAReceiver.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_thousand_entries_and_no_more(disk):
    db = BufferDB("/s", fs=disk, threaded=False)
    for at in range(1, 1_030):
        db.ledger.add("readings", Loss(at * 10, at * 10 + 3, 4, "damaged"))
    assert len(db.ledger.items()) == 1_000
    assert db.ledger.dropped == 4 * 1_029
    first, *_ = db.ledger.unexplained("readings", 1, 10_299)
    assert first == (294, 299), "folded ones are explained"
    db.ledger.feed("cloud")
    for at in range(1_030, 1_040):
        db.ledger.add("readings", Loss(at * 10, at * 10 + 3, 4, "damaged"))
    assert len(db.ledger.items()) == 1_000
    assert db.ledger.dropped == 4 * 1_039
    assert sum(entry.count for entry in db.ledger.untold("cloud")) == 4 * 1_010, "none of them goes untold"
