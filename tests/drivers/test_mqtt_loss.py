"""Connections that fail: while connecting, half-way, in silence. Nothing hangs, and nothing is claimed that is not so."""

import asyncio
import contextlib
import socket

import pytest

from drivers.transport.mqtt import (
    MqttConnection,
    MqttConnectionLost,
    MqttConnectRefused,
    MqttOptions,
    MqttUnreachable,
    options_from_url,
)
from tests.rigs.certificates import make_certificates
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.proxy import ChaosProxy
from tests.rigs.scripted_broker import (
    CONNACK,
    CONNACK_5,
    CONNACK_5_RESUMED,
    publish,
    publish_5,
    read_packet,
    scripted_broker,
)


@pytest.fixture
def broker():
    with Mosquitto(BrokerSettings(max_inflight_messages=1000)) as running:
        yield running


@pytest.fixture
async def proxy(broker):
    async with ChaosProxy(("127.0.0.1", broker.port)) as running:
        yield running


def through(proxy, **options):
    return MqttConnection(options_from_url(f"mqtt://127.0.0.1:{proxy.port}", **options))


def at(port, **options):
    return MqttConnection(MqttOptions("127.0.0.1", port, **options))


# Connecting


async def test_nobody_listens():
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        with pytest.raises(MqttUnreachable, match="refused") as unreachable:
            async with at(placeholder.getsockname()[1]):
                pass
        assert not unreachable.value.certificate


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example", "."])
async def test_a_host_that_does_not_exist(host):
    with pytest.raises(MqttUnreachable):
        async with MqttConnection(MqttOptions(host, 1883, connect_timeout_s=5)):
            pass


async def test_a_broker_that_hangs_up_before_connack_is_noticed_at_once():
    async def hang_up(reader, writer):
        await read_packet(reader)

    async with scripted_broker(hang_up) as port:
        with pytest.raises(MqttUnreachable, match="before CONNACK"):
            async with asyncio.timeout(2), at(port):
                pass


async def test_a_broker_that_never_answers_runs_into_the_time_out():
    async def silence(reader, writer):
        await reader.read()

    async with scripted_broker(silence) as port:
        with pytest.raises(MqttUnreachable, match=r"within 0\.2 s"):
            async with at(port, connect_timeout_s=0.2):
                pass


async def test_something_that_is_no_broker():
    async def web_server(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with scripted_broker(web_server) as port:
        with pytest.raises(MqttUnreachable):
            async with at(port, connect_timeout_s=2):
                pass


@pytest.mark.parametrize(
    ("protocol", "connack", "authorisation", "retryable"),
    [
        (4, b"\x20\x02\x00\x05", True, False),
        (4, b"\x20\x02\x00\x04", True, False),
        (4, b"\x20\x02\x00\x03", False, True),
        (4, b"\x20\x02\x00\x02", False, False),
        (5, b"\x20\x03\x00\x87\x00", True, False),
        (5, b"\x20\x03\x00\x8c\x00", True, False),
        (5, b"\x20\x03\x00\x89\x00", False, True),
        (5, b"\x20\x03\x00\x97\x00", False, True),
        (5, b"\x20\x03\x00\x84\x00", False, False),
    ],
)
async def test_each_refusal_says_who_must_act(protocol, connack, authorisation, retryable):
    async def refuse(reader, writer):
        await read_packet(reader)
        writer.write(connack)

    async with scripted_broker(refuse) as port:
        with pytest.raises(MqttConnectRefused) as refusal:
            async with at(port, protocol=protocol, client_id="device"):
                pass
        assert (refusal.value.authorisation, refusal.value.retryable) == (authorisation, retryable)


async def test_a_cancelled_connect_leaves_no_socket_behind():
    async def wait_for_the_end(reader, writer):
        seen.set_result(None)
        await reader.read()
        ended.set_result(None)

    seen, ended = asyncio.get_running_loop().create_future(), asyncio.get_running_loop().create_future()
    async with scripted_broker(wait_for_the_end) as port:
        connecting = asyncio.ensure_future(at(port).__aenter__())
        await seen
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        async with asyncio.timeout(5):
            await ended


async def test_a_connect_cancelled_while_its_thread_is_busy_leaves_no_socket_behind(tmp_path):
    certificates = await asyncio.to_thread(make_certificates, tmp_path)

    async def no_handshake(reader, writer):
        seen.set_result(None)
        await held
        ended.set_result(await reader.read() is not None)

    loop = asyncio.get_running_loop()
    seen, held, ended = loop.create_future(), loop.create_future(), loop.create_future()
    async with scripted_broker(no_handshake) as port:
        options = options_from_url(f"mqtts://localhost:{port}", connect_timeout_s=0.5)
        connecting = asyncio.ensure_future(MqttConnection(options).__aenter__())
        await seen
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        held.set_result(None)
        async with asyncio.timeout(5):
            assert await ended
    assert certificates.ca_file.exists()


# Losing


async def test_a_publish_in_flight_fails_when_the_link_breaks(proxy):
    async with through(proxy) as publisher:
        await publisher.publish("a", b"x")
        proxy.blackhole()
        calls = [
            asyncio.ensure_future(publisher.publish("a", b"x")) for _ in range(150)
        ]  # some wait for their turn
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in calls)
        proxy.reset_all()
        async with asyncio.timeout(2):
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {MqttConnectionLost}
        with pytest.raises(MqttConnectionLost):
            await publisher.publish("a", b"x")


