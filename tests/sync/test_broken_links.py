"""What breaks the link is told from what is only on its way while it breaks: nothing is set aside for the link's sake."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from agent.spine.backoff import BackoffPolicy
from agent.spine.spine import open_spine
from agent.sync.config import MqttUpstreamOptions
from agent.sync.extent import Extent, ExtentTeller, ToldExtent
from agent.sync.losses import CONTENT_TYPE as LOSSES
from agent.sync.losses import LossTeller
from agent.sync.registry import create_sender
from agent.sync.upstream import LinkBroken, LinkLost, Unanswered
from tests.rigs.no_timing import AsMeasured
from tests.rigs.scripted_broker import CONNACK_5, read_packet, scripted_broker
from tests.sync.memory_buffer import MemoryConsumer, MemoryDeadLetters
from tests.sync.scripted_upstream import ScriptedUpstream
from tests.sync.test_sender import NoLosses, rig

if TYPE_CHECKING:
    from agent.sync.upstream import Pack

SOON = BackoffPolicy(first_s=0.001, base_s=0.001, cap_s=0.002)
CONNECT, PUBLISH, SUBSCRIBE = 0x10, 0x32, 0x82
SILENT_TIMES = 15
"""More than it takes to set one reading aside that breaks the connection."""


def breaks(*poison: int) -> Any:
    def answer(pack: Pack) -> LinkBroken | None:
        return LinkBroken("gone") if any(pack.first <= n <= pack.last for n in poison) else None

    return answer


@pytest.mark.parametrize("poison", [(7,), (7, 8), (1, 20, 39)])
async def test_whatever_breaks_it_and_nothing_else_is_set_aside(poison: tuple[int, ...]) -> None:
    upstream = ScriptedUpstream()
    upstream.always = breaks(*poison)
    async with rig(upstream, retry=SOON, readings=40) as r:
        await r.until_settled()
    assert sorted(r.letters.seqs) == list(poison)
    assert sorted(n for _, n in upstream.arrived) == [n for n in range(1, 41) if n not in poison]
    reason = r.letters.letters[0]["reason"]
    assert reason == "the other end broke the connection 11 times when it was sent, and took others"


@pytest.mark.parametrize("batch_readings", [1, 10])
async def test_a_link_that_breaks_whatever_is_sent_sets_nothing_aside(batch_readings: int) -> None:
    upstream = ScriptedUpstream()
    upstream.always = lambda _: LinkBroken("gone")
    async with rig(upstream, retry=SOON, readings=30, batch_readings=batch_readings) as r:
        await r.until(lambda: len(upstream.sent) > 200)
        upstream.always = None
        await r.until_settled()
    assert r.letters.letters == []
    assert sorted(n for _, n in upstream.arrived) == list(range(1, 31))


async def test_one_that_is_alone_stays_until_another_gets_through() -> None:
    upstream = ScriptedUpstream()
    upstream.always = breaks(1)
    async with rig(upstream, retry=SOON, readings=1) as r:
        await r.until(lambda: len(upstream.sent) > 30)
        assert r.letters.letters == []
        r.consumer.add_readings(1)
        await r.until_settled()
    assert r.letters.seqs == [1]
    assert [n for _, n in upstream.arrived] == [2]


async def test_an_alarm_that_breaks_it_blocks_no_other_lane() -> None:
    upstream = ScriptedUpstream()
    upstream.always = breaks(1)
    async with rig(upstream, retry=SOON) as r:
        r.consumer.add_readings(1, lane="alarm")
        r.consumer.add_readings(20)
        await r.until_settled()
    assert r.letters.seqs == [1]
    assert len(upstream.arrived) == 20


async def test_a_link_that_is_lost_for_other_reasons_cuts_and_sets_aside_nothing() -> None:
    upstream = ScriptedUpstream()
    upstream.answers += [LinkLost("no PUBACK")] * 50
    async with rig(upstream, retry=SOON, readings=12) as r:
        await r.until_settled()
    assert {pack.count for pack in upstream.sent} == {10, 2}
    assert r.letters.letters == []


async def test_waiting_for_a_receiver_while_the_link_breaks_is_no_fault_of_the_pack() -> None:
    upstream = ScriptedUpstream()
    upstream.gate.clear()
    async with rig(upstream, retry=SOON, readings=10) as r:
        for n in range(1, 31):
            await r.until(lambda n=n: len(upstream.sent) == n)  # type: ignore[misc]
            upstream.cut()
        upstream.gate.set()
        await r.until_settled()
    assert {pack.count for pack in upstream.sent} == {10}


class ForbidsTheLedger(ScriptedUpstream):
    """Ends the connection when it is told of the ledger, as some brokers do with whatever their rules forbid."""

    told = 0
    forbids = True

    async def send(self, pack: Pack) -> None:
        if pack.content_type != LOSSES:
            await super().send(pack)
            return
        self.told += 1
        if not self.forbids:
            return
        while not self.in_flight:
            await asyncio.sleep(0.001)
        self.cut()
        raise LinkBroken("not authorised")


def telling(retry_s: float) -> LossTeller:
    extent = Extent("d", "s", ToldExtent(upstream="cloud", begins=1, settled=0, newest=10))
    extents = ExtentTeller(lambda: [extent], every_min_s=0, every_max_s=0)
    return LossTeller("cloud", NoLosses(), lambda _: ("d", "s"), extents, retry_s=retry_s)


async def test_readings_beside_a_ledger_message_that_breaks_it_are_not_at_fault() -> None:
    upstream = ForbidsTheLedger()
    upstream.cut_error = LinkBroken("gone")
    upstream.gate.clear()
    async with rig(upstream, retry=SOON, readings=10, losses=telling(retry_s=0)) as r:
        await r.until(lambda: upstream.connects > SILENT_TIMES)
        upstream.forbids = False
        upstream.gate.set()
        await r.until_settled()
    assert {pack.count for pack in upstream.sent} == {10}
    assert r.letters.letters == []


async def test_after_a_ledger_message_that_broke_it_readings_go_first() -> None:
    upstream = ForbidsTheLedger()
    upstream.gate.clear()
    async with rig(upstream, retry=SOON, readings=10, losses=telling(retry_s=60)) as r:
        for connects in range(2, 6):
            await r.until(lambda n=connects: upstream.connects == n and upstream.in_flight == 1)  # type: ignore[misc]
            upstream.cut()
        upstream.gate.set()
        await r.until_settled()
    assert upstream.told == 1


@pytest.mark.parametrize(
    ("end", "pace"), [(LinkLost("cut"), 1.0), (LinkBroken("gone"), 1.0), (Unanswered("?"), 0.5)]
)
async def test_only_an_end_that_cannot_keep_up_makes_the_backlog_yield(end: LinkLost, pace: float) -> None:
    upstream = ScriptedUpstream()
    upstream.answers.append(end)
    slow = BackoffPolicy(first_s=30, base_s=30, cap_s=30)
    async with rig(upstream, retry=slow, readings=10) as r:
        await r.until(lambda: r.sender.status.state == "retrying")
        assert r.sender._schedule.pace == pytest.approx(pace, abs=0.1)


@pytest.mark.parametrize("how", ["no PUBACK", "no receiver", "closes at once"])
async def test_a_broker_that_is_ill_for_long_costs_no_reading(how: str) -> None:
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        ill = connections <= SILENT_TIMES
        while True:
            first, body = await read_packet(reader)
            if first == CONNECT:
                writer.write(CONNACK_5)
            elif first == SUBSCRIBE:
                writer.write(b"\x90\x04" + body[:2] + b"\x00\x01")
            elif first == PUBLISH:
                if ill and how == "closes at once":
                    return
                if not ill or how == "no receiver":
                    size = int.from_bytes(body[:2], "big")
                    writer.write(b"\x40\x02" + body[2 + size : 4 + size])
                if ill and how == "no receiver":
                    return

    consumer, letters = MemoryConsumer(), MemoryDeadLetters()
    consumer.add_readings(1)
    async with scripted_broker(script) as port, open_spine(rng=random.Random(1)) as spine:
        options = MqttUpstreamOptions.model_validate(
            {
                "url": f"mqtt://127.0.0.1:{port}",
                "ack": "receiver" if how == "no receiver" else "broker",
                "ack_timeout": "50 ms",
                "linger": 0,
                "retry": {"first": "1 ms", "base": "1 ms", "cap": "2 ms"},
            }
        )
        sender = create_sender("cloud", options, "a", consumer, letters, spine, AsMeasured())
        spine.start("sync", sender.run(), layer="sync", subject="cloud")
        async with asyncio.timeout(20):
            while consumer.backlog if how != "no receiver" else connections <= SILENT_TIMES:
                await asyncio.sleep(0.01)
        assert letters.letters == []
