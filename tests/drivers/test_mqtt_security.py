"""TLS, certificates, users and passwords, on a real broker."""

import asyncio
import dataclasses
import ssl

import pytest

from collectors.clock import SystemClock
from drivers.mqtt.config import MqttSourceConfig
from drivers.mqtt.source import MqttSource
from drivers.transport.mqtt import (
    MqttConnection,
    MqttConnectRefused,
    MqttUnreachable,
    TlsFiles,
    options_from_url,
)
from drivers.transport.secret import Secret
from tests.rigs.certificates import make_certificates
from tests.rigs.mosquitto import BrokerSettings, Mosquitto


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def tls_broker(certificates):
    with Mosquitto(BrokerSettings(certificates=certificates)) as running:
        yield running


async def round_trips(options, count=1, size=10):
    async with MqttConnection(options) as both:
        await both.subscribe("a", 1)
        await asyncio.gather(*(both.publish("a", bytes(size)) for _ in range(count)))
        for _ in range(count):
            message = await both.receive()
            both.acknowledge(message)
            assert message.payload == bytes(size)


@pytest.mark.parametrize(("count", "size"), [(1, 0), (500, 100), (3, 400_000)])
async def test_tls(tls_broker, certificates, count, size):
    await round_trips(options_from_url(tls_broker.url, tls=TlsFiles(certificates.ca_file)), count, size)


async def test_a_ready_context_serves_too(tls_broker, certificates):
    context = ssl.create_default_context(cafile=certificates.ca_file)
    await round_trips(options_from_url(tls_broker.url, tls=context))


async def test_an_unknown_authority_is_not_trusted(tls_broker):
    with pytest.raises(MqttUnreachable, match="certificate") as failure:
        await round_trips(options_from_url(tls_broker.url))
    assert failure.value.certificate


async def test_a_certificate_for_another_host_is_not_trusted(tls_broker, certificates):
    options = options_from_url(tls_broker.url, tls=TlsFiles(certificates.ca_file))
    with pytest.raises(MqttUnreachable, match="certificate"):
        await round_trips(dataclasses.replace(options, host="127.0.0.1"))


async def test_a_file_that_is_missing_is_named(tls_broker, tmp_path):
    with pytest.raises(MqttUnreachable, match="No such file"):
        await round_trips(options_from_url(tls_broker.url, tls=TlsFiles(tmp_path / "none.crt")))


async def test_tls_to_a_plain_broker_says_so():
    with Mosquitto() as broker, pytest.raises(MqttUnreachable):
        await round_trips(options_from_url(broker.url.replace("mqtt://", "mqtts://"), connect_timeout_s=2))


async def test_plain_to_a_tls_broker_says_so(tls_broker):
    with pytest.raises(MqttUnreachable):
        await round_trips(options_from_url(f"mqtt://127.0.0.1:{tls_broker.port}", connect_timeout_s=2))


async def test_mutual_tls(certificates):
    settings = BrokerSettings(certificates=certificates, require_certificate=True)
    with Mosquitto(settings) as broker:
        files = TlsFiles(
            certificates.ca_file, certificates.client_cert_file, Secret(file=certificates.client_key_file)
        )
        await round_trips(options_from_url(broker.url, tls=files))
        with pytest.raises(MqttUnreachable):
            await round_trips(options_from_url(broker.url, tls=TlsFiles(certificates.ca_file)))


@pytest.mark.parametrize("protocol", [5, 4])
async def test_user_and_password(protocol):
    with Mosquitto(BrokerSettings(users={"device": "s3cret ä"})) as broker:
        options = options_from_url(broker.url, username="device", password="s3cret ä", protocol=protocol)
        await round_trips(options)
        for wrong in ({"password": "other"}, {"username": "nobody"}, {"username": None, "password": None}):
            with pytest.raises(MqttConnectRefused) as refusal:
                await round_trips(dataclasses.replace(options, **wrong))
            assert refusal.value.authorisation
            assert not refusal.value.retryable
            assert "s3cret" not in str(refusal.value)


async def test_a_source_with_tls_and_a_password_file(certificates, tmp_path):
    word = tmp_path / "word"
    word.write_text("s3cret\n")
    with Mosquitto(BrokerSettings(certificates=certificates, users={"device": "s3cret"})) as broker:
        config = MqttSourceConfig(
            url=broker.url.replace("://", "://device@"),
            topics=["a"],
            client_id="c",
            password={"file": word},
            ca_file=certificates.ca_file,
        )
        source = MqttSource("s", config, data_format="json", clock=SystemClock())
        await source.connect()
        await source.disconnect()
        word.unlink()
        with pytest.raises(ConnectionError, match="password cannot be read"):
            await source.connect()
