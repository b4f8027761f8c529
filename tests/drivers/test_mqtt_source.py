"""MQTT as a source: acknowledged when safe, redelivered and recognisable when not."""

import asyncio
import contextlib
import hashlib
import random
import re

import pytest

from collectors.clock import SystemClock
from collectors.interfaces import Acknowledging, IDataSource, Remarking, Remembering
from collectors.metadata_keys import (
    ACK_TOKEN,
    METRIC,
    NEW_SESSION,
    ORIGIN,
    REDELIVERED,
    RETAINED,
    TAGS,
    UP_NS,
)
from collectors.models import CollectedData, Origin
from drivers.mqtt.config import MqttSourceConfig
from drivers.mqtt.source import MqttSource
from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.proxy import ChaosProxy
from tests.rigs.scripted_broker import CONNACK_5, CONNACK_5_RESUMED, publish_5, read_packet, scripted_broker

PROTOCOLS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


@pytest.fixture
def broker():
    with Mosquitto() as running:
        yield running


def make(broker, **settings):
    config = {
        "url": broker.url if broker else None,
        "topics": ["sensors/#"],
        "client_id": "device/s",
        "connect_timeout": 5,
    } | settings
    return MqttSource("s", MqttSourceConfig(**config), data_format="json", clock=SystemClock())


async def publish(broker, *payloads, topic="sensors/a", **options):
    async with MqttConnection(options_from_url(broker.url)) as publisher:
        for payload in payloads:
            await publisher.publish(topic, payload, **options)


async def take(source, count):
    return [await source.collect() for _ in range(count)]


def acknowledge(source, items):
    for item in items:
        source.acknowledge(item.metadata[ACK_TOKEN])


async def leave(source, broker):
    """Disconnect, and wait until the broker has read all that was sent: a busy one may see the next connection before."""
    before = await departures(broker)
    await source.disconnect()
    async with asyncio.timeout(10):
        while await departures(broker) == before:
            await asyncio.sleep(0.005)


async def departures(broker):
    """How often the broker noticed that the source went; a busy one may see the end of the connection first."""
    log = await asyncio.to_thread(lambda: broker.log)
    return len(re.findall(r"[Cc]lient device/s[,: ]*(?:disconnect|closed its connection)", log))


def payloads(items):
    return [item.raw_data for item in items]


@PROTOCOLS
async def test_an_item_says_all_that_is_known(broker, protocol):
    source = make(broker, protocol=protocol)
    assert isinstance(source, IDataSource)
    assert isinstance(source, Acknowledging)
    before = SystemClock()
    start, up = before.now(), before.boottime_ns()
    await source.connect()
    await publish(broker, b'{"t":1}')
    item = await source.collect()
    await source.disconnect()
    assert (item.source_id, item.data_format, item.collection_method) == ("s", "json", "mqtt")
    assert item.raw_data == b'{"t":1}'
    assert start <= item.timestamp <= SystemClock().now()
    assert up <= item.metadata[UP_NS] <= SystemClock().boottime_ns()
    assert item.metadata[TAGS] == {"topic": "sensors/a"}
    assert REDELIVERED not in item.metadata
    digest = hashlib.blake2b(b'sensors/a\0{"t":1}', digest_size=8).hexdigest()
    assert item.metadata[ORIGIN] == Origin(client="device/s", packet=1, payload_hash=digest)
    # It skips validation; it would have passed.
    assert CollectedData(**dict(item)) == item
    assert hash(item.metadata[ACK_TOKEN])


@PROTOCOLS
async def test_only_what_is_not_acknowledged_comes_again(broker, protocol):
    source = make(broker, protocol=protocol)
    await source.connect()
    assert source.session_present is False
    await publish(broker, b"0", b"1", b"2", b"3")
    first = await take(source, 4)
    assert [item.metadata.get(NEW_SESSION) for item in first] == [True, None, None, None]
    acknowledge(source, first[:2])
    await leave(source, broker)

    await source.connect()
    assert source.session_present is True
    again = await take(source, 2)
    assert payloads(again) == [b"2", b"3"]
    assert all(item.metadata[REDELIVERED] for item in again)
    assert all(NEW_SESSION not in item.metadata for item in again)
    assert [item.metadata[ORIGIN] for item in again] == [item.metadata[ORIGIN] for item in first[2:]]
    acknowledge(source, first[2:])  # of the old connection: nothing
    acknowledge(source, again[:1])
    await leave(source, broker)

    await source.connect()
    assert payloads(await take(source, 1)) == [b"3"]
    await source.disconnect()


