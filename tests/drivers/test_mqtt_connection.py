"""One MQTT connection on a real broker: what it confirms is true, and what it bounds stays bounded."""

import asyncio

import pytest
from blockbuster import blockbuster_ctx

from drivers.transport.mqtt import (
    MqttConnection,
    MqttConnectionLost,
    MqttOptions,
    MqttRefused,
    options_from_url,
)
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.scripted_broker import CONNACK_5, read_packet, scripted_broker

PINGREQ, PINGRESP = (0xC0, b""), b"\xd0\x00"
PROTOCOLS = pytest.mark.parametrize("protocol", [5, 4], ids=["v5", "v3.1.1"])


@pytest.fixture
def broker():
    with Mosquitto(BrokerSettings(max_inflight_messages=1000)) as running:
        yield running


def connection(broker, *, pending_max=1000, **options):
    return MqttConnection(options_from_url(broker.url, **options), pending_max=pending_max)


def session(broker, client_id="device", **options):
    settings = {"clean_start": False, "session_expiry_s": 3600} | options
    return connection(broker, client_id=client_id, **settings)


async def fill(broker, count, topic="a/b", *, qos=1, size=1):
    """Publish '0', '1', ... from another client, zero-padded to a size."""
    async with connection(broker) as publisher:
        await asyncio.gather(
            *(publisher.publish(topic, str(number).zfill(size).encode(), qos=qos) for number in range(count))
        )


async def gone(broker, times=1):
    """Until the broker has read all that earlier connections sent: it may see the next one before it, and give that up."""
    async with asyncio.timeout(10):
        while (await asyncio.to_thread(lambda: broker.log)).count("Client device disconnected") < times:
            await asyncio.sleep(0.005)


async def take(receiver, count):
    return [await receiver.receive() for _ in range(count)]


def numbers(messages):
    return [int(message.payload) for message in messages]


# Publishing and receiving


@PROTOCOLS
async def test_messages_arrive_whole_and_in_order(broker, protocol):
    async with connection(broker, protocol=protocol, receive_maximum=1000) as receiver:
        assert await receiver.subscribe("a/#", 1) == 1
        await fill(broker, 500)
        messages = await take(receiver, 300)
        for message in messages:
            receiver.acknowledge(message)
        stream = receiver.messages()
        for _ in range(200):
            message = await anext(stream)
            receiver.acknowledge(message)
            messages.append(message)
        assert numbers(messages) == list(range(500))
        assert {(message.topic, message.qos, message.dup, message.retain) for message in messages} == {
            ("a/b", 1, False, False)
        }


@PROTOCOLS
@pytest.mark.parametrize("size", [0, 1, 127, 128, 16384, 300_000])
async def test_payloads_of_any_size_and_any_bytes(broker, protocol, size):
    payload = bytes(number % 256 for number in range(size))
    async with connection(broker, protocol=protocol) as both:
        await both.subscribe("a", 1)
        await both.publish("a", payload)
        assert (await both.receive()).payload == payload


async def test_content_type_and_user_properties_arrive(broker):
    async with connection(broker) as both:
        await both.subscribe("ä/b", 1)
        await both.publish(
            "ä/b", b"x", content_type="application/senml+json", user_properties=[("a", "1"), ("ä", "")]
        )
        message = await both.receive()
        assert (message.topic, message.content_type) == ("ä/b", "application/senml+json")
        assert message.user_properties == (("a", "1"), ("ä", ""))


async def test_on_mqtt_3_they_are_left_out(broker):
    async with connection(broker, protocol=4) as both:
        await both.subscribe("a", 1)
        await both.publish("a", b"x", content_type="application/senml+json", user_properties=[("a", "1")])
        assert (await both.receive()).content_type is None


@PROTOCOLS
async def test_qos_0(broker, protocol):
    async with connection(broker, protocol=protocol) as both:
        assert await both.subscribe("a", 0) == 0
        for number in range(50):
            await both.publish("a", b"%d" % number, qos=0)
        messages = await take(both, 50)
        assert numbers(messages) == list(range(50))
        both.acknowledge(messages[0])  # nothing to acknowledge, no harm
        assert both.unacknowledged == 0


