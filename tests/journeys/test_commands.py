"""`read`, `status`, `check`, `--version` beside a running agent."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import TYPE_CHECKING

import aiomqtt

from agent.version import version
from tests.rigs import stored
from tests.rigs.configuration import DEVICE_ID, counting_source, device, mqtt_source, serial_source
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.mqtt_sensors import MqttSensor, speaking
from tests.rigs.programs import AgentProgram, run_command
from tests.rigs.pty import PtySensor

if TYPE_CHECKING:
    from pathlib import Path


def config_of(port: str | Path, url: str) -> str:
    return device(serial_source(port), mqtt_source(url))


async def test_read_prints_one_source_and_takes_nothing_from_the_running_agent(tmp_path: Path):
    with Mosquitto() as broker:
        async with PtySensor(tmp_path) as port:
            with AgentProgram(tmp_path, config_of(port.port, broker.url)) as agent:
                agent.start()
                before = await agent.until(lambda r: r.sources[1].state == "connected", "the session")
                sensor = MqttSensor("a", broker.port, 50)
                async with speaking([sensor]):
                    await agent.until(lambda r: r.sources[1].frames > 5, "messages")
                    read = await asyncio.to_thread(
                        run_command, "read", "hall", "--count", "20", "--config", agent.config_file
                    )
                assert read.returncode == 0, read.stderr
                numbers = [json.loads(line.split("  ")[1])["n"] for line in read.stdout.splitlines()]
                assert numbers == list(range(numbers[0], numbers[0] + 20))
                assert '{"topic": "sensors/a"}' in read.stdout
                after = await agent.until(lambda r: r.sources[1].frames >= sensor.published, "all messages")
                assert after.sources[1].since == before.sources[1].since, "its connection was taken away"
                assert (await agent.stop())[0] == 0
    kept = [document["values"]["n"] for document in stored.documents(agent.buffer).values()]
    assert kept == list(range(sensor.published))


async def test_read_shows_garbage_needs_no_agent_and_stores_nothing(tmp_path: Path):
    async with PtySensor(tmp_path) as port:
        config = tmp_path / "read.toml"
        config.write_text(config_of(port.port, "mqtt://127.0.0.1:1"))
        reading = asyncio.create_task(
            asyncio.to_thread(run_command, "read", "boiler", "-n", "2", "--config", config)
        )
        while not reading.done():  # what is written before the port is open is lost, as on a real line
            await port.write(b'{"celsius": 21.5}\nno json\n')
            await asyncio.sleep(0.1)
        read = await reading
    assert read.returncode == 0, read.stderr
    assert '  {"celsius": 21.5}' in read.stdout
    assert re.search(r"GARBAGE  not JSON.*b'no json'", read.stdout)
    assert not (tmp_path / "buffer").exists()


def test_read_says_what_is_wrong(tmp_path: Path):
    config = tmp_path / "read.toml"
    config.write_text(config_of(tmp_path / "absent", "mqtt://127.0.0.1:1"))
    absent = run_command("read", "boiler", "--config", config)
    assert absent.returncode == 1
    assert absent.stderr.startswith("boiler: ")
    assert "no such port" in absent.stderr
    refused = run_command("read", "hall", "--config", config)
    assert refused.returncode == 1
    assert "refused" in refused.stderr
    unknown = run_command("read", "hal", "--config", config)
    assert unknown.returncode == 2
    assert "there are boiler, hall" in unknown.stderr


async def test_status_says_how_it_goes_for_people_and_for_programs(tmp_path: Path):
    with Mosquitto() as broker:
        async with PtySensor(tmp_path) as port:
            with AgentProgram(tmp_path, config_of(port.port, broker.url)) as agent:
                nobody = run_command("status", "--config", agent.config_file)
                assert nobody.returncode == 1
                assert "is `outstation run` running" in nobody.stderr
                agent.start()
                await agent.until(lambda r: all(s.state == "connected" for s in r.sources), "the sources")
                await port.write(b'{"n": 1}\nno json\n')
                async with aiomqtt.Client("127.0.0.1", broker.port) as client:
                    await client.publish("sensors/a", b'{"n": 2}', qos=1)
                report = await agent.until(
                    lambda r: r.buffer.stored == 2 and r.sources[0].dead_letters == 1, "what was said"
                )
                text = run_command("status", "--config", agent.config_file)
                as_json = run_command("status", "--json", "--config", agent.config_file)
                assert (text.returncode, as_json.returncode) == (0, 0)
                first, *lines = text.stdout.splitlines()
                assert first == "no upstream is configured: readings are kept here"
                said = "\n".join(lines)
                for fact in (
                    DEVICE_ID,
                    f"pid {report.pid}",
                    str(agent.buffer),
                    "2 readings",
                    "1 dead letter",
                ):
                    assert fact in said
                parsed = json.loads(as_json.stdout)
                assert parsed["buffer"]["store_id"] == report.buffer.store_id
                assert [source["source_id"] for source in parsed["sources"]] == ["boiler", "hall"]
                assert (await agent.stop())[0] == 0
                assert run_command("status", "--config", agent.config_file).returncode == 1


def test_check_says_that_a_configuration_is_right_and_starts_nothing(tmp_path: Path):
    config = tmp_path / "right.toml"
    config.write_text(config_of("/dev/ttyUSB0", "mqtt://broker"))
    checked = run_command("check", "--config", config)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "boiler (serial), hall (mqtt)" in checked.stdout
    assert "source boiler: /dev/ttyUSB0 may come back under another name" in checked.stdout
    assert list(tmp_path.iterdir()) == [config]


def test_check_advises_against_half_a_first_line_that_could_be_a_wrong_value(tmp_path: Path):
    config = tmp_path / "right.toml"
    columns = {"type": "csv", "columns": ["t"]}
    config.write_text(
        device(serial_source("/dev/serial0", "csv", codec=columns), serial_source("/dev/serial1"))
    )
    checked = run_command("check", "--config", config)
    assert checked.returncode == 0
    advised = [line for line in checked.stdout.splitlines() if line.startswith("source ")]
    assert len(advised) == 1
    assert advised[0].startswith("source csv: the port is perhaps opened in the middle of a frame")


def test_the_version_is_that_of_the_package():
    told = run_command("--version")
    assert (told.returncode, told.stdout) == (0, f"outstation {version()}\n")


async def test_a_device_without_a_configured_id_is_named_by_its_machine(tmp_path: Path):
    config = '[[source]]\nid = "s"\ndriver = "simulated"\n[buffer]\npath = "buffer"\n'
    ids = set()
    for _ in range(2):
        with AgentProgram(tmp_path, config) as agent:
            agent.start()
            ids.add((await agent.until(lambda r: r.buffer.stored, "a reading")).device_id)
            assert (await agent.stop())[0] == 0
    (device_id,) = ids
    assert re.fullmatch(r"outstation-[0-9a-f]{12}", device_id)


async def test_sighup_lets_it_read_its_configuration_again(tmp_path: Path):
    with AgentProgram(tmp_path, device(counting_source(20))) as agent:
        agent.start()
        await agent.until(lambda r: r.buffer.stored > 0, "readings")
        agent.config_file.write_text(
            device(counting_source(20), counting_source(20).replace('id = "counter"', 'id = "two"'))
        )
        agent.signal(signal.SIGHUP)
        report = await agent.until(lambda r: len(r.sources) == 2, "the second source")
        assert report.configuration.refused is None
        changed = device(counting_source(20), quota="8 MiB")
        agent.config_file.write_text(changed)
        agent.signal(signal.SIGHUP)
        report = await agent.until(lambda r: r.buffer.bound_bytes == 8 << 20, "the quota")
        agent.config_file.write_text(changed.replace('path = "buffer"', 'path = "elsewhere"'))
        agent.signal(signal.SIGHUP)
        report = await agent.until(lambda r: r.configuration.needs_restart, "the refusal")
        assert report.configuration.needs_restart == ["buffer.path"]
        assert "needs a restart: buffer.path" in agent.log
        agent.config_file.write_text("nonsense")
        agent.signal(signal.SIGHUP)
        report = await agent.until(
            lambda r: r.configuration.refused and not r.configuration.needs_restart, "the next refusal"
        )
        assert "is not TOML" in report.configuration.refused
        text = device(counting_source(20)).replace('driver = "simulated"', 'driver = "simulate')
        agent.config_file.write_text(text)
        said = run_command("status", "--config", agent.config_file)
        assert "the changed configuration was refused: the last good one is in use" in said.stdout
        agent.config_file.write_text("nonsense")
        assert run_command("status", "--config", agent.config_file).returncode == 2, "it names no agent"
        assert (await agent.stop())[0] == 0
