"""What is wrong is told once, with its remedy; nothing else is harmed by it."""

from __future__ import annotations

import asyncio
import base64
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from tests.rigs import cloud, stored
from tests.rigs.configuration import counting_source, device, mqtt_source, serial_source, upstream
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.programs import AgentProgram, free_port, receiver_program, run_command
from tests.rigs.pty import PtySensor

if TYPE_CHECKING:
    from pathlib import Path

    from agent.status.report import SourceStatus, StatusReport

WRONG = """\
[devise]
id = "x"

[[source]]
id = "boiler"
driver = "seriall"

[[source]]
id = "hall"
driver = "mqtt"
url = "mqtt://user:hunter2@broker"
topics = ["a/#/b"]
qos = 2

[[source]]
driver = "serial"
port = "/dev/ttyUSB0"
baudrate = "fast"

[[pipeline]]
sources = ["hall", "cellar"]

[[pipeline.step]]
processor = "deadbandd"

[buffer]
path = "buffer"
window = "soon"

[[upstream]]
name = "cloud"
driver = "http"
url = "ftp://cloud"
"""
WRONG_KEYS = [
    "devise",
    "source[0].driver",
    "source[1].url",
    "source[1].topics[0]",
    "source[1].qos",
    "source[2].id",
    "source[2].baudrate",
    "pipeline[0].sources[1]",
    "pipeline[0].step[0].processor",
    "buffer.window",
    "upstream[0].url",
]


@pytest.mark.parametrize("command", ["run", "check", "status"])
def test_a_wrong_configuration_is_told_whole_and_starts_nothing(tmp_path: Path, command: str):
    config = tmp_path / "wrong.toml"
    config.write_text(WRONG)
    ended = run_command(command, "--config", config)
    assert ended.returncode == 2
    assert not ended.stdout
    first, *lines = ended.stderr.splitlines()
    assert first == f"{config}: {len(WRONG_KEYS)} problems"
    assert sorted(line.split(": ")[1] for line in lines) == sorted(WRONG_KEYS)
    assert all(re.match(r"  wrong\.toml:\d+: ", line) for line in lines)
    assert "hunter2" not in ended.stderr
    assert list(tmp_path.iterdir()) == [config]


def test_a_configuration_that_is_missing_or_no_toml_is_wrong_too(tmp_path: Path):
    missing = run_command("run", "--config", tmp_path / "none.toml")
    assert missing.returncode == 2
    assert "there is no file" in missing.stderr
    (tmp_path / "broken.toml").write_text("[device\n")
    broken = run_command("run", "--config", tmp_path / "broken.toml")
    assert broken.returncode == 2
    assert "broken.toml:1: " in broken.stderr


GARBAGE = {
    b"\xff\xfe{{{": "not",  # no UTF-8, no JSON
    b'{"n": NaN}': "NaN",
    b'{"n": 1': "",
    b"[]": "",
    b"x" * 250: "200",
}


async def test_garbage_on_the_line_becomes_dead_letters_and_the_next_good_line_is_read(tmp_path: Path):
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Mosquitto())
        sensor = await stack.enter_async_context(PtySensor(tmp_path))
        config = device(
            serial_source(sensor.port, framing={"type": "lines", "max_frame": 200}), mqtt_source(broker.url)
        )
        agent = stack.enter_context(AgentProgram(tmp_path, config))
        agent.start()
        await agent.until(lambda r: all(s.state == "connected" for s in r.sources), "both sources")
        for number, garbage in enumerate(GARBAGE):
            await sensor.write(garbage + b"\n" + b'{"good": %d}\n' % number)
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.publish("sensors/a", b"\x00garbage", qos=1)
            await client.publish("sensors/a", b'{"good": 100}', qos=1)
        report = await agent.until(lambda r: r.buffer.stored == len(GARBAGE) + 1, "the good ones are kept")
        assert of(report, "boiler").dead_letters == len(GARBAGE)
        assert of(report, "hall").dead_letters == 1
        assert report.summary() == "no upstream is configured: readings are kept here"
        assert (await agent.stop())[0] == 0  # all was acknowledged, garbage too: nothing comes again
        agent.start()
        report = await agent.until(lambda r: of(r, "hall").state == "connected", "the session")
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.publish("sensors/a", b'{"good": 101}', qos=1)
        report = await agent.until(lambda r: of(r, "hall").frames == 1, "only what is new comes")
        assert of(report, "hall").second_deliveries == 0
        assert (await agent.stop())[0] == 0
    check_dead_letters(agent)


