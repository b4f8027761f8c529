"""The MQTT upstream on a real Mosquitto: what is acknowledged, refused and lost, and who says so."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from agent.sync.acknowledgement import ack_topic, device_of, digest, readings_topic
from agent.sync.certificates import certificate_error
from agent.sync.config import MqttUpstreamOptions
from agent.sync.mqtt_upstream import MqttUpstream
from agent.sync.packing import Packer
from agent.sync.upstream import LinkBroken, LinkLost, Paused, Rejected, RetryLater, TooLarge, Unanswered
from collectors.clock import SystemClock
from drivers.transport.mqtt import MqttConnection, MqttConnectionLost, MqttUnreachable, options_from_url
from tests.rigs.certificates import make_certificates
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.proxy import ChaosProxy
from tests.sync.memory_buffer import MemoryRecord, reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agent.sync.upstream import Pack, UpstreamError

DEVICE, STORE = "greenhouse-3", "5a" * 16


def pack(first: int = 1, count: int = 20) -> Pack:
    records = [MemoryRecord(n, reading("soil", n)) for n in range(first, first + count)]
    return Packer(48 * 1024).pack(DEVICE, STORE, records)


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto() as running:
        yield running


@asynccontextmanager
async def upstream(url: str, **options: Any) -> AsyncIterator[MqttUpstream]:
    made = MqttUpstream(MqttUpstreamOptions(url=url, **options), DEVICE, SystemClock())
    await made.connect()
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(made.lost())
        try:
            yield made
        finally:
            watch.cancel()
            await made.disconnect()


async def outcome(sending: MqttUpstream, what: Pack | None = None) -> UpstreamError:
    with pytest.raises(ConnectionError) as caught:
        await sending.send(what or pack())
    return caught.value  # type: ignore[return-value]


@asynccontextmanager
async def other_end(broker: Mosquitto) -> AsyncIterator[MqttConnection]:
    async with MqttConnection(options_from_url(broker.url)) as connection:
        await connection.subscribe("outstation/+/readings")
        yield connection


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_what_a_message_looks_like(broker: Mosquitto, protocol: str) -> None:
    async with other_end(broker) as end, upstream(broker.url, ack="broker", protocol=protocol) as u:
        assert 1 <= u.max_in_flight <= 20
        await u.send(pack())
        message = await end.receive()
    assert message is not None
    assert message.topic == f"outstation/{DEVICE}/readings"
    assert (message.qos, message.retain) == (1, False)
    assert message.payload == pack().payload
    if protocol == "5":
        assert message.content_type == "application/senml+json"
        assert message.user_properties == (("content-encoding", "gzip"),)


async def test_the_receivers_word_counts_not_the_brokers(broker: Mosquitto) -> None:
    async with other_end(broker) as end, upstream(broker.url) as u:
        sending = asyncio.create_task(u.send(pack()))
        message = await end.receive()
        assert message is not None
        end.acknowledge(message)
        for said in (
            b"garbage",
            b"{}",
            to_json({"acked": [pack(1, 19).digest, pack(2, 19).digest]}),
            to_json({"store": STORE, "acked": [[1, 20, 20]]}),
            to_json({"rejected": [[digest(b"another"), "no"]]}),
        ):
            await end.publish(ack_topic(DEVICE), said)
        await asyncio.sleep(0.05)
        assert not sending.done()
        await end.publish(ack_topic(DEVICE), to_json({"acked": [pack(21).digest, pack().digest]}))
        await sending


async def test_what_the_receiver_refuses_for_good_is_rejected(broker: Mosquitto) -> None:
    async with other_end(broker) as end, upstream(broker.url) as u:
        sending = asyncio.create_task(outcome(u))
        await end.receive()
        await end.publish(ack_topic(DEVICE), to_json({"rejected": [[digest(pack().payload), "no `store`"]]}))
        error = await sending
        assert type(error) is Rejected
        assert "no `store`" in str(error)


async def test_without_a_receiver_it_says_what_to_do(broker: Mosquitto) -> None:
    async with upstream(broker.url, ack_timeout=0.2) as u:
        error = await outcome(u)
        assert type(error) is RetryLater
        assert 'set ack = "broker"' in str(error)


async def test_packs_leave_in_the_order_of_the_calls(broker: Mosquitto) -> None:
    async with other_end(broker) as end, upstream(broker.url, ack="broker") as u:
        packs = [pack(first, 5) for first in range(1, 101, 5)]
        async with asyncio.TaskGroup() as group:
            for item in packs:
                group.create_task(u.send(item))
        arrived = [await end.receive() for _ in packs]
    assert [message and message.payload for message in arrived] == [item.payload for item in packs]


async def test_a_broker_without_a_subscriber_is_told_of_once(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with upstream(broker.url, ack="broker") as u:
        await u.send(pack())
        await u.send(pack(21))
    assert caplog.text.count("nobody subscribes to outstation/greenhouse-3/readings") == 1


async def test_a_publish_that_the_broker_forbids_pauses() -> None:
    with Mosquitto(BrokerSettings(acl="topic read #\n")) as broker:
        async with upstream(broker.url, ack="broker") as u:
            error = await outcome(u)
            assert type(error) is Paused
            assert "0x87" in str(error)


async def test_a_message_beyond_the_brokers_limit_is_to_be_cut() -> None:
    with Mosquitto(BrokerSettings(lines=("max_packet_size 600",))) as broker:
        async with upstream(broker.url, ack="broker") as u:
            assert type(await outcome(u, pack(1, 200))) is TooLarge
            await u.send(pack(1, 2))


async def test_wrong_credentials_pause_and_are_read_again(tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("wrong")
    with Mosquitto(BrokerSettings(users={"me": "sesame"})) as broker:
        options = MqttUpstreamOptions(url=broker.url, username="me", password={"file": word}, ack="broker")
        made = MqttUpstream(options, DEVICE, SystemClock())
        with pytest.raises(Paused) as caught:
            await made.connect()
        assert "wrong" not in str(caught.value)
        word.write_text("sesame\n")
        await made.connect()
        await made.send(pack())
        await made.disconnect()


async def test_no_broker_and_a_missing_file() -> None:
    with Mosquitto() as broker:
        url = broker.url
    with pytest.raises(RetryLater):
        await MqttUpstream(MqttUpstreamOptions(url=url), DEVICE, SystemClock()).connect()
    options = MqttUpstreamOptions(url=url, username="me", password={"file": "/nowhere"})
    with pytest.raises(Paused, match="credentials cannot be read"):
        await MqttUpstream(options, DEVICE, SystemClock()).connect()


async def test_a_link_that_is_cut_in_flight_does_not_hang(broker: Mosquitto) -> None:
    async with (
        ChaosProxy(("127.0.0.1", broker.port)) as proxy,
        upstream(f"mqtt://127.0.0.1:{proxy.port}") as u,
    ):
        lost = asyncio.create_task(u.lost())
        sending = [asyncio.create_task(outcome(u, pack(first))) for first in (1, 21, 41)]
        await asyncio.sleep(0.05)
        watch = asyncio.create_task(u.lost()) if lost.done() else lost
        proxy.reset_all()
        async with asyncio.timeout(5):
            await asyncio.wait([watch])
            await u.disconnect()
            for task in sending:
                assert isinstance(await task, LinkLost)
    assert type(await outcome(u)) is LinkLost
    watch.cancel()
    await asyncio.gather(watch, lost, return_exceptions=True)


async def test_a_half_open_link_is_noticed_by_the_missing_puback(broker: Mosquitto) -> None:
    async with (
        ChaosProxy(("127.0.0.1", broker.port)) as proxy,
        upstream(f"mqtt://127.0.0.1:{proxy.port}", ack="broker", ack_timeout=0.2) as u,
    ):
        await u.send(pack())
        proxy.half_close()
        error = await outcome(u)
        assert type(error) is Unanswered, "nothing says that the pack broke it"
        assert "no PUBACK within 0.2 s" in str(error)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (MqttConnectionLost("closed", without_a_word=True), LinkBroken),
        (MqttConnectionLost("packet too large", reason_code=0x95), LinkBroken),
        (MqttConnectionLost("fell silent", fell_silent=True), LinkLost),
        (MqttConnectionLost("server shutting down", reason_code=0x8B), LinkLost),
        (MqttConnectionLost("session taken over", reason_code=0x8E), LinkLost),
    ],
)
async def test_only_an_end_that_the_broker_made_may_be_because_of_the_pack(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch, loss: MqttConnectionLost, kind: type[UpstreamError]
) -> None:
    async def lost(*_: object, **__: object) -> int:
        raise loss.again()

    async with upstream(broker.url, ack="broker") as u:
        monkeypatch.setattr(MqttConnection, "publish", lost)
        assert type(await outcome(u)) is kind


async def test_mutual_tls(tmp_path: Path) -> None:
    files = await asyncio.to_thread(make_certificates, tmp_path)
    with Mosquitto(BrokerSettings(certificates=files, require_certificate=True)) as broker:
        own = {"cert_file": files.client_cert_file, "key": {"file": files.client_key_file}}
        async with upstream(broker.url, ca_file=files.ca_file, ack="broker", **own) as u:
            await u.send(pack())
        with pytest.raises(Paused, match="not trusted"):
            await MqttUpstream(MqttUpstreamOptions(url=broker.url), DEVICE, SystemClock()).connect()


@pytest.mark.parametrize(("code", "kind"), [(9, RetryLater), (10, Paused), (20, Paused)])
def test_a_certificate_that_is_not_valid_yet_is_our_clocks_affair(
    code: int, kind: type[UpstreamError]
) -> None:
    cause = ssl.SSLCertVerificationError("certificate verify failed")
    cause.verify_code = code
    over_mqtt = MqttUnreachable("x", certificate=True)
    over_mqtt.__cause__ = cause
    made = MqttUpstream(MqttUpstreamOptions(url="mqtts://host"), DEVICE, SystemClock())
    assert type(made._connect_error(over_mqtt)) is kind
    assert type(certificate_error("x", cause)) is kind, "HTTP's own"


@pytest.mark.parametrize("device", ["greenhouse-3", "a/b", "+", "#", "50 %", "ä", "$SYS"])
def test_any_device_id_makes_a_topic_of_its_own(device: str) -> None:
    for topic in (readings_topic(device), ack_topic(device)):
        assert topic.count("/") == 2
        assert not set("+#") & set(topic)
        assert device_of(topic) == device


@pytest.mark.parametrize("topic", ["", "outstation", "outstation/a/b/c", "x/a/ack"])
def test_other_topics_are_of_no_device(topic: str) -> None:
    with pytest.raises(ValueError, match="not a topic"):
        device_of(topic)


def test_an_empty_level_is_nobodys() -> None:
    assert device_of("outstation//readings") == ""


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"url": "http://host"}, "mqtt://"),
        ({"url": "mqtt://me:secret@host"}, "out of the URL"),
        ({"url": "mqtt://localhost", "ca_file": "x"}, "need TLS"),
        ({"url": "mqtt://localhost", "in_flight": 1000}, "less than or equal to 100"),
        ({"url": "mqtt://localhost", "keepalive": "20 h"}, "less than or equal to 65535"),
    ],
)
def test_options_that_cannot_be_right(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        MqttUpstreamOptions(**options)
