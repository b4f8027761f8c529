"""Windows of MQTT messages, counted by a device that is killed, and told to change its configuration, again and again."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from buffer import BufferDB
from tests.rigs.configuration import device, mqtt_source
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.mqtt_sensors import MqttSensor, speaking
from tests.rigs.programs import AgentProgram, seed_of

if TYPE_CHECKING:
    from pathlib import Path

SENSORS, HZ, LIVES = 5, 40.0, 5
SETTLED_S = 5.0
PIPELINE = """
[[pipeline]]

[[pipeline.step]]
processor = "aggregate"
every = "1 s"
lateness = "2 s"
functions = ["count", "max"]
on_error = "dead_letter"
"""
TAG = """
[[pipeline.step]]
processor = "tag"
tags = { site = "north" }
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_device_that_is_killed_again_and_again_counts_each_message_once(tmp_path):
    rng = random.Random(seed_of("test_windows"))
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Mosquitto(BrokerSettings(persistence=True)))
        configurations = [
            device(mqtt_source(broker.url, keepalive=keepalive), PIPELINE, step)
            for keepalive, step in (("60 s", ""), ("60 s", TAG), ("50 s", ""))
        ]
        agent = stack.enter_context(AgentProgram(tmp_path, configurations[0]))
        sensors = [MqttSensor(f"sensor-{place}", broker.port, HZ) for place in range(SENSORS)]
        agent.start()
        await agent.until(lambda report: report.sources[0].state == "connected", "the subscription")
        async with speaking(sensors):
            for _ in range(LIVES):
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(rng.uniform(0.1, 1))
                    await asyncio.to_thread(agent.config_file.write_text, rng.choice(configurations))
                    agent.signal(signal.SIGHUP)
                await asyncio.sleep(rng.uniform(0, 1.5))
                agent.kill()
                agent.start()
                await agent.until(lambda report: report.sources[0].state == "connected", "it is back")
            await asyncio.sleep(2)
        published = sum(sensor.published for sensor in sensors)
        await settled(agent)
        assert (await agent.stop())[0] == 0
        assert "configuration was read again" in agent.log
        assert "ERROR" not in agent.log
    windows, late = await asyncio.to_thread(kept, tmp_path / "buffer")
    counted = sum(document["values"]["n.count"] for document in windows)
    keys = [(document["tags"]["topic"], document["t"]) for document in windows]
    assert len(keys) == len(set(keys)), "each window once"
    assert counted + late == published
    print(f"{published} messages in {len(windows)} windows, {late} too late, {LIVES} kills")  # noqa: T201 (figures)


async def settled(agent: AgentProgram) -> None:
    """Wait until no message comes any more, and no window: the last one is given when its sensor was silent for a window
    and its lateness.
    """
    now: tuple[int, int] | None = None
    since = time.monotonic()
    async with asyncio.timeout(60):
        while time.monotonic() - since < SETTLED_S:
            report = await agent.report()
            assert report is not None
            last, now = now, (report.sources[0].frames, report.buffer.stored)
            if now != last:
                since = time.monotonic()
            await asyncio.sleep(0.1)


def kept(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The windows, and how many dead letters."""
    with BufferDB(folder) as buffer:
        return [dict(document) for document in buffer.table("readings")], len(buffer.table("dead_letters"))