async def test_a_new_process_takes_up_the_session(broker):
    source = make(broker)
    await source.connect()
    await source.disconnect()
    await publish(broker, b"0", b"1")
    successor = make(broker)
    await successor.connect()
    assert payloads(await take(successor, 2)) == [b"0", b"1"]
    await successor.disconnect()


async def test_a_new_session_is_told_even_when_its_first_connection_brought_nothing(broker):
    source = make(broker)
    await source.connect()
    assert source.session_present is False
    await source.disconnect()
    await source.connect()
    assert source.session_present is True
    await publish(broker, b"1")
    (first,) = await take(source, 1)
    assert first.metadata[NEW_SESSION] is True
    await source.disconnect()


async def test_without_session_nothing_is_kept(broker):
    source = make(broker, session_expiry=0)
    await source.connect()
    await source.disconnect()
    await publish(broker, b"lost")
    await source.connect()
    assert source.session_present is False
    await publish(broker, b"new")
    assert payloads(await take(source, 1)) == [b"new"]
    await source.disconnect()


async def test_qos_0_needs_no_acknowledgement(broker):
    source = make(broker, qos=0)
    await source.connect()
    await publish(broker, b"0")
    (item,) = await take(source, 1)
    assert ACK_TOKEN not in item.metadata
    assert ORIGIN not in item.metadata
    await source.disconnect()


async def test_a_broker_that_grants_less_is_reported(caplog):
    with Mosquitto(BrokerSettings(lines=("max_qos 0",))) as broker:
        source = make(broker)
        await source.connect()
        await source.disconnect()
    assert "grants QoS 0 for sensors/#" in caplog.text


@PROTOCOLS
async def test_stored_messages_are_left_out_by_default(broker, protocol):
    await publish(broker, b"old", retain=True)
    source = make(broker, protocol=protocol)
    await source.connect()
    await publish(broker, b"new")
    assert payloads(await take(source, 1)) == [b"new"]
    assert source.unwanted == (0 if protocol == "5" else 1)
    await source.disconnect()


@PROTOCOLS
async def test_stored_messages_are_taken_once_when_asked_for_and_marked(broker, protocol):
    await publish(broker, b"old", retain=True)
    source = make(broker, protocol=protocol, retained="store")
    await source.connect()
    await publish(broker, b"new", retain=True)  # a live one, since we are subscribed
    items = await take(source, 2)
    assert payloads(items) == [b"old", b"new"]
    assert [RETAINED in item.metadata for item in items] == [True, False]
    acknowledge(source, items)
    await leave(source, broker)
    await publish(broker, b"newer", retain=True)
    await source.connect()
    again = await take(source, 1)
    assert (payloads(again), RETAINED in again[0].metadata) == ([b"newer"], False), (
        "it was kept for our session"
    )
    acknowledge(source, again)
    await leave(source, broker)
    await source.connect()
    await publish(broker, b"last")
    assert payloads(await take(source, 1)) == [b"last"], "what is stored was taken already"
    assert source.unwanted == (0 if protocol == "5" else 2), "MQTT 3.1.1 brings it at each subscription"
    await leave(source, broker)


async def test_a_stored_message_that_did_not_become_safe_is_taken_again(broker):
    await publish(broker, b"old", retain=True)
    source = make(broker, retained="store", session_expiry=0)
    await source.connect()
    await take(source, 1)
    await leave(source, broker)
    await source.connect()
    (item,) = await take(source, 1)
    acknowledge(source, [item])
    await leave(source, broker)
    await source.connect()
    await publish(broker, b"new")
    assert payloads(await take(source, 1)) == [b"new"]
    await source.disconnect()


async def test_named_levels_become_tags_and_a_metric(broker):
    source = make(broker, topics=["sensors/{room}/{metric}", "doors/{door}"])
    await source.connect()
    await publish(broker, b"21.5", topic="sensors/hall/temperature")
    await publish(broker, b"{}", topic="doors/cellar")
    warm, door = await take(source, 2)
    assert warm.metadata[TAGS] == {"topic": "sensors/hall/temperature", "room": "hall"}
    assert warm.metadata[METRIC] == "temperature"
    assert door.metadata[TAGS] == {"topic": "doors/cellar", "door": "cellar"}
    assert METRIC not in door.metadata
    await source.disconnect()