async def test_qos_2_is_refused_with_the_reason(broker):
    async with connection(broker) as both:
        with pytest.raises(ValueError, match="lose messages"):
            await both.subscribe("a", 2)
        with pytest.raises(ValueError, match="QoS"):
            await both.publish("a", b"", qos=2)


@pytest.mark.parametrize("topic", ["", "a/#", "a/+"])
async def test_a_bad_topic_harms_nobody_else(broker, topic):
    async with connection(broker) as both:
        with pytest.raises(ValueError, match=r"(?i)topic"):
            await both.publish(topic, b"x")
        assert both.in_flight == 0
        await both.publish("a", b"x")


async def test_a_bad_filter_harms_nobody_else(broker):
    async with connection(broker) as both:
        with pytest.raises(ValueError, match=r"(?i)filter"):
            await both.subscribe("a/#/b", 1)
        assert await both.subscribe("a", 1) == 1


# Refusals


async def test_a_publish_that_the_broker_forbids_is_an_error():
    with Mosquitto(BrokerSettings(acl="topic readwrite allowed/#\n")) as broker:
        async with connection(broker) as publisher:
            await publisher.publish("allowed/a", b"x")
            with pytest.raises(MqttRefused, match=r"forbidden/a.*0x87") as refusal:
                await publisher.publish("forbidden/a", b"x")
            assert refusal.value.authorisation
            # Mosquitto 2.0.11 ends this connection at the next publish of QoS 1, whoever sends it.


@pytest.mark.parametrize("code", [0x80, 0x87])
async def test_a_subscription_that_the_broker_forbids_is_an_error(code):
    async def refuse_one_then_grant(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5)
        for answer in (code, 1):
            _, subscribe = await read_packet(reader)
            writer.write(b"\x90\x04" + subscribe[:2] + b"\x00" + bytes((answer,)))
        await reader.read()

    async with (
        scripted_broker(refuse_one_then_grant) as port,
        MqttConnection(MqttOptions("127.0.0.1", port)) as receiver,
    ):
        with pytest.raises(MqttRefused, match="secret/#") as refusal:
            await receiver.subscribe("secret/#", 1)
        assert refusal.value.reason_code == code
        assert await receiver.subscribe("allowed/#", 1) == 1


async def test_a_lower_qos_than_asked_for_is_told():
    with Mosquitto(BrokerSettings(lines=("max_qos 0",))) as broker:
        async with connection(broker) as receiver:
            assert await receiver.subscribe("a", 1) == 0


async def test_a_message_larger_than_the_broker_takes_never_leaves():
    with Mosquitto(BrokerSettings(lines=("max_packet_size 1000",))) as broker:
        async with connection(broker) as publisher:
            assert publisher.maximum_packet_size == 1000
            with pytest.raises(MqttRefused, match="1000") as refusal:
                await publisher.publish("a", bytes(1000))
            assert refusal.value.too_large
            await publisher.publish("a", bytes(900))


# Bounds


async def test_no_more_is_in_flight_than_the_broker_takes():
    with Mosquitto(BrokerSettings(max_inflight_messages=7)) as broker:
        async with connection(broker) as publisher:
            assert publisher.receive_maximum == 7
            seen = []

            async def publish(number):
                await publisher.publish("a", b"%d" % number)
                seen.append(publisher.in_flight)

            await asyncio.gather(*(publish(number) for number in range(100)))
            assert max(seen) <= 7
            assert publisher.in_flight == 0


async def test_no_more_than_100_are_in_flight_and_paho_queues_nothing():
    with Mosquitto(BrokerSettings(max_inflight_messages=1000)) as broker:
        async with connection(broker) as publisher:
            calls = [asyncio.ensure_future(publisher.publish("a", b"x")) for _ in range(500)]
            await asyncio.sleep(0)
            assert publisher.in_flight == 100
            assert len(publisher._client._client._out_messages) == 100
            await asyncio.gather(*calls)
            assert len(publisher._client._client._out_messages) == 0


