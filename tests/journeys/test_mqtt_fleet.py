"""A hundred MQTT sensors, 200,000 readings at QoS 1; the connection cut 20 times, the agent SIGKILLed 5 times: each arrives once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests.rigs import cloud
from tests.rigs.configuration import device, mqtt_source, upstream
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.programs import ROOT, AgentProgram, free_port, receiver_program, seed_of, until
from tests.rigs.proxy import ChaosProxy

if TYPE_CHECKING:
    from pathlib import Path

    from agent.status.report import StatusReport

SENSORS, READINGS, RATE_HZ = 100, 2000, 3500
LIVES, CUTS = 5, 4
"""So many lives end by SIGKILL, and in each the connection is cut so often: 20 times in all."""
CONNECTED_S = (0.2, 1.2)
DEAD_S = (0.1, 0.8)
DRAIN_S = 120.0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_each_reading_of_a_hundred_sensors_arrives_once(tmp_path: Path):
    rng = random.Random(seed_of("test_mqtt_fleet"))
    port = free_port()
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Mosquitto(BrokerSettings(max_inflight_messages=1000)))
        proxy = await stack.enter_async_context(ChaosProxy(("127.0.0.1", broker.port)))
        url = f"http://127.0.0.1:{port}"
        source = mqtt_source(f"mqtt://127.0.0.1:{proxy.port}", topics=["sensors/{sensor}"])
        agent = stack.enter_context(AgentProgram(tmp_path, device(source, upstream(f"{url}/readings"))))
        receiver = stack.enter_context(receiver_program(tmp_path, url))
        receiver.start()
        await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
        agent.start()
        await agent.until(lambda report: report.sources[0].state == "connected", "the subscription")
        began = time.monotonic()
        fleet = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.rigs.sensor_fleet", "--port", str(broker.port)),
            *("--sensors", str(SENSORS), "--readings", str(READINGS), "--rate", str(RATE_HZ)),
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        stack.callback(end, fleet)
        recognised = await disturb(agent, proxy, rng)
        said, _ = await fleet.communicate()
        spoken_s = time.monotonic() - began
        assert int(said) == SENSORS * READINGS, "acknowledged by the broker"
        database = tmp_path / "cloud.sqlite"
        report = await agent.until(lambda report: arrived_all(report, database), "all have arrived", DRAIN_S)
        recognised += report.sources[0].second_deliveries
        assert (await agent.stop())[0] == 0
        assert (await receiver.stop())[0] == 0
    arrived = await asyncio.to_thread(cloud.rows, database)
    copies = Counter((row.document["tags"]["sensor"], row.document["values"]["n"]) for row in arrived)
    assert len(copies) == SENSORS * READINGS
    assert {key: count for key, count in copies.items() if count > 1} == {}
    assert not cloud.disordered(arrived)
    assert "Traceback" not in agent.log + receiver.log
    assert proxy.connections > LIVES * (CUTS + 1)
    assert recognised, "no message came a second time: nothing was shown"
    print(  # noqa: T201 (shown by pytest -s)
        f"{len(arrived)} readings arrived once, {recognised} second deliveries recognised and told,"
        f" {proxy.connections} connections; sensors spoke {spoken_s:.0f} s, all took {time.monotonic() - began:.0f} s"
    )


def arrived_all(report: StatusReport, database: Path) -> bool:
    cloud_end = report.upstreams[0]
    delivered = not cloud_end.backlog and not cloud_end.in_flight
    return delivered and report.buffer.stored >= SENSORS * READINGS <= cloud.count(database)


async def disturb(agent: AgentProgram, proxy: ChaosProxy, rng: random.Random) -> int:
    """Cut and kill while readings come; how many second deliveries the lives that were killed had recognised."""
    recognised = connections = 0
    for _ in range(LIVES):
        for deed in ["cut"] * CUTS + ["kill"]:
            await until(lambda known=connections: proxy.connections > known, "it is connected anew", 60)
            connections = proxy.connections
            await asyncio.sleep(rng.uniform(*CONNECTED_S))
            if deed == "cut":
                proxy.reset_all()
                continue
            report = await agent.until(lambda report: report.sources[0].frames, "this life collects")
            assert report.buffer.stored < SENSORS * READINGS, "nothing was left to be disturbed"
            recognised += report.sources[0].second_deliveries
            agent.kill()
            await asyncio.sleep(rng.uniform(*DEAD_S))
            agent.start()
    return recognised


def end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