class Notes:
    """A memory that outlives a source."""

    def __init__(self):
        self.notes = {}

    def recall(self):
        return self.notes

    async def note(self, notes):
        self.notes = notes


@PROTOCOLS
async def test_changed_topics_bring_each_message_once(broker, protocol):
    """Mosquitto delivers a message once for each subscription of the session that takes it (MQTT 5)."""
    memory = Notes()
    earlier = make(broker, protocol=protocol, topics=["sensors/#", "old/#"])
    assert isinstance(earlier, Remembering)
    earlier.use_memory(memory)
    await earlier.connect()
    await earlier.disconnect()
    await publish(broker, b"0", topic="sensors/a/t")  # waits in the session, by the earlier subscription
    source = make(broker, protocol=protocol, topics=["sensors/{room}/t"])
    source.use_memory(memory)
    await source.connect()
    assert payloads(await take(source, 1)) == [b"0"]
    async with asyncio.timeout(5):  # what the session brings does not wait for the change
        while memory.notes != {"client": "device/s", "filters": ["sensors/+/t"]}:
            await asyncio.sleep(0.005)
    await publish(broker, b"no", topic="old/a")
    await publish(broker, b"1", b"2", topic="sensors/a/t")
    assert payloads(await take(source, 2)) == [b"1", b"2"]
    assert source.unwanted == 0
    await source.disconnect()


async def test_what_an_earlier_subscription_left_is_remembered_until_it_is_gone(broker):
    """A connection that breaks between subscribing and unsubscribing leaves both in the session."""
    memory = Notes()
    earlier = make(broker, topics=["sensors/#"])
    earlier.use_memory(memory)
    await earlier.connect()
    await earlier.disconnect()
    async with ChaosProxy(("127.0.0.1", broker.port)) as proxy:
        source = make(broker, url=f"mqtt://127.0.0.1:{proxy.port}", topics=["sensors/{room}"])
        source.use_memory(memory)
        connect_bytes = 60  # CONNECT and the first byte of SUBSCRIBE
        proxy.set_weather("up", cut_after_bytes=connect_bytes)
        with pytest.raises(ConnectionError):
            await source.connect()
        assert memory.notes["filters"] == ["sensors/#", "sensors/+"]
        proxy.heal()
        await source.connect()
    assert memory.notes["filters"] == ["sensors/+"]
    await source.disconnect()


async def test_one_refused_topic_keeps_no_other_from_being_collected():
    async def refuse_one(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5)
        for code in (b"\x01", b"\x87"):
            _, body = await read_packet(reader)
            writer.write(b"\x90\x04" + body[:2] + b"\x00" + code)
        writer.write(publish_5("sensors/a", b"1", 1))
        await reader.read()

    async with scripted_broker(refuse_one) as port:
        source = make(None, url=f"mqtt://127.0.0.1:{port}", topics=["sensors/+", "secret/#"])
        assert isinstance(source, Remarking)
        await source.connect()
        assert payloads(await take(source, 1)) == [b"1"]
        (remark,) = source.remarks
        assert "the subscription to secret/#: not authorised" in remark
        await source.disconnect()
        assert source.remarks == ()


async def test_when_every_topic_is_refused_there_is_no_connection():
    async def refuse_all(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5)
        _, body = await read_packet(reader)
        writer.write(b"\x90\x04" + body[:2] + b"\x00\x87")
        await reader.read()

    async with scripted_broker(refuse_all) as port:
        source = make(None, url=f"mqtt://127.0.0.1:{port}")
        with pytest.raises(ConnectionError, match=r"sensors/#: not authorised: its rules \(ACL\)"):
            await source.connect()
        assert not source.connected


@PROTOCOLS
async def test_a_link_that_is_cut_before_the_answer_to_subscribe_makes_progress(protocol):
    """What a resumed session brings comes before SUBACK; on this link SUBACK does not come until it is acknowledged."""
    total, seen = 600, set()
    with Mosquitto(BrokerSettings(max_inflight_messages=total)) as broker:
        source = make(broker, protocol=protocol)
        await source.connect()
        await source.disconnect()
        await publish(broker, *(b"%d" % number for number in range(total)))
        async with ChaosProxy(("127.0.0.1", broker.port)) as proxy, asyncio.timeout(20):
            source = make(broker, protocol=protocol, url=f"mqtt://127.0.0.1:{proxy.port}")
            while len(seen) < total:
                # Slow, so that what comes before a cut can be acknowledged before it.
                proxy.set_weather("down", rate_bytes_s=20_000, chunk_bytes=200, cut_after_bytes=3000)
                with contextlib.suppress(ConnectionError):
                    await source.connect()
                    while len(seen) < total:
                        item = await source.collect()
                        seen.add(item.raw_data)
                        acknowledge(source, [item])
        assert proxy.connections > 3
        await source.disconnect()


