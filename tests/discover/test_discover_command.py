"""`outstation discover` as a process: a real broker, a sensor on a pseudo-terminal, and a port that an agent has."""

import asyncio
import io

from agent.cli.progress import Progress
from tests.rigs.configuration import device, serial_source
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.mqtt_sensors import MqttSensor, speaking
from tests.rigs.programs import AgentProgram, free_port, run_command
from tests.rigs.pty import PtySensor


async def speak(sensor, stop):
    number = 0
    while not stop.is_set():
        await sensor.write(b'{"n": %d}\n' % number)
        number += 1
        await asyncio.sleep(0.02)


def discover(*arguments):
    return asyncio.to_thread(run_command, "discover", "--time", "2 s", "--no-ble", *arguments)


async def test_what_is_there_is_found_and_the_file_is_right(tmp_path):
    found = tmp_path / "found.toml"
    with Mosquitto() as broker:
        async with (
            PtySensor(tmp_path) as sensor,
            speaking([MqttSensor(f"s{n}", broker.port, 20) for n in range(3)]),
        ):
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(speak(sensor, stop))
                ended = await discover("--mqtt", broker.url, "--serial", sensor.port, "--write", found)
                stop.set()
    assert ended.returncode == 0, ended.stderr
    text = found.read_text()
    assert 'topics = ["sensors/{level2}"]' in text
    assert 'codec = "json"' in text
    assert f'port = "{sensor.port}"' in text
    assert "2 sources" in ended.stdout
    checked = await asyncio.to_thread(run_command, "check", "--config", found)
    assert checked.returncode == 0, checked.stderr
    again = await discover("--no-serial", "--write", found)
    assert again.returncode == 2
    assert "exists" in again.stderr


async def test_a_port_that_an_agent_has_is_left_alone(tmp_path):
    async with PtySensor(tmp_path) as sensor:
        with AgentProgram(tmp_path, device(serial_source(sensor.port))) as agent:
            agent.start()
            await agent.until(lambda report: report.sources[0].state == "connected", "it has the port")
            ended = await discover("--no-mqtt", "--serial", sensor.port)
            assert ended.returncode == 1
            assert "[[source]]" not in ended.stdout
            assert sensor.port in ended.stdout
            await sensor.write(b'{"n": 1}\n')
            await agent.until(lambda report: report.buffer.stored == 1, "it still gets everything")


async def test_what_is_not_there_is_said(tmp_path):
    ended = await discover("--mqtt", f"mqtt://127.0.0.1:{free_port()}", "--serial", tmp_path / "none")
    assert ended.returncode == 1
    assert "refused" in ended.stdout
    assert str(tmp_path / "none") in ended.stdout
    assert "nothing was found" in ended.stderr
    for arguments, words in (
        (["--mqtt", "http://x"], "mqtt://"),
        (["--mqtt", "mqtt://a:b@x"], "password"),
        (["--mqtt", "mqtt://a@x", "--username", "b"], "say it once"),
        (["--write", tmp_path / "no folder" / "found.toml"], "there is no folder"),
        (["--time", "0"], "--time"),
    ):
        wrong = await asyncio.to_thread(run_command, "discover", *arguments)
        assert (wrong.returncode, words in wrong.stderr) == (2, True)


def test_time_that_passes_is_drawn_as_a_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    drawn = io.StringIO()
    drawn.isatty = lambda: True
    now_s = iter([0.0, 10.0, 10.0, 10.0])
    with Progress("looking", drawn, lambda: next(now_s), amounts=None) as progress:
        progress(10_000, 20_000)
    assert "####################....................]  50 %, 10 s left" in drawn.getvalue()
    assert drawn.getvalue().endswith("\r\x1b[K")
