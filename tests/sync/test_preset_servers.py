"""Each preset against a server that keeps the limits of its cloud as the cloud does: the whole sender, with the real upstreams over
real sockets, for minutes of virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from agent.spine.spine import open_spine
from agent.sync import registry
from tests.rigs.cloud_servers import BUCKET, ORG, TOKEN, CloudServer, HttpCloud, MqttCloud
from tests.rigs.no_timing import AsMeasured
from tests.rigs.virtual_sockets import run_apart, run_with_sockets
from tests.rigs.virtual_time import LoopClock
from tests.sync.memory_buffer import MemoryConsumer, MemoryDeadLetters
from tests.sync.test_presets import WRITTEN

if TYPE_CHECKING:
    from pathlib import Path

DEVICE = "greenhouse-3"
CREDENTIALS: dict[tuple[str, str], dict[str, Any]] = {
    ("aws-iot-core", "mqtt"): {"username": "me"},  # a certificate needs TLS, which has no virtual time
    ("thingsboard", "mqtt"): {"token": "TOKEN"},
    ("thingsboard", "http"): {"token": "TOKEN"},
    ("influxdb", "http"): {"token": "TOKEN", "org": ORG, "bucket": BUCKET},
    ("generic-mqtt", "mqtt"): {},
    ("generic-http", "http"): {"token": "TOKEN"},
}
VALUES = {"temperature": 21.375, "ok": True, "state": 'on, "off" or \\ none\n', "count": 7, "é x": -0.5}


def reading(n: int, rng: random.Random, lane: str) -> dict[str, Any]:
    names = rng.sample(sorted(VALUES), rng.choice([1, 1, 3, 5]))
    document: dict[str, Any] = {
        "source": rng.choice(["soil", "hall 2"]),
        "t": 1790000000.0 + n / 100,
        "values": {name: VALUES[name] for name in names} | {"noise": rng.randrange(10**6) / 1000},
    }
    return document if lane == "normal" else {**document, "lane": lane}


async def measured(consumer: MemoryConsumer, rng: random.Random, texts_bytes: int) -> None:
    """A backlog, with long texts, and then bursts and trickles of readings for a minute or two."""
    count = 0
    text = "x" * 8000
    large = [
        {"source": "log", "t": 1789990000.0 + n, "values": {"line": text}}
        for n in range(texts_bytes // len(text))
    ]

    def some(how_many: int, lane: str) -> None:
        nonlocal count
        consumer.add(*(reading(count + n, rng, lane) for n in range(how_many)))
        count += how_many

    some(500, "normal")
    consumer.add(*large)
    for _ in range(6):
        for _ in range(rng.choice([1, 15, 40])):
            some(rng.choice([1, 1, 1, 60]), rng.choice(["normal", "normal", "alarm"]))
            await asyncio.sleep(rng.choice([0, 0.01, 0.1, 1]))
        await asyncio.sleep(rng.choice([0, 5, 20]))


def expected(preset: str, consumer: MemoryConsumer) -> dict[Any, Any]:
    """What has to have arrived, as the server tells it apart."""
    documents = {record.seq: record.document for record in consumer.records}
    if preset == "influxdb":
        return {
            (
                (("device", DEVICE), ("source", document["source"])),
                round(document["t"] * 1e6) * 1000 + seq % 1000,
            ): {name: float(v) if type(v) is int else v for name, v in document["values"].items()}
            for seq, document in documents.items()
        }
    return {seq: document["values"] for seq, document in documents.items()}


async def deliver(preset: str, driver: str, token: Path, trouble: float, latency_s: float) -> None:
    rng = random.Random(1)
    cloud = (HttpCloud if driver == "http" else MqttCloud)(preset, rng, trouble, latency_s)
    if isinstance(cloud, MqttCloud):
        cloud.topic = (
            "v1/devices/me/telemetry" if preset == "thingsboard" else f"outstation/{DEVICE}/readings"
        )
    consumer, letters = MemoryConsumer(), MemoryDeadLetters()
    async with cloud, open_spine(rng=rng, clock=LoopClock()) as spine:
        path = "/readings" if preset == "generic-http" else ""
        written = {
            key: {"file": token} if value == "TOKEN" else value
            for key, value in CREDENTIALS[preset, driver].items()
        }
        options = registry.load_options_class(driver).model_validate(
            {
                "preset": preset,
                "url": f"{driver}://127.0.0.1:{cloud.port}{path}",
                "retry": {"first": 1, "base": 0.1, "cap": 5},
                **written,
            }
        )
        sender = registry.create_sender("cloud", options, DEVICE, consumer, letters, spine, AsMeasured())
        _, task = spine.start("sync", sender.run(), layer="sync", subject="cloud")
        await measured(consumer, rng, 2_000_000 if preset == "aws-iot-core" else 100_000)
        async with asyncio.timeout(86400):
            while consumer.backlog:
                await asyncio.sleep(1)
        assert not task.done()
        holding = sender.status.last_error
    assert_delivered(preset, cloud, consumer)
    assert letters.letters == []
    assert preset != "influxdb" or getattr(cloud, "waits", 0) > 0
    if not trouble and preset != "influxdb":
        assert holding is None


def assert_delivered(preset: str, cloud: CloudServer, consumer: MemoryConsumer) -> None:
    assert cloud.exceeded == []
    assert cloud.wrong == []
    if preset != "thingsboard":
        assert cloud.arrived == expected(preset, consumer)
        return
    arrived: dict[str, list[Any]] = defaultdict(list)
    for (
        (_, key),
        value,
    ) in cloud.arrived.items():  # each key and millisecond once: so none was merged if there are as many
        arrived[key].append(value)
    for record in consumer.records:
        for name, value in record.document["values"].items():
            arrived[f"{record.document['source']}.{name}"].remove(value)
    assert not any(arrived.values())


@pytest.mark.parametrize(
    ("preset", "driver", "trouble", "latency_s"),
    [
        *((*each, trouble, 0.05) for each in WRITTEN for trouble in (0.0, 0.1)),
        ("aws-iot-core", "mqtt", 0.0, 4.0),  # many are on their way
        ("generic-mqtt", "mqtt", 0.0, 4.0),
    ],
)
def test_a_cloud_takes_everything_and_has_nothing_to_complain_of(
    preset: str,
    driver: str,
    trouble: float,
    latency_s: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("drivers.transport.mqtt_client.run_apart", run_apart)
    (tmp_path / "token").write_text(TOKEN)
    run_with_sockets(deliver(preset, driver, tmp_path / "token", trouble, latency_s))