async def test_publishes_leave_in_the_order_of_the_calls_when_they_have_to_wait():
    with Mosquitto(BrokerSettings(max_inflight_messages=3)) as broker:
        async with connection(broker) as receiver, connection(broker) as publisher:
            await receiver.subscribe("a", 1)

            async def chain(start):
                # A finished call makes the next one at once, while others wait for their turn.
                for number in range(start, start + 10):
                    order.append(number)
                    await publisher.publish("a", b"%d" % number)

            order = []
            async with asyncio.TaskGroup() as group:
                for start in range(0, 100, 10):
                    group.create_task(chain(start))
                for message in await take_and_acknowledge(receiver, 100):
                    assert int(message.payload) == order.pop(0)


async def take_and_acknowledge(receiver, count):
    messages = []
    for _ in range(count):
        message = await receiver.receive()
        receiver.acknowledge(message)
        messages.append(message)
    return messages


async def test_a_cancelled_publish_gives_its_place_back_only_after_the_answer():
    with Mosquitto(BrokerSettings(max_inflight_messages=2)) as broker:
        async with connection(broker) as publisher:
            sent = [asyncio.ensure_future(publisher.publish("a", b"x")) for _ in range(6)]
            await asyncio.sleep(0)
            assert publisher.in_flight == 2
            for call in sent[:4]:  # two on the wire, two that wait
                call.cancel()
            await asyncio.gather(*sent[4:])
            assert [call.cancelled() for call in sent[:4]] == [True] * 4
            assert publisher.in_flight == 0
            await publisher.publish("a", b"x")


@PROTOCOLS
async def test_a_slow_consumer_makes_the_broker_wait(broker, protocol):
    async with connection(broker, pending_max=20, protocol=protocol) as receiver:
        await receiver.subscribe("a/#", 0)
        await fill(broker, 3000, size=1000, qos=0)
        async with asyncio.timeout(10):
            while not receiver.paused:
                await asyncio.sleep(0.01)
        for _ in range(20):
            await asyncio.sleep(0.001)
            assert len(receiver._pending) <= 21
        assert numbers(await take(receiver, 2000)) == list(range(2000))


async def test_large_messages_make_the_broker_wait_before_they_fill_the_memory(broker, monkeypatch):
    monkeypatch.setattr("drivers.transport.mqtt.PENDING_BYTES_MAX", 1_000_000)
    async with connection(broker) as receiver:
        await receiver.subscribe("a/#", 0)
        await fill(broker, 60, size=100_000, qos=0)
        async with asyncio.timeout(10):
            while not receiver.paused:
                await asyncio.sleep(0.01)
        assert sum(len(message.payload) for message in receiver._pending) < 1_200_000
        assert [int(message.payload[-9:]) for message in await take(receiver, 60)] == list(range(60))
        assert not receiver.paused


async def test_a_flood_of_large_messages_while_an_answer_is_awaited_ends_the_connection(broker, monkeypatch):
    async with session(broker, receive_maximum=1000) as receiver:
        await receiver.subscribe("a/#", 1)
    await fill(broker, 30, size=100_000)
    monkeypatch.setattr("drivers.transport.mqtt.PENDING_BYTES_MAX", 100_000)
    monkeypatch.setattr("drivers.transport.mqtt.FLOOD_BYTES_MAX", 500_000)
    async with session(broker, receive_maximum=1000) as receiver:
        with pytest.raises(MqttConnectionLost, match="more messages than it may"):
            await receiver.subscribe("a/#", 1)


async def test_a_packet_larger_than_we_take_is_left_out_by_the_broker(broker):
    async with connection(broker, packet_bytes_max=1000) as receiver, connection(broker) as publisher:
        await receiver.subscribe("a", 1)
        await publisher.publish("a", bytes(1000))
        await publisher.publish("a", b"small")
        assert (await receiver.receive()).payload == b"small"