@PROTOCOLS
async def test_a_backlog_larger_than_memory_is_taken_piece_by_piece(protocol, monkeypatch):
    """Mosquitto sends all that it has kept at once when a session is taken up, whatever the Receive Maximum."""
    monkeypatch.setattr("drivers.transport.mqtt.FLOOD_MAX", 400)
    monkeypatch.setattr("drivers.transport.mqtt_client.READ_BYTES", 4096)
    total, most = 3000, 0
    with Mosquitto(BrokerSettings(max_inflight_messages=0)) as broker:
        source = make(broker, protocol=protocol, pending_max=100)
        await source.connect()
        await leave(source, broker)
        async with MqttConnection(options_from_url(broker.url)) as publisher:
            await asyncio.gather(*(publisher.publish("sensors/a", b"%d" % number) for number in range(total)))
        await source.connect()
        for number in range(total):
            item = await source.collect()
            assert item.raw_data == b"%d" % number
            most = max(most, len(source._connection._pending))
            acknowledge(source, [item])
            if number % 100 == 0:
                await asyncio.sleep(0.002)  # as long as a commit takes
        assert most < 500, "one block of the socket more than may wait"
        await source.disconnect()


async def test_a_slow_answer_to_subscribe_keeps_nothing_of_a_session_waiting():
    async def answer_late(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5_RESUMED + publish_5("sensors/a", b"1", 1))
        await read_packet(reader)
        assert (await read_packet(reader)) == (0x40, b"\0\1")  # acknowledged before SUBACK
        acknowledged.set_result(None)
        await reader.read()

    acknowledged = asyncio.get_running_loop().create_future()
    async with scripted_broker(answer_late) as port:
        source = make(None, url=f"mqtt://127.0.0.1:{port}", connect_timeout=0.2)
        await source.connect()
        acknowledge(source, await take(source, 1))
        async with asyncio.timeout(5):
            await acknowledged
        await asyncio.sleep(0.3)  # longer than connecting may take
        assert source.connected
        await source.disconnect()


async def test_a_refusal_that_comes_late_ends_the_connection_and_says_why():
    async def refuse_late(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5_RESUMED + publish_5("sensors/a", b"1", 1))
        _, body = await read_packet(reader)
        await read_packet(reader)
        writer.write(b"\x90\x04" + body[:2] + b"\x00\x87")
        await reader.read()

    async with scripted_broker(refuse_late) as port:
        source = make(None, url=f"mqtt://127.0.0.1:{port}")
        await source.connect()
        acknowledge(source, await take(source, 1))
        with pytest.raises(ConnectionError, match="the subscription to sensors/#: not authorised"):
            await source.collect()
        assert not source.connected
        await source.disconnect()


async def test_subscriptions_of_an_earlier_configuration_no_longer_count(broker):
    earlier = make(broker, topics=["old/#", "sensors/#"])
    await earlier.connect()
    await earlier.disconnect()
    await publish(broker, b"0", b"1", topic="old/a")
    await publish(broker, b"2")
    source = make(broker)
    await source.connect()
    assert payloads(await take(source, 1)) == [b"2"]
    assert source.unwanted == 2
    await leave(source, broker)
    await source.connect()
    assert payloads(await take(source, 1)) == [b"2"]  # the two were acknowledged
    await source.disconnect()


async def test_a_shared_subscription(broker):
    source = make(broker, topics=["$share/group/sensors/+"])
    await source.connect()
    await publish(broker, b"0")
    assert payloads(await take(source, 1)) == [b"0"]
    await source.disconnect()


