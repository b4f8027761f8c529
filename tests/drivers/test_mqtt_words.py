"""A broker that denies, throttles, ends the connection or gives the session to another: each told in words."""

import asyncio

import pytest

from collectors.clock import SystemClock
from drivers.mqtt.config import MqttSourceConfig
from drivers.mqtt.source import SHORT_S, MqttSource
from drivers.transport.mqtt import MqttConnection, MqttConnectionLost, MqttRefused, options_from_url
from drivers.transport.mqtt_reasons import SERVER_TEXT_MAX, WORDS, in_words
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.scripted_broker import CONNACK, CONNACK_5, read_packet, scripted_broker


class Watch(SystemClock):
    """The machine's clock, with a monotonic time that a test sets forward."""

    ahead_s = 0.0

    def monotonic_s(self):
        return super().monotonic_s() + self.ahead_s


def make(url, *, clock=None, **settings):
    config = {"url": url, "topics": ["sensors/#"], "client_id": "pi-hall", "connect_timeout": 5} | settings
    return MqttSource("hall", MqttSourceConfig(**config), data_format="json", clock=clock or SystemClock())


async def failure_of(source):
    """Why a source does not connect, or loses its connection."""
    try:
        await source.connect()
        item = await source.collect()
    except ConnectionError as failure:
        return str(failure)
    finally:
        await source.disconnect()
    raise AssertionError(f"it collects: {item}")


def reason_property(text):
    """The properties of a packet that has a Reason String."""
    encoded = text.encode()
    return bytes((len(encoded) + 3, 0x1F)) + len(encoded).to_bytes(2, "big") + encoded


def connack(code, said=""):
    properties = reason_property(said) if said else b"\0"
    return bytes((0x20, 2 + len(properties), 0, code)) + properties


# Denied


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_wrong_password_on_a_real_broker(protocol, tmp_path):
    (tmp_path / "word").write_text("wrong")
    with Mosquitto(BrokerSettings(users={"pi": "right"})) as broker:
        source = make(broker.url, username="pi", password={"file": tmp_path / "word"}, protocol=protocol)
        said = await failure_of(source)
    assert said.startswith("the broker refused the connection: ")
    assert "not authorised: its rules (ACL) do not allow it to this user (0x87)" in said


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x84, "set `protocol` to the other one"),
        (0x85, "does not take the client id 'pi-hall'"),
        (0x86, "user name or password is wrong"),
        (0x89, "it is busy"),
        (0x97, "a quota is used up"),
        (0x9D, "it has moved to another server: change `url`"),
        (0x9F, "too many connections in a short time"),
    ],
)
async def test_a_refused_connection(code, words):
    async def refuse(reader, writer):
        await read_packet(reader)
        writer.write(connack(code, "come back\nlater"))

    async with scripted_broker(refuse) as port:
        said = await failure_of(make(f"mqtt://127.0.0.1:{port}"))
    assert words in said
    assert f"(0x{code:02x}, in its words: 'come back later')" in said


async def test_a_refused_subscription_names_its_topic_and_the_reason():
    async def refuse(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5)
        _, body = await read_packet(reader)
        properties = reason_property("ask the operator")
        writer.write(bytes((0x90, 3 + len(properties))) + body[:2] + properties + b"\x87")
        await reader.read()

    async with scripted_broker(refuse) as port:
        said = await failure_of(make(f"mqtt://127.0.0.1:{port}"))
    assert said == (
        "the broker refused the subscription to sensors/#: not authorised: its rules (ACL) do not allow it to"
        " this user (0x87, in its words: 'ask the operator')"
    )


async def test_shared_subscriptions_that_the_broker_does_not_know():
    async def refuse(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5)
        _, body = await read_packet(reader)
        writer.write(b"\x90\x04" + body[:2] + b"\x00\x9e")
        await reader.read()

    async with scripted_broker(refuse) as port:
        said = await failure_of(make(f"mqtt://127.0.0.1:{port}", topics=["$share/pis/sensors/#"]))
    assert "write the topic without $share/GROUP/ (0x9e)" in said