async def test_on_mqtt_3_it_ends_the_connection_before_it_fills_the_memory(broker):
    async with (
        connection(broker, packet_bytes_max=1000, protocol=4) as receiver,
        connection(broker) as publisher,
    ):
        await receiver.subscribe("a", 1)
        await publisher.publish("a", bytes(1000))
        with pytest.raises(MqttConnectionLost, match="beyond 1000"):
            await receiver.receive()


async def test_links_that_are_idle_or_paused_are_kept_alive(broker):
    """Mosquitto takes some seconds to end a link that says nothing, so what an idle one says is counted by a script."""

    async def count_pings(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5)
        while True:
            assert await read_packet(reader) == PINGREQ
            pings.append(PINGREQ)
            writer.write(PINGRESP)

    pings = []
    async with (
        scripted_broker(count_pings) as port,
        MqttConnection(MqttOptions("127.0.0.1", port, keepalive_s=1)) as idle,
        connection(broker, pending_max=1, keepalive_s=1) as receiver,
    ):
        await receiver.subscribe("a/#", 1)
        await fill(broker, 3)
        async with asyncio.timeout(5):
            while not receiver.paused:
                await asyncio.sleep(0.01)
        losses = [asyncio.ensure_future(one.lost()) for one in (idle, receiver)]
        ended, _ = await asyncio.wait(losses, timeout=3.5, return_when=asyncio.FIRST_COMPLETED)
        assert not ended, "paho ends a link after 2 to 3 s of silence"
        for loss in losses:
            loss.cancel()
        assert len(pings) >= 2
        assert numbers(await take_and_acknowledge(receiver, 3)) == [0, 1, 2]


@PROTOCOLS
async def test_answers_are_read_while_messages_wait_to_be_taken(broker, protocol):
    """The answer to SUBSCRIBE comes behind everything that a resumed session brings."""
    options = {"protocol": protocol, "receive_maximum": 1000}
    async with session(broker, **options) as receiver:
        await receiver.subscribe("a/#", 1)
    await fill(broker, 200)
    async with session(broker, pending_max=5, connect_timeout_s=5, **options) as receiver:
        assert await receiver.subscribe("a/#", 1) == 1
        for number in range(200):
            message = await receiver.receive()
            assert int(message.payload) == number
            await receiver.publish("elsewhere", b"x")  # and that to PUBLISH likewise
            receiver.acknowledge(message)


# Acknowledging


@PROTOCOLS
async def test_what_is_not_acknowledged_comes_again_marked_and_with_the_same_id(broker, protocol):
    async with session(broker, protocol=protocol) as first:
        assert not first.session_present
        await first.subscribe("a/#", 1)
        await fill(broker, 10)
        before = await take(first, 10)
        for message in before[:4]:
            first.acknowledge(message)
        assert first.unacknowledged == 6
    await gone(broker)
    async with session(broker, protocol=protocol) as second:
        assert second.session_present
        again = await take(second, 6)
        assert numbers(again) == [4, 5, 6, 7, 8, 9]
        assert all(message.dup for message in again)
        assert [message.packet_id for message in again] == [message.packet_id for message in before[4:]]
        for message in again:
            second.acknowledge(message)
    await gone(broker, 2)
    async with session(broker, protocol=protocol) as third:
        await fill(broker, 1)
        message = await third.receive()
        assert not message.dup


@PROTOCOLS
async def test_what_came_while_we_were_away_is_delivered(broker, protocol):
    async with session(broker, protocol=protocol) as first:
        await first.subscribe("a/#", 1)
    await fill(broker, 50)
    async with session(broker, protocol=protocol) as second:
        assert numbers(await take_and_acknowledge(second, 50)) == list(range(50))


@PROTOCOLS
async def test_a_clean_start_forgets(broker, protocol):
    async with session(broker, protocol=protocol) as first:
        await first.subscribe("a/#", 1)
    async with connection(broker, client_id="device", protocol=protocol) as second:
        assert not second.session_present
    async with session(broker, protocol=protocol) as third:
        assert not third.session_present