@PROTOCOLS
async def test_two_that_share_a_subscription_get_each_message_once_together(broker, protocol):
    ours, other = (
        make(broker, protocol=protocol, client_id=name, topics=["$share/pis/sensors/{room}"]) for name in "ab"
    )
    await ours.connect()
    await other.connect()
    total, got = 60, {"a": [], "b": []}

    async def take_all(name, source):
        while True:
            item = await source.collect()
            acknowledge(source, [item])
            assert item.metadata[TAGS] == {"topic": "sensors/hall", "room": "hall"}
            got[name].append(item.raw_data)

    taking = [asyncio.ensure_future(take_all(*each)) for each in (("a", ours), ("b", other))]
    await publish(broker, *(b"%d" % number for number in range(total)), topic="sensors/hall")
    async with asyncio.timeout(10):
        while len(got["a"]) + len(got["b"]) < total:
            await asyncio.sleep(0.01)
    for task in taking:
        task.cancel()
    assert sorted(got["a"] + got["b"]) == sorted(b"%d" % number for number in range(total))
    assert got["a"]
    assert got["b"]
    await ours.disconnect()
    await other.disconnect()


async def test_several_topics(broker):
    source = make(broker, topics=["a/+/x", "b/#"])
    await source.connect()
    await publish(broker, b"0", topic="a/1/x")
    await publish(broker, b"no", topic="a/1/y")
    await publish(broker, b"1", topic="b")
    assert payloads(await take(source, 2)) == [b"0", b"1"]
    await source.disconnect()


# The life of a source


def test_it_needs_a_name_that_stays():
    config = MqttSourceConfig(url="mqtt://localhost", topics=["a"])
    with pytest.raises(ValueError, match="client_id"):
        MqttSource("s", config, data_format="json", clock=SystemClock())


async def test_disconnect_without_connect_is_harmless(broker):
    source = make(broker)
    await source.disconnect()
    await source.disconnect()


async def test_not_connected_is_a_connection_error(broker):
    source = make(broker)
    with pytest.raises(ConnectionError):
        await source.collect()
    with pytest.raises(ConnectionError):
        await anext(source.collect_stream())


async def test_a_failed_connect_leaves_nothing(broker):
    source = make(broker)
    broker.kill()
    with pytest.raises(ConnectionError):
        await source.connect()
    assert not source.connected
    await source.disconnect()
    broker.start()
    await source.connect()
    assert source.connected
    await source.connect()  # harmless
    await source.disconnect()
    assert not source.connected


async def test_disconnect_ends_a_stream(broker):
    source = make(broker)
    await source.connect()
    waiting = asyncio.ensure_future(anext(source.collect_stream()))
    await asyncio.sleep(0)
    await source.disconnect()
    with pytest.raises(ConnectionError):
        await waiting


async def test_a_lost_connection_ends_a_stream(broker):
    source = make(broker)
    await source.connect()
    waiting = asyncio.ensure_future(anext(source.collect_stream()))
    await asyncio.sleep(0)
    broker.kill()
    with pytest.raises(ConnectionError):
        await waiting
    await source.disconnect()


async def test_cancelling_collect_loses_nothing(broker):
    source = make(broker)
    await source.connect()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await source.collect()
    await publish(broker, b"0")
    assert payloads(await take(source, 1)) == [b"0"]
    await source.disconnect()


# Together: no message is lost however often the link is cut


@PROTOCOLS
async def test_cuts_cost_duplicates_and_no_message(broker, protocol):
    """A store that remembers origins, a link that is cut at random, messages all the while."""
    total, rng = 2000, random.Random(7)
    stored, index, recognised = [], {}, 0
    async with ChaosProxy(("127.0.0.1", broker.port)) as proxy:
        source = make(broker, url=f"mqtt://127.0.0.1:{proxy.port}", protocol=protocol)
        await source.connect()
        publishing = asyncio.ensure_future(publish(broker, *(b"%d" % number for number in range(total))))
        unsafe = []
        while len(stored) < total:
            if proxy.weather["down"].cut_after_bytes is None:
                proxy.set_weather("down", cut_after_bytes=rng.randrange(1, 4_000))
            try:
                item = await source.collect()
            except ConnectionError:
                unsafe.clear()  # their tokens died
                proxy.heal()
                await source.connect()
                continue
            origin = item.metadata[ORIGIN]
            if item.metadata.get(REDELIVERED) and index.get(origin.packet) == origin.payload_hash:
                recognised += 1
            else:
                stored.append(item.raw_data)
                index[origin.packet] = origin.payload_hash
            unsafe.append(item)
            if rng.random() < 0.3 or len(unsafe) >= 15:  # a commit
                acknowledge(source, unsafe)
                unsafe.clear()
        await publishing
        await source.disconnect()
    assert stored == [b"%d" % number for number in range(total)]
    assert proxy.connections > 3
    assert recognised > 0