def check_dead_letters(agent: AgentProgram) -> None:
    kept = [document["values"]["good"] for document in stored.documents(agent.buffer).values()]
    assert sorted(kept) == [*range(len(GARBAGE)), 100, 101]
    letters = list(stored.documents(agent.buffer, "dead_letters").values())
    serial = [letter for letter in letters if letter["source"] == "boiler"]
    assert len(letters) == len(serial) + 1
    for letter, (garbage, reason) in zip(serial, GARBAGE.items(), strict=True):
        raw = base64.b64decode(letter["raw"])
        assert garbage.startswith(raw)
        assert raw == garbage or letter["stage"] == "framing"
        assert letter["reason"]
        assert reason in letter["reason"]


FAILING = ("boiler", "hall", "gate")
RETRIES_S = 2.5
"""Enough for some attempts at each (the back-off of local sources begins with half a second)."""


@pytest.mark.timeout(120)
async def test_what_fails_is_told_once_and_retried_while_the_rest_runs(tmp_path: Path):
    cloud_port, password_file = free_port(), tmp_path / "password"
    password_file.write_text("wrong\n")
    async with AsyncExitStack() as stack:
        absent = stack.enter_context(Mosquitto())
        absent.stop()
        closed = stack.enter_context(Mosquitto(BrokerSettings(users={"gate": "right"})))
        sensor = PtySensor(tmp_path)
        stack.push_async_callback(sensor.unplug)
        config = device(
            serial_source(sensor.port),
            mqtt_source(absent.url),
            mqtt_source(
                f"mqtt://127.0.0.1:{closed.port}",
                "gate",
                username="gate",
                password={"file": str(password_file)},
            ),
            counting_source(50),
            upstream(f"http://127.0.0.1:{cloud_port}/readings"),
        )
        agent = stack.enter_context(AgentProgram(tmp_path, config))
        receiver = stack.enter_context(receiver_program(tmp_path, f"http://127.0.0.1:{cloud_port}"))
        agent.start()
        await agent.until(lambda r: r.buffer.stored > 10 and r.upstreams[0].last_error, "the rest runs")
        await asyncio.sleep(RETRIES_S)
        await check_told_once(agent)

        await sensor.plug()
        absent.start()
        password_file.write_text("right\n")
        receiver.start()
        await agent.until(lambda r: all(s.state == "connected" for s in r.sources), "all mended", 60)
        await sensor.write(b'{"late": 1}\n')
        await agent.until(lambda r: of(r, "boiler").frames == 1, "the port that came late")
        report = await agent.until(lambda r: not r.upstreams[0].holding_back, "delivery")
        assert report.summary().startswith(("everything is delivered", "delivering"))
        assert (await agent.stop())[0] == 0
        for name in FAILING:
            assert f"source {name} is connected again" in agent.log
            assert len(complaints(agent, name)) == 1
        assert agent.log.count("cloud delivers again") == 1
        assert {row.source for row in cloud.rows(tmp_path / "cloud.sqlite")} >= {"counter", "boiler"}


async def check_told_once(agent: AgentProgram) -> None:
    for name in FAILING:
        assert len(complaints(agent, name)) == 1, agent.log
    assert agent.log.count("sync: deliver") == 1
    report = await agent.until(lambda r: of(r, "counter").state == "connected")
    assert [of(report, name).state for name in FAILING] == ["failing"] * 3
    first_line = run_command("status", "--config", agent.config_file).stdout.splitlines()[0]
    assert "readings not delivered" in first_line
    for reason in ("cloud: ", "boiler: ", "no such port", "hall: ", "refused", "gate: ", "ot authori"):
        assert reason in first_line


def complaints(agent: AgentProgram, source_id: str) -> list[str]:
    lines = agent.log.splitlines()
    return [line for line in lines if f" {source_id}: " in line and ("WARNING" in line or "ERROR" in line)]


def of(report: StatusReport, source_id: str) -> SourceStatus:
    return next(source for source in report.sources if source.source_id == source_id)