async def test_a_subscription_that_3_1_1_refuses_without_a_reason():
    async def refuse(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK)
        _, body = await read_packet(reader)
        writer.write(b"\x90\x03" + body[:2] + b"\x80")
        await reader.read()

    async with scripted_broker(refuse) as port:
        said = await failure_of(make(f"mqtt://127.0.0.1:{port}", protocol="3.1.1"))
    assert "most often its rules (ACL) do not allow it (0x80)" in said


async def test_a_publish_that_an_acl_denies():
    with Mosquitto(BrokerSettings(acl="topic read #\n")) as broker:
        async with MqttConnection(options_from_url(broker.url)) as publisher:
            with pytest.raises(MqttRefused, match=r"a message to a: not authorised: its rules"):
                await publisher.publish("a", b"x")


# Ended


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x8B, "it is shutting down"),
        (0x93, "more was sent at once than it takes"),
        (0x96, "messages are sent faster than it allows"),
        (0x97, "a quota is used up"),
        (0x98, "its administrator ended it"),
        (0xA0, "the connection has lasted as long as it allows"),
    ],
)
async def test_a_connection_that_the_broker_ends(code, words):
    async def end(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5)
        _, body = await read_packet(reader)
        writer.write(b"\x90\x04" + body[:2] + b"\x00\x01")
        await writer.drain()
        properties = reason_property("1000/min")
        writer.write(bytes((0xE0, 1 + len(properties), code)) + properties)
        await reader.read()

    async with scripted_broker(end) as port:
        said = await failure_of(make(f"mqtt://127.0.0.1:{port}"))
    assert said == (
        f"127.0.0.1:{port} ended the connection: {words} (0x{code:02x}, in its words: '1000/min')"
    )


async def test_another_server_is_named():
    async def move(reader, writer):
        await read_packet(reader)
        writer.write(b"\x20\x0d\x00\x9d\x0a\x1c\x00\x07b.local")

    async with scripted_broker(move) as port:
        assert "in its words: 'b.local'" in await failure_of(make(f"mqtt://127.0.0.1:{port}"))


# Taken over


async def test_a_session_that_another_client_takes_over():
    async def take_over(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK_5)
        _, body = await read_packet(reader)
        writer.write(b"\x90\x04" + body[:2] + b"\x00\x01" + b"\xe0\x01\x8e")
        await reader.read()

    async with scripted_broker(take_over) as port:
        said = await failure_of(make(f"mqtt://127.0.0.1:{port}"))
    assert (
        "another client connected with our client id 'pi-hall': give each client a `client_id` of its own"
        in said
    )


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_takeover_that_the_broker_does_not_tell_is_suspected_when_it_repeats(protocol):
    """Mosquitto 2.0.11 closes the connection without a word, on MQTT 5 as well."""
    clock = Watch()
    with Mosquitto() as broker:
        ours, other = (make(broker.url, protocol=protocol, clock=clock) for _ in range(2))
        losses = []
        for held_s in (0, 0, 0, SHORT_S + 1, 0):
            await ours.connect()
            waiting = asyncio.ensure_future(ours.collect())
            clock.ahead_s += held_s
            await other.connect()
            with pytest.raises(MqttConnectionLost) as loss:
                await waiting
            losses.append(str(loss.value))
            await other.disconnect()
    suspected = ["does another client use the client id 'pi-hall'" in said for said in losses]
    assert suspected == [False, False, True, False, False]


# The words themselves


def test_every_reason_that_mqtt_5_has_for_a_client_has_words():
    told_to_servers_only = {0x91, 0x92, 0x94}  # packet identifiers and topic aliases, which we get right
    failures = set(range(0x80, 0xA3)) - told_to_servers_only
    assert failures == set(WORDS)


def test_what_the_broker_says_is_one_short_line():
    said = in_words(0x97, said="x\r\n\ty " + "z" * 1000)
    assert "\n" not in said
    assert len(said) < SERVER_TEXT_MAX + 100
    assert in_words(0x97) == "a quota is used up (0x97)"
    assert in_words(0x00) == "it does not say why (0x00)"
