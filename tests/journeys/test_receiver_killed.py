"""The receiver is killed again and again while it writes: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.rigs import cloud, stored
from tests.rigs.configuration import counting_source, device, upstream
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.programs import AgentProgram, free_port, receiver_program, seed_of, until

if TYPE_CHECKING:
    from pathlib import Path

RETRY = {"first": "200 ms", "base": "100 ms", "cap": "500 ms", "stable": "1 s"}
KILLS = 4


def config_of(url: str, rate_hz: float = 500, **options: object) -> str:
    sent = upstream(url, retry=RETRY, linger="50 ms", batch_readings=50, **options)
    return device(counting_source(rate_hz), sent)


@pytest.mark.parametrize(
    "driver", ["mqtt", pytest.param("http", marks=[pytest.mark.slow, pytest.mark.timeout(180)])]
)
async def test_a_receiver_that_is_killed_loses_and_doubles_nothing(tmp_path: Path, driver: str):
    rng = random.Random(seed_of(f"test_receiver_killed[{driver}]"))
    with Mosquitto(BrokerSettings()) as broker:
        url = broker.url if driver == "mqtt" else f"http://127.0.0.1:{free_port()}"
        database = tmp_path / "cloud.sqlite"
        at, acknowledged = (
            (url, {"ack": "receiver", "ack_timeout": "5 s"}) if driver == "mqtt" else (f"{url}/readings", {})
        )
        config = config_of(at, **acknowledged)
        with receiver_program(tmp_path, url) as receiver, AgentProgram(tmp_path, config) as agent:
            receiver.start()
            await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
            agent.start()
            for _ in range(KILLS):
                before = cloud.count(database)
                await until(lambda before=before: cloud.count(database) > before + 100, "readings arrive")
                await asyncio.sleep(rng.uniform(0, 0.4))
                receiver.kill()
                await asyncio.sleep(rng.uniform(0, 0.5))
                receiver.start()
            before = cloud.count(database)
            await until(lambda: cloud.count(database) > before + 500, "the backlog drains")
            assert (await agent.stop())[0] == 0
            # It may have stopped in one of the retries, or with a backlog: that drains while hardly anything is added.
            agent.config_file.write_text(config_of(at, rate_hz=1, **acknowledged))
            agent.start()
            await agent.until(
                lambda report: report.upstreams[0].delivered and not report.upstreams[0].backlog
            )
            assert (await agent.stop())[0] == 0
            on_device = stored.documents(agent.buffer)
            assert (await receiver.stop())[0] == 0
    arrived = cloud.rows(database)
    first_life = [row.document["values"]["n"] for row in arrived]
    assert [row.seq for row in arrived] == list(on_device)
    assert not cloud.disordered(arrived)
    for row in arrived:
        assert row.document["values"] == on_device[row.seq]["values"]
    assert first_life[:1000] == list(range(1000))


async def test_a_reading_counts_as_delivered_only_when_the_receiver_has_committed_it(tmp_path: Path):
    with Mosquitto() as broker:
        config = config_of(broker.url, ack="receiver", ack_timeout="1 s")
        with (
            receiver_program(tmp_path, broker.url) as receiver,
            AgentProgram(tmp_path, config) as agent,
        ):
            agent.start()
            report = await agent.until(lambda r: r.upstreams[0].last_error, "nobody acknowledges")
            assert report.upstreams[0].delivered == 0
            assert "is `outstation receive` running?" in report.summary()
            receiver.start()
            report = await agent.until(lambda r: r.upstreams[0].delivered, "somebody acknowledges")
            assert cloud.count(tmp_path / "cloud.sqlite") >= report.upstreams[0].delivered
