"""MQTT in WebSockets: the frames by themselves, and a real broker behind another implementation."""

import asyncio
import base64
import dataclasses
import hashlib
import itertools
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.clock import SystemClock
from collectors.metadata_keys import ACK_TOKEN, REDELIVERED
from drivers.mqtt.config import MqttSourceConfig
from drivers.mqtt.source import MqttSource
from drivers.transport.credentials import TlsFiles
from drivers.transport.mqtt import MqttConnection, MqttConnectionLost, MqttUnreachable, options_from_url
from drivers.transport.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    FrameReader,
    WebSocketError,
    check_upgrade,
    encode_frame,
    upgrade_request,
)
from tests.rigs.certificates import make_certificates
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.proxy import ChaosProxy
from tests.rigs.scripted_broker import scripted_broker
from tests.rigs.websocket_gateway import WebSocketGateway

# Frames


def server_frame(opcode, payload, *, final=True):
    """As a server sends it: not masked. Written here again, from RFC 6455, section 5.2."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    return bytes([opcode | (0x80 if final else 0)]) + length + payload


def unmasked(frame):
    """What a client's frame carries."""
    size, at = frame[1] & 0x7F, 2
    if size == 126:
        size, at = int.from_bytes(frame[2:4], "big"), 4
    elif size == 127:
        size, at = int.from_bytes(frame[2:10], "big"), 10
    mask, payload = frame[at : at + 4], frame[at + 4 :]
    assert frame[1] & 0x80
    assert len(payload) == size
    return bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask), strict=False))


@given(st.binary(max_size=400), st.binary(min_size=4, max_size=4))
def test_a_frame_of_ours_is_masked_and_carries_what_it_should(payload, mask):
    frame = encode_frame(BINARY, payload, mask)
    assert frame[0] == 0x82
    assert unmasked(frame) == payload


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 200_000])
def test_every_form_of_length(size):
    payload = bytes(index % 251 for index in range(size))
    assert unmasked(encode_frame(BINARY, payload, b"\1\2\3\4")) == payload
    reader = FrameReader()
    assert reader.feed(server_frame(BINARY, payload)) == payload


FRAMES = st.lists(
    st.one_of(
        st.tuples(st.just(BINARY), st.binary(max_size=300), st.booleans()),
        st.tuples(st.just(CONTINUATION), st.binary(max_size=40), st.booleans()),
        st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125), st.just(value=True)),
    ),
    max_size=12,
)


@given(FRAMES, st.lists(st.integers(1, 60), min_size=1), st.booleans())
def test_the_stream_arrives_however_it_is_framed_and_cut(frames, sizes, close):
    sent = b"".join(server_frame(opcode, payload, final=final) for opcode, payload, final in frames)
    if close:
        sent += server_frame(CLOSE, (1001).to_bytes(2, "big") + b"bye") + b"nothing counts after this"
    reader, found, at, pieces = FrameReader(), b"", 0, itertools.cycle(sizes)
    while at < len(sent):
        size = next(pieces)
        found += reader.feed(sent[at : at + size])
        at += size
    assert found == b"".join(payload for opcode, payload, _ in frames if opcode in {BINARY, CONTINUATION})
    assert reader.pings == [payload for opcode, payload, _ in frames if opcode == PING]
    assert reader.closed == ("1001 bye" if close else None)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_stream_or_a_broken_protocol(data):
    reader = FrameReader()
    try:
        found = reader.feed(data)
    except WebSocketError:
        return
    assert len(found) <= len(data)


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81\x01a",  # text
        b"\x83\x00",  # a reserved kind
        b"\xc2\x00",  # a flag of an extension
        b"\x82\x81\1\2\3\4a",  # masked
        b"\x09\x00",  # half a ping
        b"\x89\x7e\x00\x80",  # a ping of 128 bytes
    ],
)
def test_what_no_server_may_send(frame):
    with pytest.raises(WebSocketError):
        FrameReader().feed(frame)


KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""RFC 6455, section 1.3."""
GOOD = (
    f"HTTP/1.1 101 Switching Protocols\r\nSEC-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: mqtt\r\nX"
)


def test_the_upgrade():
    assert b"GET /mqtt?x=1 HTTP/1.1\r\nHost: broker\r\n" in upgrade_request("broker", "/mqtt?x=1", KEY)
    check_upgrade(GOOD.encode(), KEY)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("SSH-2.0-OpenSSH", "no web server"),
        ("HTTP/1.1", "no web server"),
        ("HTTP/1.1 404 Not Found", r"'404 Not Found'.*is the path right"),
        ("HTTP/1.1 401 Unauthorized", "log-in"),
        ("HTTP/1.1 418 Teapot", "'418 Teapot'"),
        (GOOD.replace("s3pP", "xxxx"), "not to our request"),
        (GOOD.replace(": mqtt", ": chat"), "not MQTT over it"),
    ],
)
def test_an_answer_that_is_no_upgrade_says_what_it_is(head, words):
    with pytest.raises(WebSocketError, match=words):
        check_upgrade(head.encode(), KEY)


# A real broker


@pytest.fixture
def broker():
    with Mosquitto(BrokerSettings(max_inflight_messages=1000)) as running:
        yield running


async def round_trips(options, count=1, size=10):
    async with MqttConnection(options) as both:
        await both.subscribe("a", 1)
        payloads = [bytes((number + place) % 256 for place in range(size)) for number in range(count)]
        await asyncio.gather(*(both.publish("a", payload) for payload in payloads))
        received = []
        for _ in range(count):
            message = await both.receive()
            both.acknowledge(message)
            received.append(message.payload)
        assert sorted(received) == sorted(payloads)


@pytest.mark.parametrize("protocol", [5, 4])
@pytest.mark.parametrize(
    ("count", "size", "frame_bytes"), [(1, 0, 0), (500, 100, 0), (20, 100, 3), (3, 400_000, 0)]
)
async def test_messages_both_ways(broker, protocol, count, size, frame_bytes):
    async with WebSocketGateway(broker.port, frame_bytes=frame_bytes) as gateway:
        options = options_from_url(f"ws://127.0.0.1:{gateway.port}", protocol=protocol)
        await round_trips(options, count, size)
        assert gateway.asked == ["/mqtt"]


@pytest.mark.parametrize(("count", "size"), [(500, 100), (3, 400_000)])
async def test_with_tls(broker, tmp_path, count, size):
    certificates = await asyncio.to_thread(make_certificates, tmp_path)
    async with WebSocketGateway(broker.port, certificates=certificates) as gateway:
        url = f"wss://localhost:{gateway.port}/mqtt?token=x"
        options = options_from_url(url, tls=TlsFiles(certificates.ca_file))
        await round_trips(options, count, size)
        assert gateway.asked == ["/mqtt?token=x"]
        with pytest.raises(MqttUnreachable, match="certificate") as failure:
            await round_trips(dataclasses.replace(options, tls=TlsFiles()))
        assert failure.value.certificate


async def test_bytes_that_trickle_are_put_together(broker):
    async with WebSocketGateway(broker.port) as gateway, ChaosProxy(("127.0.0.1", gateway.port)) as proxy:
        proxy.set_weather(chunk_bytes=1)
        await round_trips(options_from_url(f"ws://127.0.0.1:{proxy.port}"), 3, 150)


async def test_a_slow_link_takes_a_large_message_in_parts(broker):
    """More than the kernel buffers: a frame leaves in several parts."""
    async with (
        WebSocketGateway(broker.port) as gateway,
        ChaosProxy(("127.0.0.1", gateway.port)) as proxy,
        MqttConnection(options_from_url(f"ws://127.0.0.1:{proxy.port}")) as publisher,
    ):
        proxy.blackhole("up")
        publishing = [asyncio.ensure_future(publisher.publish("a", bytes(3_000_000))) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert not any(done.done() for done in publishing)
        proxy.heal()
        async with asyncio.timeout(20):
            await asyncio.gather(*publishing)


async def test_pings_are_answered(broker):
    async with (
        WebSocketGateway(broker.port, heartbeat_s=0.1) as gateway,
        MqttConnection(options_from_url(f"ws://127.0.0.1:{gateway.port}")) as idle,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await idle.lost()
        await idle.publish("a", b"x")


async def test_a_server_that_closes_says_why(broker):
    async with (
        WebSocketGateway(broker.port) as gateway,
        MqttConnection(options_from_url(f"ws://127.0.0.1:{gateway.port}")) as connection,
    ):
        await connection.subscribe("a")
        await gateway.close_all(1008, b"too many connections")
        with pytest.raises(MqttConnectionLost, match="closed the WebSocket: 1008 too many connections"):
            await connection.receive()


@pytest.mark.parametrize(
    ("path", "words"),
    [("/none", "404.*is the path right"), ("/other", "not MQTT over it: is the path right")],
)
async def test_a_wrong_path_is_told(broker, path, words):
    async with WebSocketGateway(broker.port) as gateway:
        with pytest.raises(MqttUnreachable, match=words):
            await round_trips(options_from_url(f"ws://127.0.0.1:{gateway.port}{path}"))


async def test_a_broker_without_websockets_is_told(broker):
    with pytest.raises(MqttUnreachable, match="is it a WebSocket port"):
        await round_trips(options_from_url(f"ws://127.0.0.1:{broker.port}", connect_timeout_s=2))


async def test_an_endless_answer_is_bounded():
    async def talk(reader, writer):
        while True:
            writer.write(b"x" * 4096)
            await writer.drain()

    async with scripted_broker(talk) as port:
        with pytest.raises(MqttUnreachable, match="exceeds"):
            await round_trips(options_from_url(f"ws://127.0.0.1:{port}"))


async def test_frames_that_break_the_protocol_end_the_connection(broker):
    """A text frame in the middle of the stream."""

    async def carry(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
        accept = base64.b64encode(
            hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        )
        writer.write(
            b"HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await reader.read(100)
        writer.write(server_frame(BINARY, b"\x20\x03\x00\x00\x00"))
        await reader.read(100)
        writer.write(b"\x81\x01a")
        await reader.read()

    async with (
        scripted_broker(carry) as port,
        MqttConnection(options_from_url(f"ws://127.0.0.1:{port}")) as connection,
    ):
        with pytest.raises(MqttConnectionLost, match="frame of kind 1"):
            await connection.subscribe("a")


async def test_a_source_loses_nothing_over_cuts():
    """QoS 1 through a WebSocket that is cut: what was not acknowledged comes again."""
    total, seen, again = 300, [], 0
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Mosquitto())
        gateway = await stack.enter_async_context(WebSocketGateway(broker.port))
        proxy = await stack.enter_async_context(ChaosProxy(("127.0.0.1", gateway.port)))
        config = MqttSourceConfig(url=f"ws://127.0.0.1:{proxy.port}", topics=["a"], client_id="pi")
        source = MqttSource("s", config, data_format="json", clock=SystemClock())
        await source.connect()
        proxy.set_weather("down", cut_after_bytes=1000)
        async with MqttConnection(options_from_url(broker.url)) as publisher:
            await asyncio.gather(*(publisher.publish("a", b"%d" % number) for number in range(total)))
        while len(set(seen)) < total:
            try:
                if not source.connected:
                    # Ever later: all that was resumed comes in one go, and an early cut overtakes its acknowledgements.
                    proxy.set_weather("down", cut_after_bytes=800 * proxy.connections)
                    await source.connect()
                item = await source.collect()
            except ConnectionError:
                continue
            seen.append(item.raw_data)
            again += REDELIVERED in item.metadata
            source.acknowledge(item.metadata[ACK_TOKEN])
        await source.disconnect()
    assert set(seen) == {b"%d" % number for number in range(total)}
    assert again >= len(seen) - total
    assert proxy.connections > 3
