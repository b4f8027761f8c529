"""A silent sensor, a link that is down and garbage are three different things: in status, in the log, and in what is said first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.rigs.configuration import device, mqtt_source
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.programs import AgentProgram, run_command

if TYPE_CHECKING:
    from pathlib import Path

    from agent.status.report import SourceStatus, StatusReport


def hall(report: StatusReport) -> SourceStatus:
    (found,) = report.sources
    return found


async def test_each_is_told_as_what_it_is_and_ends_by_itself(tmp_path: Path):
    config = device(mqtt_source("BROKER", silent_after="1500 ms"))
    with Mosquitto() as broker:
        agent = AgentProgram(tmp_path, config.replace("BROKER", broker.url))
        with agent:
            agent.start()
            await agent.until(lambda r: hall(r).state == "connected", "the subscription")
            async with MqttConnection(options_from_url(broker.url)) as sensors:
                # Two sensors, of which one falls silent.
                await sensors.publish("sensors/b", b'{"t": 1}')
                async with asyncio.TaskGroup() as group:
                    speaking = group.create_task(speak(sensors, b'{"t": 2}'))
                    report = await agent.until(lambda r: hall(r).silent_sensors, "one sensor is silent")
                    assert (hall(report).condition, hall(report).silent_sensors) == ("ok", ["sensors/b"])
                    assert "source hall: 1 silent sensors: sensors/b" in report.summary()
                    speaking.cancel()
                # Both do.
                report = await agent.until(lambda r: hall(r).condition == "silent", "silence")
                assert "source hall: silent: nothing comes, though the link is up" in report.summary()
                # Garbage.
                async with asyncio.TaskGroup() as group:
                    speaking = group.create_task(speak(sensors, b"\xffgarbage"))
                    report = await agent.until(lambda r: hall(r).condition == "garbage", "garbage")
                    assert "source hall: nothing but garbage: not JSON" in report.summary()
                    speaking.cancel()
                await sensors.publish("sensors/a", b'{"t": 3}')
                await agent.until(lambda r: hall(r).condition == "ok", "it is good again")
            broker.kill()
            report = await agent.until(lambda r: hall(r).condition == "link_down", "the link is down")
            assert "source hall: link down: 127.0.0.1" in report.summary()
            shown = await asyncio.to_thread(run_command, "status", "--config", agent.config_file)
            assert "mqtt       link down" in shown.stdout
            broker.start()
            await agent.until(lambda r: hall(r).condition == "ok", "it is connected again")
            assert (await agent.stop())[0] == 0
    for words in (
        "listen hall: sensors/b is silent: nothing came for 1.5 s",
        "listen hall: silent: nothing came for 1.5 s, though the link is up: does anything publish to sensors/+",
        "decode hall: nothing but garbage: 8 samples in a row, the newest: not JSON",
        "collect hall: 127.0.0.1",
        "source hall is heard again",
        "source hall sends good data again",
        "source hall is connected again",
    ):
        assert words in agent.log, words


async def speak(sensors: MqttConnection, payload: bytes) -> None:
    while True:
        await sensors.publish("sensors/a", payload)
        await asyncio.sleep(0.2)
