"""The sender's rules, against an upstream that does what the test says."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.spine.backoff import BackoffPolicy
from agent.spine.spine import Spine, open_spine
from agent.sync.aside import SetAside
from agent.sync.extent import ExtentTeller
from agent.sync.feeder import SendOptions
from agent.sync.frozen import StoredBounds
from agent.sync.limits import Limit
from agent.sync.losses import LossTeller
from agent.sync.outbox import SEARCH_PAYS_READINGS, SEARCHES_MAX
from agent.sync.packing import Packer
from agent.sync.schedule import SchedulePolicy
from agent.sync.sender import Sender
from agent.sync.upstream import LinkBroken, LinkLost, Paused, Rejected, RetryLater, TooLarge
from collectors.interfaces import IErrorHandler
from tests.rigs.no_timing import AsMeasured
from tests.sync.memory_buffer import MemoryConsumer, MemoryDeadLetters, reading
from tests.sync.scripted_upstream import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.sync.frozen import FrozenBounds
    from agent.sync.routes import Route
    from collectors.enums import ErrorType
    from collectors.models import ErrorInfo

QUICK = BackoffPolicy(first_s=0.01, base_s=0.01, cap_s=0.02, stable_s=60)


class Heard(IErrorHandler):
    def __init__(self) -> None:
        self.errors: list[ErrorInfo] = []

    async def handle_error(self, error: ErrorInfo) -> None:
        self.errors.append(error)

    def can_handle(self, error_type: ErrorType) -> bool:
        return True


class Rig:
    def __init__(
        self,
        spine: Spine,
        upstream: ScriptedUpstream,
        retry: BackoffPolicy,
        options: SendOptions,
        policy: SchedulePolicy | None,
        route: Route | None,
        frozen: FrozenBounds | None,
        consumer: MemoryConsumer | None,
        losses: LossTeller | None,
    ) -> None:
        self.consumer = consumer or MemoryConsumer()
        self.letters = MemoryDeadLetters()
        self.upstream = upstream
        self.heard = Heard()
        spine.errors.add_handler(self.heard)
        self.sender = Sender(
            "cloud",
            self.consumer,
            upstream,
            spine,
            packer=Packer(upstream.max_payload_bytes),
            retry=retry,
            dead_letters=self.letters,
            options=options,
            timing=AsMeasured(),
            policy=policy,
            route=route,
            frozen=frozen,
            losses=losses,
        )

    @property
    def settled(self) -> bool:
        return self.consumer.backlog == 0

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.002)

    async def until_settled(self) -> None:
        await self.until(lambda: self.settled)


@asynccontextmanager
async def rig(
    upstream: ScriptedUpstream | None = None,
    *,
    retry: BackoffPolicy = QUICK,
    batch_readings: int = 10,
    linger_s: float = 0.0,
    readings: int = 0,
    policy: SchedulePolicy | None = None,
    route: Route | None = None,
    frozen: FrozenBounds | None = None,
    consumer: MemoryConsumer | None = None,
    losses: LossTeller | None = None,
) -> AsyncIterator[Rig]:
    async with open_spine(rng=random.Random(1)) as spine:
        options = SendOptions(batch_readings, 48 * 1024, linger_s)
        made = Rig(
            spine, upstream or ScriptedUpstream(), retry, options, policy, route, frozen, consumer, losses
        )
        if readings:
            made.consumer.add_readings(readings)
        _, task = spine.start("sync", made.sender.run(), layer="sync", subject="cloud")
        yield made
        assert not task.done(), "the sender ended by itself"


async def test_everything_arrives_once_in_order_and_is_acknowledged_exactly() -> None:
    async with rig(readings=95) as r:
        await r.until_settled()
        assert r.upstream.arrived == [("soil", n) for n in range(1, 96)]
        assert r.consumer.acks[0] == (1, 10)
        assert max(r.consumer.acks) == (91, 95)
        assert len(r.upstream.sent) == 10
        status = r.sender.status
        assert (status.state, status.backlog, status.in_flight, status.delivered) == ("connected", 0, 0, 95)
        assert status.holding_back is None
        assert status.last_delivery is not None


async def test_the_window_opens_at_the_first_acknowledgement_and_is_kept() -> None:
    upstream = ScriptedUpstream(max_in_flight=4)
    upstream.gate.clear()
    async with rig(upstream, readings=200) as r:
        await r.until(lambda: upstream.in_flight == 1)
        await asyncio.sleep(0.02)
        assert len(upstream.sent) == 1, "one goes alone"
        upstream.gate.set()
        await r.until(lambda: len(upstream.acknowledged) > 0)
        upstream.gate.clear()
        await r.until(lambda: upstream.in_flight == 4)
        upstream.gate.set()
        await r.until_settled()
    assert upstream.in_flight_max == 4


async def test_a_lost_link_resends_the_same_bytes_oldest_first_before_anything_new() -> None:
    upstream = ScriptedUpstream(max_in_flight=3)
    async with rig(upstream, readings=10) as r:
        await r.until_settled()
        upstream.gate.clear()
        r.consumer.add_readings(60)
        await r.until(lambda: upstream.in_flight == 3)
        before = upstream.sent[1:4]
        upstream.cut()
        await r.until(lambda: upstream.connects == 2)
        upstream.gate.set()
        await r.until_settled()
        assert upstream.sent[4:7] == before
        assert upstream.arrived == [("soil", n) for n in range(1, 71)]


async def test_nothing_is_acknowledged_that_the_upstream_did_not_acknowledge() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda _: RetryLater("busy")
    async with rig(upstream, readings=30) as r:
        await r.until(lambda: len(upstream.sent) > 5)
        assert r.consumer.acks == []
        assert set(upstream.sent_bounds) == {(1, 10)}, "the oldest is tried again and again, alone"
        status = r.sender.status
        assert status.state == "retrying"
        assert status.oldest is not None
        assert status.oldest.timestamp() == 1790000001.0
        assert status.holding_back is not None
        assert "busy" in status.holding_back


async def test_one_report_a_change_of_state() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda _: RetryLater("busy")
    async with rig(upstream, readings=5) as r:
        await r.until(lambda: len(upstream.sent) > 5)
        assert [e.message for e in r.heard.errors] == ["busy"]
        assert (r.heard.errors[0].layer_name, r.heard.errors[0].operation) == ("sync", "deliver")
        upstream.always = None
        await r.until_settled()
        assert len(r.heard.errors) == 1
        assert r.sender.status.state == "connected"


async def test_a_server_that_says_when_is_not_asked_before() -> None:
    upstream = ScriptedUpstream(lasting=False, max_in_flight=1)
    asked_s: list[float] = []

    def answer(_: Any) -> RetryLater | None:
        asked_s.append(asyncio.get_running_loop().time())
        return RetryLater("429", retry_after_s=0.3) if len(asked_s) == 1 else None

    upstream.always = answer
    async with rig(upstream, readings=5) as r:
        await r.until(lambda: len(asked_s) == 2)
        assert asked_s[1] - asked_s[0] >= 0.3


async def test_too_large_is_cut_until_it_fits_and_acknowledged_as_one() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda pack: TooLarge("413") if pack.count > 3 else None
    async with rig(upstream, readings=10) as r:
        await r.until_settled()
        assert r.consumer.acks == [(1, 10)]
        assert upstream.arrived == [("soil", n) for n in range(1, 11)]
        assert r.letters.letters == []


async def test_one_reading_that_alone_is_too_large_is_set_aside() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda pack: TooLarge("413") if pack.first <= 7 <= pack.last else None
    async with rig(upstream, readings=10) as r:
        await r.until_settled()
        assert r.letters.seqs == [7]
        assert [n for _, n in upstream.arrived] == [1, 2, 3, 4, 5, 6, 8, 9, 10]


async def test_a_pack_beyond_the_known_limit_is_cut_before_it_is_sent() -> None:
    upstream = ScriptedUpstream(max_payload_bytes=600)
    async with rig(upstream, batch_readings=9) as r:
        r.consumer.add_readings(8)
        r.consumer.add(reading("soil", 9, tags={"note": "x" * 1000}))
        await r.until_settled()
        assert all(len(pack.payload) <= 600 for pack in upstream.sent)
        assert r.letters.seqs == [9]
        assert r.consumer.acks == [(1, 9)]


async def test_a_poison_batch_is_set_aside_whole_and_blocks_nobody() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda pack: Rejected("400 no") if pack.first == 11 else None
    async with rig(upstream, readings=50) as r:
        await r.until_settled()
        (letter,) = r.letters.letters
        assert letter["stage"] == "upstream"
        assert letter["upstream"] == "cloud"
        assert letter["reason"] == "400 no"
        assert (letter["device_id"], letter["store_id"]) == ("greenhouse-3", "5a" * 16)
        assert letter["readings"] == [[n, reading("soil", n)] for n in range(11, 21)]
        assert r.sender.status.dead_letters == 10
        assert len(upstream.arrived) == 40
        assert len(r.heard.errors) == 1


@pytest.mark.parametrize("poison", [{37}, {1}, {200}, {37, 38}, {3, 190}])
async def test_readings_that_a_batch_is_refused_for_are_set_aside_and_all_others_arrive(
    poison: set[int],
) -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda pack: (
        Rejected("400 a line", in_part=True) if poison & set(range(pack.first, pack.last + 1)) else None
    )
    async with rig(upstream, batch_readings=200) as r:
        r.consumer.add_readings(200)
        await r.until_settled()
        assert sorted(r.letters.seqs) == sorted(poison)
        assert [seq for _, seq in upstream.arrived] == sorted(set(range(1, 201)) - poison)
        assert len(upstream.sent) < 40
        assert r.consumer.acks == [(1, 200)]


async def test_the_search_for_what_is_refused_goes_on_while_it_pays() -> None:
    poison = set(range(50, 1001, 50))
    upstream = ScriptedUpstream()
    upstream.always = lambda pack: (
        Rejected("400 a line", in_part=True) if poison & set(range(pack.first, pack.last + 1)) else None
    )
    async with rig(upstream, batch_readings=1000) as r:
        r.consumer.add_readings(1000)
        await r.until_settled()
        assert sorted(r.letters.seqs) == sorted(poison)
        assert [seq for _, seq in upstream.arrived] == sorted(set(range(1, 1001)) - poison)
        assert len(upstream.sent) <= 1 + 2 * (SEARCHES_MAX + 980 / SEARCH_PAYS_READINGS)


async def test_the_search_for_what_is_refused_has_an_end() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda pack: Rejected("400", in_part=True) if pack.last > 100 else None
    async with rig(upstream, batch_readings=1000) as r:
        r.consumer.add_readings(1000)
        await r.until_settled()
        assert sorted(r.letters.seqs) == list(range(101, 1001))
        assert len(upstream.sent) < 100


async def test_a_record_that_is_no_reading_is_set_aside_alone() -> None:
    async with rig(batch_readings=10) as r:
        r.consumer.add_readings(6)
        r.consumer.add({"source": "soil", "t": 1.0, "values": {}}, {"hello": "\ud800"})
        r.consumer.add_readings(4)
        await r.until_settled()
        assert r.letters.seqs == [7, 8]
        assert len(r.upstream.arrived) == 10


async def test_a_dead_letter_that_cannot_be_kept_is_not_acknowledged() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda pack: Rejected("no") if pack.first == 1 else None
    async with rig(upstream) as r:
        r.letters.failures = [OSError("disk full"), RuntimeError("buffer full")]
        r.consumer.add_readings(10)
        await r.until(lambda: not r.letters.failures)
        assert (1, 10) not in r.consumer.acks
        await r.until_settled()
        assert r.letters.seqs == list(range(1, 11))


async def test_a_disk_that_refuses_dead_letters_holds_up_nothing_else() -> None:
    upstream = ScriptedUpstream(max_in_flight=3)
    upstream.always = lambda pack: Rejected("no") if pack.first == 11 else None
    async with rig(upstream) as r:
        r.letters.disk.clear()
        r.consumer.add_readings(50)
        await r.until(lambda: r.consumer.backlog == 10)
        assert r.letters.seqs == list(range(11, 21))
        upstream.cut()  # is noticed
        await r.until(lambda: upstream.connects == 2)
        r.consumer.add_readings(20)
        await r.until(lambda: r.consumer.backlog == 10)
        assert (11, 20) not in r.consumer.acks
        assert r.sender.status.dead_letters == 0
        r.letters.disk.set()
        await r.until_settled()
        assert r.letters.seqs == list(range(11, 21)), "one letter"
        assert upstream.sent_bounds.count((11, 20)) == 1
        assert r.sender.status.dead_letters == 10


async def test_a_wrong_address_does_not_turn_the_backlog_into_dead_letters() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda _: Rejected("422 whatever it is")
    slow = BackoffPolicy(first_s=30, base_s=30, cap_s=300)
    async with rig(upstream, retry=slow, readings=200) as r:
        await r.until(lambda: r.sender.status.state == "paused")
        await asyncio.sleep(0.05)
        assert len(r.letters.letters) <= 3
        assert "3 batches in a row" in (r.sender.status.holding_back or "")


async def test_everything_too_large_does_not_turn_the_backlog_into_dead_letters() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda _: TooLarge("413")
    slow = BackoffPolicy(first_s=30, base_s=30, cap_s=300)
    async with rig(upstream, retry=slow, readings=200) as r:
        await r.until(lambda: r.sender.status.state == "paused")
        await asyncio.sleep(0.05)
        assert len(r.letters.letters) <= 3
        assert len(r.heard.errors) <= 4
        assert "3 batches in a row" in (r.sender.status.holding_back or "")


async def test_a_connection_that_breaks_now_and_then_cuts_nothing() -> None:
    upstream = ScriptedUpstream(max_in_flight=1)
    upstream.answers += [LinkBroken("gone"), LinkBroken("gone"), None, None] * 5
    retry = BackoffPolicy(first_s=0.001, base_s=0.001, cap_s=0.002)
    async with rig(upstream, retry=retry, readings=200) as r:
        await r.until_settled()
        assert {pack.count for pack in upstream.sent} == {10}
        assert [n for _, n in upstream.arrived] == list(range(1, 201))


async def test_a_pause_is_told_and_ends_by_itself() -> None:
    upstream = ScriptedUpstream()
    upstream.answers += [Paused("401: check the credentials")] * 2
    async with rig(upstream, readings=5) as r:
        await r.until(lambda: r.sender.status.state == "paused")
        assert "check the credentials" in (r.sender.status.holding_back or "")
        await r.until_settled()
        assert r.sender.status.state == "connected"


async def test_connect_failures_are_retried_for_ever() -> None:
    upstream = ScriptedUpstream()
    upstream.connect_answers += [
        RetryLater("refused"),
        Paused("bad password"),
        RetryLater("refused"),
        LinkLost("x"),
    ]
    async with rig(upstream, readings=5) as r:
        await r.until_settled()
        assert upstream.connects == 5
        assert [e.message for e in r.heard.errors] == ["refused", "bad password", "refused"]


async def test_a_bug_in_an_upstream_is_reported_and_survived() -> None:
    upstream = ScriptedUpstream()
    upstream.answers.append(lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    async with rig(upstream, readings=5) as r:
        await r.until_settled()
        assert any(e.is_critical and "division" in e.message for e in r.heard.errors)


async def test_an_upstream_that_cannot_even_be_closed_keeps_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream = ScriptedUpstream()
    disconnect = upstream.disconnect

    async def fail_once() -> None:
        monkeypatch.setattr(upstream, "disconnect", disconnect)
        raise RuntimeError("a bug in closing")

    monkeypatch.setattr(upstream, "disconnect", fail_once)
    upstream.gate.clear()
    async with rig(upstream, readings=20) as r:
        await r.until(lambda: upstream.in_flight > 0)
        upstream.cut()
        await r.until(lambda: upstream.connects > 1)
        upstream.gate.set()
        await r.until_settled()
        assert r.upstream.arrived == [("soil", n) for n in range(1, 21)]


async def test_a_buffer_that_cannot_be_read_is_reported_and_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as r:
        take, failures = r.consumer.take, [OSError("EIO")]

        async def sick(n: int, max_bytes: int | None = None, **part: Any) -> Any:
            if failures:
                raise failures.pop()
            return await take(n, max_bytes, **part)

        monkeypatch.setattr(r.consumer, "take", sick)
        monkeypatch.setattr("agent.sync.feeder.FAULT_WAIT_S", 0.01)
        r.consumer.add_readings(5)
        await r.until_settled()
        assert any(e.is_critical for e in r.heard.errors)


async def test_a_backlog_that_cannot_be_read_holds_up_no_other_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.sync.feeder.FAULT_WAIT_S", 0.01)
    async with rig(readings=20) as r:
        take, ill = r.consumer.take, True

        async def sick(n: int, max_bytes: int | None = None, **part: Any) -> Any:
            if ill and part.get("upto"):
                raise OSError("EIO")
            return await take(n, max_bytes, **part)

        monkeypatch.setattr(r.consumer, "take", sick)
        await r.until(lambda: any(e.is_critical for e in r.heard.errors))
        r.consumer.add_readings(5)
        r.consumer.add_readings(1, lane="alarm")
        await r.until(lambda: r.consumer.backlog == 20)
        assert r.upstream.connects == 1
        assert sum("EIO" in e.message for e in r.heard.errors) == 1
        assert "EIO" in (r.sender.status.last_error or "")
        ill = False
        await r.until_settled()


async def test_what_was_taken_is_given_back_at_the_end() -> None:
    upstream = ScriptedUpstream()
    upstream.gate.clear()
    async with rig(upstream, readings=100) as r:
        await r.until(lambda: upstream.in_flight == 1 and len(r.consumer.taken) == 5)
        consumer = r.consumer
    assert consumer.taken == {}
    assert consumer.backlog == 100
    assert not upstream.connected


async def test_ids_that_are_no_readings_make_nobody_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def ready(timeout_s: float, **_: Any) -> bool:
        return True

    async def nothing(n: int, max_bytes: int | None = None, **_: Any) -> Any:
        nonlocal asked
        asked += 1

    async with rig() as r:
        monkeypatch.setattr(r.consumer, "wait", ready)
        monkeypatch.setattr(r.consumer, "take", nothing)
        await asyncio.sleep(0.1)
    assert asked <= 6, "two a lane"


async def test_readings_linger_to_fill_a_batch() -> None:
    async with rig(batch_readings=100, linger_s=0.3) as r:
        await r.until(lambda: r.sender.status.state == "connected")
        for _ in range(5):
            r.consumer.add_readings(10)
            await asyncio.sleep(0.02)
        await r.until_settled()
        assert len(r.upstream.sent) == 1


async def test_a_full_batch_does_not_linger() -> None:
    async with rig(batch_readings=10, linger_s=3600, readings=100) as r:
        async with asyncio.timeout(5):
            await r.until_settled()


async def test_draining_does_not_linger() -> None:
    async with rig(batch_readings=100, linger_s=3600, readings=5) as r:
        await r.until(lambda: r.sender.status.state == "connected")
        assert await r.sender.drain(5)
        assert r.settled


async def test_draining_gives_up_when_delivery_fails() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda _: RetryLater("away")
    async with rig(upstream, readings=5) as r:
        async with asyncio.timeout(5):
            assert not await r.sender.drain(3600)


async def test_draining_ends_at_its_deadline() -> None:
    upstream = ScriptedUpstream()
    upstream.gate.clear()
    async with rig(upstream, readings=5) as r:
        assert not await r.sender.drain(0.1)


outcomes = st.sampled_from(
    [None, None, RetryLater("busy"), LinkLost("cut"), LinkBroken("cut"), TooLarge("413"), Paused("401")]
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    answers=st.lists(outcomes, max_size=15),
    connects=st.lists(st.sampled_from([None, RetryLater("refused")]), max_size=5),
    window=st.just(1),
    count=st.integers(1, 80),
)
def test_whatever_happens_all_arrives_in_order(answers: Any, connects: Any, window: int, count: int) -> None:
    async def run() -> None:
        upstream = ScriptedUpstream(max_in_flight=window)
        upstream.answers += answers
        upstream.connect_answers += connects
        retry = BackoffPolicy(first_s=0.001, base_s=0.001, cap_s=0.002)
        async with rig(upstream, retry=retry, readings=count) as r:
            await r.until_settled()
            expected = [n for n in range(1, count + 1) if n not in r.letters.seqs]
            assert [n for _, n in upstream.arrived] == expected
            assert sum(last - first + 1 for first, last in r.consumer.acks) == count

    asyncio.run(run())


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 12), max_size=6), window=st.integers(2, 5), count=st.integers(1, 120))
def test_cuts_with_a_full_window_keep_the_order(cuts: list[int], window: int, count: int) -> None:
    async def run() -> None:
        upstream = ScriptedUpstream(max_in_flight=window)
        upstream.always = lambda _: None
        due = set(cuts)

        def answer(_: Any) -> None:
            if len(upstream.sent) in due:
                due.discard(len(upstream.sent))
                upstream.cut()

        upstream.always = answer
        retry = BackoffPolicy(first_s=0.001, base_s=0.001, cap_s=0.002)
        async with rig(upstream, retry=retry, readings=count) as r:
            await r.until_settled()
            assert [n for _, n in upstream.arrived] == list(range(1, count + 1))

    asyncio.run(run())


async def test_what_is_measured_now_goes_before_the_backlog_and_alarms_before_all() -> None:
    upstream = ScriptedUpstream(max_in_flight=1)
    upstream.gate.clear()
    async with rig(upstream, readings=500) as r:
        await r.until(lambda: upstream.in_flight == 1)
        r.consumer.add_readings(10)
        r.consumer.add_readings(10, lane="alarm")
        await r.until(lambda: len(r.consumer.taken) == 4)
        upstream.gate.set()
        await r.until_settled()
    assert upstream.sent_bounds[:4] == [(1, 10), (511, 520), (501, 510), (11, 20)]
    assert [n for _, n in upstream.arrived if n <= 500] == list(range(1, 501))


async def test_after_an_outage_both_lanes_go_on_in_order_and_live_is_what_came_since() -> None:
    upstream = ScriptedUpstream(max_in_flight=1)
    async with rig(upstream) as r:
        await r.until(lambda: r.sender.status.state == "connected")
        upstream.gate.clear()
        r.consumer.add_readings(10)
        await r.until(lambda: upstream.in_flight == 1)
        upstream.connect_answers += [RetryLater("away")] * 3
        upstream.cut()
        await r.until(lambda: r.sender.status.state == "retrying")
        r.consumer.add_readings(90)
        await r.until(lambda: upstream.connects == 5)
        await r.until(lambda: upstream.in_flight == 1)
        r.consumer.add_readings(10)
        await r.until(lambda: (101, 110) in r.consumer.taken)
        upstream.gate.set()
        await r.until_settled()
    order = [n for _, n in upstream.arrived]
    assert sorted(order) == list(range(1, 111))
    assert order[:20] == [*range(1, 11), *range(101, 111)], "what was on its way, then what is new"
    assert order[20:] == list(range(11, 101))


async def test_limits_of_the_other_end_are_kept_in_every_lane() -> None:
    upstream = ScriptedUpstream(max_in_flight=10)
    limits = [Limit("messages", 4, 0.2)]
    async with rig(upstream, readings=100, policy=SchedulePolicy(limits=limits)) as r:
        begun_s = asyncio.get_running_loop().time()
        await r.until_settled()
        assert asyncio.get_running_loop().time() - begun_s > 0.38, "ten messages, four in a window"


class Table:
    """A small durable table."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.rows.get(key)

    async def put(self, key: str, value: Any) -> None:
        self.rows[key] = value