async def test_a_subscription_in_flight_fails_when_the_link_breaks(proxy):
    async with through(proxy) as receiver:
        proxy.blackhole()
        call = asyncio.ensure_future(receiver.subscribe("a", 1))
        await asyncio.sleep(0.05)
        proxy.reset_all()
        with pytest.raises(MqttConnectionLost):
            await call


async def test_a_wait_for_messages_ends_when_the_link_breaks(proxy):
    async with through(proxy) as receiver:
        await receiver.subscribe("a", 1)
        call = asyncio.ensure_future(anext(receiver.messages()))
        await asyncio.sleep(0)
        proxy.reset_all()
        with pytest.raises(MqttConnectionLost):
            await call


async def test_what_arrived_before_the_loss_is_still_delivered(broker, proxy):
    async with through(proxy) as receiver:
        await receiver.subscribe("a", 0)
        async with MqttConnection(options_from_url(broker.url)) as publisher:
            for number in range(5):
                await publisher.publish("a", b"%d" % number, qos=0)
        async with asyncio.timeout(5):
            while len(receiver._pending) < 5:
                await asyncio.sleep(0.01)
        proxy.reset_all()
        await receiver.lost()
        received = [(await receiver.receive()).payload for _ in range(5)]
        assert received == [b"0", b"1", b"2", b"3", b"4"]
        with pytest.raises(MqttConnectionLost):
            await receiver.receive()


async def test_a_half_open_link_is_noticed_within_twice_the_keepalive(proxy):
    async with through(proxy, keepalive_s=1) as publisher:
        await publisher.publish("a", b"x")
        proxy.blackhole()
        call = asyncio.ensure_future(publisher.publish("a", b"y"))
        async with asyncio.timeout(4):  # the clock that keeps alive ticks once a second
            with pytest.raises(MqttConnectionLost, match=r"silent|closed"):
                await call


async def test_closing_a_stuck_link_takes_a_second_at_most(proxy):
    async with through(proxy) as publisher:
        proxy.blackhole()
        stuck = [
            asyncio.ensure_future(publisher.publish("a", bytes(1_000_000))) for _ in range(20)
        ]  # more than the kernel buffers
        await asyncio.sleep(0.1)
        closing = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - closing < 2
    assert {type(error) for error in await asyncio.gather(*stuck, return_exceptions=True)} == {
        MqttConnectionLost
    }


async def test_bytes_that_trickle_are_put_together(broker, proxy):
    proxy.set_weather(chunk_bytes=1)
    async with through(proxy) as both:
        await both.subscribe("a", 1)
        await both.publish("a", bytes(range(200)))
        message = await both.receive()
        both.acknowledge(message)
        assert message.payload == bytes(range(200))


@pytest.mark.parametrize("count", [1, 3, 20, 57, 400])
async def test_a_packet_torn_by_a_cut_is_no_message(broker, proxy, count):
    options = {"client_id": "device", "clean_start": False, "session_expiry_s": 3600}
    async with through(proxy, **options) as receiver:
        await receiver.subscribe("a", 1)
        proxy.set_weather("down", cut_after_bytes=count)
        async with MqttConnection(options_from_url(broker.url)) as publisher:
            await asyncio.gather(*(publisher.publish("a", b"%03d" % number) for number in range(50)))
        first = []
        with contextlib.suppress(MqttConnectionLost):
            async for message in receiver.messages():
                receiver.acknowledge(message)
                first.append(message.payload)
    async with through(proxy, **options) as receiver:
        second = [first[-1] if first else b""]
        while second[-1] != b"049":
            message = await receiver.receive()
            receiver.acknowledge(message)
            second.append(message.payload)
    assert {*first, *second[1:]} == {b"%03d" % number for number in range(50)}


