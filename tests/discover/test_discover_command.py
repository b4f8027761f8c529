"""`outstation discover` as a process: a real broker, a sensor on a pseudo-terminal, and a port that an agent has."""

import asyncio
import io
import signal
import socket

import pytest

from agent.cli import main
from agent.cli.progress import Progress
from tests.rigs.configuration import device, serial_source
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.mqtt_sensors import MqttSensor, speaking
from tests.rigs.programs import AgentProgram, Program, free_port, run_command, until
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


async def test_ctrl_c_ends_the_look_and_what_was_heard_is_proposed(tmp_path):
    settings = BrokerSettings(lines=["log_type all"])
    with Mosquitto(settings) as broker, socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"mqtt://127.0.0.1:{mute.getsockname()[1]}"  # which takes connections and says nothing
        arguments = ["--time", "10 min", "--no-ble", "--no-serial", "--mqtt", broker.url, "--mqtt", url]
        with Program("discover", *arguments, log=tmp_path / "log") as looking:
            async with speaking([MqttSensor("s1", broker.port, 20)]):
                looking.start()
                await until(lambda: "Sending PUBLISH to outstation-discover" in broker.log, "it hears")
                looking.signal(signal.SIGINT)
                assert await looking.ended() == 0
    assert 'topics = ["sensors/s1"]' in looking.log
    assert f"{url}: did not answer by then" in looking.log
    assert "Traceback" not in looking.log


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mqtt", "http://x"], "mqtt://"),
        (["--mqtt", "mqtt://a:b@x"], "password"),
        (["--mqtt", "mqtt://a@x", "--username", "b"], "say it once"),
        (["--time", "0"], "--time"),
        (["--write", "{folder}/none/found.toml"], "there is no folder"),
        (["--write", "{folder}/found.toml"], "exists"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_look(tmp_path, capsys, arguments, words):
    (tmp_path / "found.toml").touch()
    assert main(["discover", *(argument.format(folder=tmp_path) for argument in arguments)]) == 2
    assert words in capsys.readouterr().err


def test_time_that_passes_is_drawn_as_a_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    drawn = io.StringIO()
    drawn.isatty = lambda: True
    now_s = iter([0.0, 10.0, 10.0, 10.0])
    with Progress("looking", drawn, lambda: next(now_s), amounts=None) as progress:
        progress(10_000, 20_000)
    assert "####################....................]  50 %, 10 s left" in drawn.getvalue()
    assert drawn.getvalue().endswith("\r\x1b[K")