@pytest.mark.parametrize("end", ["stopped", "cut"])
async def test_after_a_restart_what_was_sent_is_sent_as_it_was(end: str) -> None:
    table, consumer = Table(), MemoryConsumer()
    upstream = ScriptedUpstream(max_in_flight=3)
    async with rig(upstream, batch_readings=100, frozen=StoredBounds(table, "cloud"), consumer=consumer) as r:
        await r.until(lambda: r.sender.status.state == "connected")
        consumer.add_readings(5)
        await r.until_settled()
        upstream.gate.clear()
        for count in (3, 4, 5):
            already = upstream.in_flight
            consumer.add_readings(count)
            await r.until(lambda already=already: upstream.in_flight == already + 1)  # type: ignore[misc]
        if end == "cut":
            upstream.connect_answers += [RetryLater("away")] * 1000
            upstream.cut()
            await r.until(lambda: bool(table.rows))
        else:
            assert not await r.sender.drain(0.05)
    sent = upstream.sent[1:4]
    assert [(pack.first, pack.last) for pack in sent] == [(6, 8), (9, 12), (13, 17)]
    consumer.add_readings(20)
    again = ScriptedUpstream(max_in_flight=3)
    async with rig(again, batch_readings=100, frozen=StoredBounds(table, "cloud"), consumer=consumer) as r:
        await r.until_settled()
    assert again.sent[:3] == sent
    assert again.sent_bounds[3:] == [(18, 37)]


