"""What an upstream does not want is acknowledged for it, with a connection and without; the rest arrives."""

from __future__ import annotations

import asyncio

import pytest

from agent.sync.config import MqttUpstreamOptions
from agent.sync.limits import Limit, parse_limit
from agent.sync.requeued import LetterBatch, LetterRecord, Requeued, RequeueingConsumer
from agent.sync.routes import Route
from agent.sync.upstream import RetryLater
from tests.sync.memory_buffer import MemoryConsumer, reading
from tests.sync.scripted_upstream import ScriptedUpstream
from tests.sync.test_sender import rig

URL = "mqtt://localhost"


def test_each_part_that_is_set_must_fit():
    document = reading("soil", 1, lane="alarm", tags={"site": "north", "room": "7"})
    assert Route().wants(document)
    assert Route(frozenset({"soil"}), frozenset({"alarm"}), {"site": "north"}).wants(document)
    assert not Route(sources=frozenset({"hall"})).wants(document)
    assert not Route(lanes=frozenset({"normal"})).wants(document)
    assert not Route(tags={"site": "south"}).wants(document)
    assert Route(lanes=frozenset({"normal"})).wants(reading("soil", 1))
    assert not Route(tags={"site": "south"}).wants(reading("soil", 1))
    assert Route(sources=frozenset({"hall"})).wants({"hello": "world"}), "to be set aside"


async def test_the_wanted_arrive_and_nothing_else_is_kept():
    upstream = ScriptedUpstream()
    async with rig(upstream, batch_readings=7, route=Route(sources=frozenset({"soil"}))) as r:
        for _ in range(5):
            r.consumer.add_readings(10, "hall")
            r.consumer.add_readings(3, "soil")
        await r.until_settled()
    assert {source for source, _ in upstream.arrived} == {"soil"}
    assert len(upstream.arrived) == 15


async def test_the_unwanted_do_not_wait_for_a_connection():
    upstream = ScriptedUpstream()
    upstream.connect_answers += [RetryLater("away")] * 100_000
    async with rig(upstream, route=Route(lanes=frozenset({"alarm"}))) as r:
        r.consumer.add_readings(200)
        r.consumer.add_readings(1, lane="alarm")
        r.consumer.add_readings(99)
        await r.until(lambda: r.consumer.backlog == 10)
        await asyncio.sleep(0.05)
        assert r.consumer.backlog == 10, "the batch with the alarm in it"
        upstream.connect_answers.clear()
        await r.until_settled()
    assert [n for _, n in upstream.arrived] == [201]


NO_READINGS = [
    {"hello": "world"},
    {"source": None},
    {"source": ["soil"], "values": {}},
    {"source": "soil", "lane": {}},
    {"source": "soil", "tags": None},
    {"source": "soil", "tags": ["site"]},
]


@pytest.mark.parametrize("document", NO_READINGS)
def test_what_is_no_reading_goes_everywhere_to_be_set_aside(document):
    assert Route(frozenset({"hall"}), frozenset({"alarm"}), {"site": "north"}).wants(document)


class SickRoute(Route):
    """A fault of ours, or of the disk beneath the records, that passes."""

    def __init__(self):
        super().__init__(frozenset({"soil"}))
        object.__setattr__(self, "faults", [ValueError("sick")] * 3)

    def wants(self, document):
        if self.faults:
            raise self.faults.pop()
        return super().wants(document)


@pytest.mark.parametrize("away", [0, 2])
async def test_what_cannot_be_judged_is_given_back_and_comes_again(away, monkeypatch):
    monkeypatch.setattr("agent.sync.feeder.FAULT_WAIT_S", 0.01)
    upstream = ScriptedUpstream()
    upstream.connect_answers += [RetryLater("away")] * away
    async with rig(upstream, readings=20, route=SickRoute()) as r:
        await r.until_settled()
    assert [n for _, n in upstream.arrived] == list(range(1, 21))


async def test_a_dead_letter_that_is_sent_again_is_sent_whole():
    """Whether it should go there at all was decided when it was ordered."""
    letter = LetterBatch(
        7,
        "greenhouse-3",
        "5a" * 16,
        [LetterRecord(n, reading(s, n)) for n, s in enumerate(("soil", "hall"), 1)],
    )
    done, upstream = [], ScriptedUpstream()

    async def load(_):
        return letter

    requeued = Requeued(load, done.append, lambda *_: None)
    requeued.add(7, 2)
    upstream.gate.clear()
    async with rig(
        upstream,
        route=Route(frozenset({"soil"})),
        consumer=RequeueingConsumer(MemoryConsumer(), requeued),
        frozen=(frozen := Bounds()),
    ) as r:
        await r.until(lambda: len(upstream.sent) == 1)
        upstream.cut()
        await r.until(lambda: len(upstream.sent) == 2)
        assert not done
        upstream.gate.set()
        await r.until(lambda: done == [7])
    assert [n for _, n in upstream.arrived] == [1, 2]
    assert frozen.saved == [], "it has no bounds in the buffer"


class Bounds:
    def __init__(self):
        self.saved = []

    def load(self):
        return []

    async def save(self, bounds):
        self.saved += bounds


def test_routes_and_limits_as_configured():
    options = MqttUpstreamOptions.model_validate(
        {"url": URL, "sources": ["soil"], "lanes": ["alarm"], "limits": ["8 messages/s", "512 KB / 10 min"]}
    )
    assert options.route() == Route(frozenset({"soil"}), frozenset({"alarm"}))
    assert options.policy().limits == (Limit("messages", 8, 1.0), Limit("bytes", 512_000, 600.0))
    assert MqttUpstreamOptions.model_validate({"url": URL}).route() is None


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1 message/2 s", Limit("messages", 1, 2.0)),
        ("1000 points/min", Limit("points", 1000, 60.0)),
        ("512KB/s", Limit("bytes", 512_000, 1.0)),
    ],
)
def test_limits_are_written_as_one_says_them(text, limit):
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    "text", ["8", "8/s", "0 messages/s", "8 messages", "many messages/s", "8 messages/0 s"]
)
def test_what_is_no_limit_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="write it like"):
        parse_limit(text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limits": ["1 KB/s"]}, "message_size"),
        ({"limits": ["fast"]}, "write it like"),
        ({"backlog": {"share": 0.01}}, "share_min"),
    ],
)
def test_what_cannot_work_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        MqttUpstreamOptions.model_validate({"url": URL, **options})