async def test_the_broker_dies_and_comes_back():
    with Mosquitto(BrokerSettings(persistence=True)) as broker:
        options = options_from_url(broker.url, client_id="device", clean_start=False, session_expiry_s=3600)
        async with MqttConnection(options) as receiver:
            await receiver.subscribe("a", 1)
            broker.kill()
            await receiver.lost()
        with pytest.raises(MqttUnreachable):
            async with MqttConnection(options):
                pass
        broker.start()
        async with MqttConnection(options) as receiver:
            await receiver.subscribe("a", 1)
            await receiver.publish("a", b"x")
            assert (await receiver.receive()).payload == b"x"


# What the other side may say


async def test_the_broker_says_why_it_ends_the_connection():
    async def take_over(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5 + b"\xe0\x07\x8e\x05\x1f\x00\x02by")

    async with scripted_broker(take_over) as port, at(port) as receiver:
        with pytest.raises(MqttConnectionLost, match="0x8e") as loss:
            await receiver.receive()
        assert loss.value.reason_code == 0x8E


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x30\x00",
        b"\x32\x03\x00\x01a",
        b"\x34\x05\x00\x01a\x00\x01",
        b"\x30\x04\x00\x02\xff\xfe",
        b"\xf0\x00",
        b"\x30\xff\xff\xff\xff\xff",
        b"\x40\x01\x00",
        b"\x90\x00",
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3 and so on, until the length that its second byte promises is reached",
    ],
)
async def test_garbage_ends_the_connection_and_nothing_else(garbage):
    async def talk_garbage(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK + garbage)
        await reader.read()

    async with scripted_broker(talk_garbage) as port, at(port, protocol=4) as receiver:
        with pytest.raises(MqttConnectionLost):
            async with asyncio.timeout(2):
                await receiver.receive()


async def test_acknowledgements_leave_in_the_order_of_arrival():
    async def deliver_three(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK + b"".join(publish("a", b"x", packet_id) for packet_id in (7, 8, 9)))
        while True:
            first, body = await read_packet(reader)
            if first != 0x40:
                return
            acknowledged.append(int.from_bytes(body, "big"))
            written.set()

    acknowledged, written = [], asyncio.Event()
    async with scripted_broker(deliver_three) as port:
        async with at(port, protocol=4) as receiver:
            one, two, three = [await receiver.receive() for _ in range(3)]
            receiver.acknowledge(three)
            receiver.acknowledge(two)
            await asyncio.sleep(0.02)
            assert acknowledged == []
            receiver.acknowledge(one)
            async with asyncio.timeout(2):
                while len(acknowledged) < 3:
                    await written.wait()
                    written.clear()
        assert acknowledged == [7, 8, 9]


async def test_what_comes_with_connack_is_no_flood(monkeypatch):
    """All of it is there before whoever connects hears of it: reading stops at once, as it does later."""
    monkeypatch.setattr("drivers.transport.mqtt.FLOOD_MAX", 50)
    monkeypatch.setattr("drivers.transport.mqtt_client.TURN_S", 10.0)
    total = 1000

    async def resume(reader, writer):
        await read_packet(reader)
        writer.write(
            CONNACK_5_RESUMED + b"".join(publish_5("a", b"x", 1 + number) for number in range(total))
        )
        await reader.read()

    async with (
        scripted_broker(resume) as port,
        MqttConnection(MqttOptions("127.0.0.1", port), pending_max=20) as receiver,
    ):
        assert receiver.paused
        for number in range(total):
            message = await receiver.receive()
            assert message.packet_id == 1 + number


async def test_a_flood_beyond_all_agreements_ends_the_connection(monkeypatch):
    monkeypatch.setattr("drivers.transport.mqtt.FLOOD_MAX", 50)

    async def flood(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK)
        while True:
            writer.write(publish("a", b"x", 1) * 100)
            await writer.drain()

    async with (
        scripted_broker(flood) as port,
        MqttConnection(MqttOptions("127.0.0.1", port, protocol=4), pending_max=10) as receiver,
    ):
        with pytest.raises(MqttConnectionLost, match="more messages than it may"):
            await receiver.subscribe("a", 1)