async def test_bounds_that_nobody_understands_are_forgotten() -> None:
    table = Table()
    table.rows["cloud"] = [["sideways", 1, 2]]
    async with rig(readings=5, frozen=StoredBounds(table, "cloud")) as r:
        await r.until_settled()


class SickTable(Table):
    """On a disk that takes nothing any more."""

    async def put(self, key: str, value: Any) -> None:
        raise RuntimeError("read-only file system")


async def test_bounds_that_cannot_be_kept_hold_nothing_up() -> None:
    upstream = ScriptedUpstream()
    async with rig(upstream, readings=30, frozen=StoredBounds(SickTable(), "cloud")) as r:
        upstream.gate.clear()
        await r.until(lambda: upstream.in_flight == 1)
        upstream.cut()
        await r.until(lambda: len(upstream.sent) == 2)
        assert not await r.sender.drain(0.05)
        upstream.gate.set()
        await r.until_settled()
    assert [n for _, n in upstream.arrived] == list(range(1, 31))
    assert [error.operation for error in r.heard.errors].count("keep_bounds") == 1


class NoLosses:
    async def untold(self) -> list[Any]:
        return []

    async def told(self, version: int) -> None:
        raise AssertionError(version)


async def test_what_was_set_aside_and_cannot_be_noted_for_the_receiver_holds_nothing_up() -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda pack: Rejected("400 no") if pack.first == 11 else None
    extents = ExtentTeller(lambda: (), SetAside(SickTable(), "cloud"))
    losses = LossTeller("cloud", NoLosses(), lambda _: ("d", "s"), extents)
    async with rig(upstream, readings=50, losses=losses) as r:
        await r.until_settled()
    assert len(upstream.arrived) == 40
    assert r.letters.seqs == list(range(11, 21))
    assert r.sender.status.dead_letters == 10
    assert [error.operation for error in r.heard.errors] == ["note_aside", "deliver"]


class _CannotLetGo(ScriptedUpstream):
    """An upstream whose clean-up fails when it is stopped in the middle of connecting."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def connect(self) -> None:
        self.connects += 1
        try:
            await asyncio.Event().wait()
        finally:
            raise self.error


@pytest.mark.parametrize("error", [LinkLost("on closing"), OSError("on closing")], ids=["its own", "another"])
async def test_who_is_stopped_stops_though_cleaning_up_fails(error: Exception) -> None:
    upstream = _CannotLetGo(error)
    async with asyncio.timeout(10), rig(upstream, readings=1) as r:
        await r.until(lambda: upstream.connects == 1)
    assert upstream.connects == 1
    assert r.sender.status.state == "stopped"


async def test_a_lane_that_is_stopped_stops_though_cleaning_up_fails() -> None:
    waits = asyncio.Event()

    class Consumer(MemoryConsumer):
        async def wait(self, *args: Any, **kwargs: Any) -> bool:
            waits.set()
            try:
                return await super().wait(*args, **kwargs)
            except asyncio.CancelledError:
                raise OSError("on closing") from None

    async with asyncio.timeout(10), rig(consumer=Consumer()) as r:
        await waits.wait()
    assert r.sender.status.state == "stopped"
