"""Whatever a device measures and whatever its link does, no limit of the cloud that a preset names is exceeded."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.spine.spine import open_spine
from agent.sync import feeder, registry
from agent.sync.config import HttpUpstreamOptions, MqttUpstreamOptions, NatsUpstreamOptions, UpstreamOptions
from agent.sync.formats import Format
from agent.sync.limits import Load, SlidingLimits
from agent.sync.presets import PRESETS
from agent.sync.upstream import LinkLost, Pack, RetryLater, TooLarge, UpstreamError
from tests.rigs.limiting_cloud import CLOUDS, LimitingCloud, Windows
from tests.rigs.no_timing import AsMeasured
from tests.rigs.virtual_time import LoopClock, run_virtually
from tests.sync.memory_buffer import MemoryConsumer, MemoryDeadLetters

WRITTEN: dict[tuple[str, str], dict[str, Any]] = {
    ("aws-iot-core", "mqtt"): {"url": "mqtts://a.iot.example", "cert_file": "cert.pem"},
    ("thingsboard", "mqtt"): {"url": "mqtts://tb.example", "token": {"file": "token"}},
    ("thingsboard", "http"): {"url": "https://tb.example", "token": {"file": "token"}},
    ("influxdb", "http"): {"url": "https://in.example", "token": {"file": "t"}, "org": "o", "bucket": "b"},
    ("generic-mqtt", "mqtt"): {"url": "mqtts://broker.example"},
    ("generic-http", "http"): {"url": "https://api.example/readings"},
}
"""What one has to write for each: url and credentials."""


EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
"""Of each preset; `EXAMPLES=2000` in the environment looks further."""


def options_of(preset: str, driver: str, **further: Any) -> UpstreamOptions:
    written = {"preset": preset, **WRITTEN[preset, driver], **further}
    return registry.load_options_class(driver).model_validate(written)


def test_every_preset_is_here():
    assert set(WRITTEN) == {(preset, driver) for preset, drivers in PRESETS.items() for driver in drivers}
    assert set(CLOUDS) == set(PRESETS)


def a_reading(n: int, values: int, lane: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "source": "soil",
        "t": 1790000000.0 + n / 100,
        "values": {f"metric_{place}": 17.25 + place for place in range(values)},
    }
    return document if lane == "normal" else {**document, "lane": lane}


def as_large(device_id: str, store_id: str, records: Any) -> bytes:
    """As large as SenML is, and made in no time."""
    return bytes(sum(90 + 50 * len(record.document["values"]) for record in records))


moments = st.tuples(
    st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0, 70.0]),  # until the next
    st.integers(1, 120),  # readings
    st.sampled_from([1, 3, 20]),  # values of each
    st.sampled_from(["normal", "normal", "alarm"]),
)
weathers = st.sampled_from([None, None, None, None, LinkLost("cut"), RetryLater("429"), TooLarge("413")])


def _weather(
    pack: Pack | None, troubles: list[UpstreamError | None], rng: random.Random
) -> UpstreamError | None:
    """One of the troubles now and then; one reading alone is never too large."""
    if not troubles or rng.random() > 0.1:
        return None
    trouble = troubles.pop()
    return None if isinstance(trouble, TooLarge) and (pack is None or pack.count == 1) else trouble


def ran(
    preset: str,
    driver: str,
    backlog: int,
    schedule: list[tuple[float, int, int, str]],
    troubles: list[UpstreamError | None],
    seed: int = 0,
    latency_s: float = 0.05,
) -> LimitingCloud:
    """What a cloud counted of a sender of this preset, after it had delivered all."""
    rng = random.Random(seed)
    quick = {"retry": {"first": 0.1, "base": 0.1, "cap": 1}}
    options = options_of(preset, driver, **quick)

    async def run() -> LimitingCloud:
        consumer, letters = MemoryConsumer(), MemoryDeadLetters()
        cloud = LimitingCloud(
            CLOUDS[preset],
            getattr(options, "in_flight", 1),
            options.message_size,
            driver == "mqtt",
            rng,
            weather=lambda pack: _weather(pack, troubles, rng),
            latency_s=latency_s,
        )
        async with open_spine(rng=rng, clock=LoopClock()) as spine:
            sender = registry.make_sender("cloud", options, cloud, consumer, letters, spine, AsMeasured())
            consumer.add(*(a_reading(n, 3, "normal") for n in range(backlog)))
            _, task = spine.start("sync", sender.run(), layer="sync", subject="cloud")
            for gap_s, count, values, lane in schedule:
                consumer.add(*(a_reading(n, values, lane) for n in range(count)))
                await asyncio.sleep(gap_s)
            async with asyncio.timeout(20 * 86400):
                while consumer.backlog:
                    await asyncio.sleep(10)
            assert not task.done()
        assert letters.letters == []
        sent = {seq for pack in cloud.packs for seq in range(pack.first, pack.last + 1)}
        assert sent >= {record.seq for record in consumer.records}
        return cloud

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "create_format", lambda _: Format(as_large, "text/plain"))
        patch.setattr(feeder, "_THREAD_READINGS_MIN", 10**9)  # a thread would take no virtual time
        return run_virtually(run())


@pytest.mark.parametrize(("preset", "driver"), WRITTEN)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    backlog=st.integers(0, 400),
    schedule=st.lists(moments, max_size=5),
    troubles=st.lists(weathers, max_size=12),
    seed=st.integers(0, 1000),
    latency_s=st.sampled_from([0.05, 4.0]),
)
def test_no_schedule_of_readings_exceeds_a_limit(
    preset, driver, backlog, schedule, troubles, seed, latency_s
):
    assert ran(preset, driver, backlog, schedule, troubles, seed, latency_s).exceeded == []


@pytest.mark.parametrize(
    ("preset", "driver", "backlog", "messages", "values", "latency_s"),
    [
        ("aws-iot-core", "mqtt", 20_000, 0, 0, 0.05),  # 4.8 MB: more than nine seconds' bytes
        ("aws-iot-core", "mqtt", 0, 1000, 1, 0.05),
        ("aws-iot-core", "mqtt", 0, 1000, 1, 5.0),  # more on their way than it takes
        ("generic-mqtt", "mqtt", 0, 300, 1, 10.0),
        ("thingsboard", "mqtt", 0, 1200, 14, 0.05),  # 16,800 values: more than an hour's
        ("thingsboard", "http", 0, 1600, 1, 0.05),
        ("generic-mqtt", "mqtt", 0, 1600, 1, 0.05),
        ("generic-http", "http", 0, 1600, 1, 0.05),
    ],
)
def test_what_no_window_has_room_for_takes_longer(preset, driver, backlog, messages, values, latency_s):
    """A backlog in large batches; or alarms, each a message of its own where there is room."""
    schedule = [(0.004 if preset == "aws-iot-core" else 0.05, 1, values, "alarm")] * messages
    assert ran(preset, driver, backlog, schedule, [], 0, latency_s).exceeded == []


@pytest.mark.parametrize(("preset", "driver"), WRITTEN)
@pytest.mark.parametrize("values", [1, 12])
def test_whoever_sends_as_soon_as_limits_allow_exceeds_no_window_of_the_cloud_in_hours(
    preset, driver, values
):
    """Messages without end: what no link and no server is quick enough for in a test."""
    limits, cloud, now_s = SlidingLimits(options_of(preset, driver).limits), CLOUDS[preset], 0.0
    windows = [
        Windows("messages", cloud.messages),
        Windows("bytes", cloud.bytes),
        Windows("values", cloud.points),
    ]
    load = Load(700 * values, values)
    hours = 1.2 if cloud.messages and cloud.messages[-1][1] >= 60 else 0.01
    while now_s < hours * 3600:
        now_s += limits.wait_s(now_s, load) + 1e-7
        if limits.wait_s(now_s, load) > 0:
            continue
        limits.add(now_s, load)
        weights = (1, load.size_bytes, load.points)
        assert [window.add(now_s, weight) for window, weight in zip(windows, weights, strict=True)] == [
            None
        ] * 3
        now_s += 0 if cloud.messages else 0.01


def test_a_cloud_that_is_asked_for_too_much_says_so():
    async def run() -> list[str]:
        cloud = LimitingCloud(CLOUDS["generic-mqtt"], 20, 1, lasting=True, rng=random.Random(1))
        for _ in range(2):
            await cloud.connect()
        return cloud.exceeded

    assert run_virtually(run()) == ["2 connects in 1 s, 1 are allowed"]


def test_what_is_written_wins_over_the_preset():
    assert options_of("thingsboard", "mqtt", limits=[], in_flight=1).limits == ()
    assert options_of("generic-mqtt", "mqtt", ack="receiver").tells_losses
    assert options_of("generic-mqtt", "mqtt").format == "senml"


@pytest.mark.parametrize(
    ("driver", "written", "said"),
    [
        ("http", {"preset": "aws-iot-core", "url": "https://x.example"}, "is for mqtt upstreams"),
        ("mqtt", {"preset": "azure", "url": "mqtts://x.example"}, "aws-iot-core"),
        ("mqtt", {"preset": "aws-iot-core", "url": "mqtts://x.example"}, "by its certificate"),
        ("http", {"preset": "influxdb", "url": "https://x.example"}, "`org` and `bucket`"),
        ("http", {"preset": "thingsboard", "url": "https://x.example"}, "access token"),
        ("mqtt", {"url": "mqtts://x.example", "format": "influx"}, "which reads"),
        ("mqtt", {"url": "mqtts://x.example", "topic": "a/+"}, "no topic"),
        ("mqtt", {"url": "mqtts://x.example", "topic": "{dev}/a"}, "{device}"),
        ("mqtt", {"url": "mqtt://x.example"}, "tls = false"),
        ("http", {"url": "http://10.0.0.7/readings"}, "tls = false"),
        ("nats", {"url": "nats://127.0.0.1,x.example"}, "tls = false"),
        ("mqtt", {"url": "mqtt://localhost", "tls": True}, "needs a url with TLS"),
        ("nats", {"url": "nats://me:secret@localhost"}, "out of the URL"),
        ("nats", {"url": "localhost:4222"}, "should be like"),
        ("nats", {"url": "nats://localhost", "token": {"file": "t"}, "username": "me"}, "not both"),
    ],
)
def test_what_cannot_work_is_refused_with_what_would(driver, written, said):
    with pytest.raises(ValueError, match=said) as refused:
        registry.load_options_class(driver).model_validate(written)
    assert "secret" not in str(refused.value).split("[type=")[0].replace("secret@", "")


@pytest.mark.parametrize(
    ("options", "made"),
    [
        (MqttUpstreamOptions, {"url": "mqtt://10.1.2.3", "tls": False}),
        (HttpUpstreamOptions, {"url": "http://127.1.2.3/"}),
        (NatsUpstreamOptions, {"url": "nats://localhost:4222,[::1]:4223"}),
        (NatsUpstreamOptions, {"url": "tls://nats.example"}),
    ],
)
def test_plain_connections_are_for_loopback_or_by_permission(options, made):
    assert options.model_validate(made).url == made["url"]


def test_the_url_names_the_driver():
    assert [
        registry.driver_for(url) for url in ("mqtts://x", "https://x", "nats://x", "tls://x", "ftp://x", None)
    ] == [
        *("mqtt", "http", "nats", "nats"),
        None,
        None,
    ]