async def test_an_acknowledgement_belongs_to_its_connection(broker):
    async with session(broker) as first:
        await first.subscribe("a/#", 1)
        await fill(broker, 2)
        old = await take(first, 2)
    first.acknowledge(old[0])
    async with session(broker) as second:
        new = await take(second, 2)
        second.acknowledge(old[1])
        assert second.unacknowledged == 2
        second.acknowledge(new[0])
        second.acknowledge(new[0])
        assert second.unacknowledged == 1
    async with session(broker) as third:
        assert numbers(await take(third, 1)) == [1]


async def test_acknowledgements_of_the_last_moment_are_sent(broker):
    async with session(broker) as first:
        await first.subscribe("a/#", 1)
        await fill(broker, 20)
        for message in await take(first, 20):
            first.acknowledge(message)
    await gone(broker)
    async with session(broker) as second:
        await fill(broker, 1, "a/last")
        assert (await second.receive()).topic == "a/last"


# The life of a connection


async def test_a_connection_is_used_once(broker):
    once = connection(broker)
    async with once:
        pass
    with pytest.raises(RuntimeError, match="once"):
        await once.__aenter__()


async def test_after_the_end_everything_says_so(broker):
    async with connection(broker) as closed:
        await closed.subscribe("a", 1)
    assert not closed.connected
    await closed.lost()
    with pytest.raises(MqttConnectionLost):
        await closed.publish("a", b"x")
    with pytest.raises(MqttConnectionLost):
        await closed.subscribe("a", 1)
    assert [message async for message in closed.messages()] == []
    assert len(closed._client._client._out_messages) == 0


async def test_closing_twice_is_harmless(broker):
    async with connection(broker) as closed:
        await closed.__aexit__(None, None, None)
        await closed.__aexit__(None, None, None)


async def test_closing_ends_a_wait_for_messages(broker):
    async with connection(broker) as receiver:
        waiting = asyncio.ensure_future(receiver.receive())
        await asyncio.sleep(0)
    assert await waiting is None


async def test_only_one_task_may_wait_for_messages(broker):
    async with connection(broker) as receiver:
        waiting = asyncio.ensure_future(receiver.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await receiver.receive()
    await waiting


async def test_cancelling_a_wait_loses_no_message(broker):
    async with connection(broker) as receiver:
        await receiver.subscribe("a/#", 1)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await receiver.receive()
        await fill(broker, 2)
        assert numbers(await take(receiver, 2)) == [0, 1]


async def test_the_callers_own_cancellation_is_not_swallowed(broker):
    async with connection(broker) as idle:
        for wait in (idle.receive, idle.lost):
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_another_client_of_the_same_name_takes_over(broker):
    async with session(broker) as first, session(broker):
        await first.lost()
        with pytest.raises(MqttConnectionLost, match="closed the connection"):
            await first.receive()


async def test_arrivals_are_stamped_when_they_come_not_when_they_are_taken(broker):
    async with connection(broker) as both:
        await both.subscribe("a", 1)
        await both.publish("a", b"x")
        async with asyncio.timeout(5):
            while not both._pending:
                await asyncio.sleep(0.01)
        later = both._clock.boottime_ns()
        message = await both.receive()
        assert message.up_ns < later
        assert message.received_at.utcoffset().total_seconds() == 0


async def test_stored_messages_are_sent_only_when_asked_for(broker):
    async with connection(broker) as publisher:
        await publisher.publish("a", b"old", retain=True)
    async with connection(broker) as without, connection(broker) as including:
        await without.subscribe("a", 1, retained=False)
        await including.subscribe("a", 1)
        await fill(broker, 1, "a")
        assert (await without.receive()).payload == b"0"
        old, new = await take(including, 2)
        assert (old.payload, old.retain, new.payload, new.retain) == (b"old", True, b"0", False)


async def test_nothing_blocks_the_event_loop(broker):
    with blockbuster_ctx():
        async with connection(broker) as both:
            await both.subscribe("a", 1)
            for code in await asyncio.gather(*(both.publish("a", b"x") for _ in range(20))):
                assert code == 0
            await take_and_acknowledge(both, 20)
