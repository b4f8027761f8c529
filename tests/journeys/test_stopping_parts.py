"""SIGTERM at any moment, and when a part of the agent itself hangs: it ends within five seconds all the same."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.doctor import agent_process
from tests.rigs import hanging_part, stored
from tests.rigs.configuration import counting_source, device
from tests.rigs.programs import AgentProgram, until

if TYPE_CHECKING:
    from agent.status.report import StatusReport

SIMULATED = device(counting_source(20))
STOP_S = 5.0


async def test_what_nobody_takes_is_not_called_delivered(tmp_path: Path):
    with AgentProgram(tmp_path, SIMULATED) as agent:
        agent.start()
        await agent.until(lambda r: r.buffer.stored > 0, "a reading")
        await agent.stop()
        assert agent.log.rstrip().endswith("stopped; no upstream has begun: the readings are in the buffer")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_can_be_stopped_at_any_moment_of_its_start(tmp_path: Path, number: signal.Signals):
    with AgentProgram(tmp_path, SIMULATED) as agent:
        agent.start()
        await until(agent.buffer.exists, "the buffer")  # from here on it has something to close
        agent.signal(number)
        assert await agent.ended(STOP_S) == 0, agent.log
        assert "Traceback" not in agent.log


@pytest.mark.parametrize(("part", "status"), [("task", 0), ("closing", 1)])
async def test_it_ends_in_time_when_a_part_does_not(tmp_path: Path, part: str, status: int):
    with AgentProgram(tmp_path, SIMULATED) as agent:
        agent.start(script=Path(hanging_part.__file__), script_arguments=(part,))
        await agent.until(lambda r: r.buffer.stored > 10, "readings")
        ended, took_s = await agent.stop()
        assert (ended, took_s < STOP_S) == (status, True), agent.log
        assert "something still hangs" in agent.log
        assert agent.log.rstrip().endswith(
            "the buffer is closed" if status == 0 else "the buffer is not closed"
        )
        if status == 0:
            assert len(stored.documents(agent.buffer)) > 10


async def test_a_disk_that_hangs_from_the_beginning_is_said_and_it_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))

    async def report() -> StatusReport | None:
        return await agent_process.ask(agent.socket)

    with AgentProgram(tmp_path, SIMULATED) as agent:
        agent.start(script=Path(hanging_part.__file__), script_arguments=("opening",))
        said = await until(report, "its status")
        assert "NOT STORING: it is still being opened, since " in said.summary()
        assert f"the disk that holds {agent.buffer} does not answer (`dmesg` says more" in said.summary()

        async def heard() -> bool:
            report_now = await report()
            return report_now is not None and report_now.sources[0].frames > 0

        await until(heard, "the sensor is heard")
        assert agent.log.count("it is still being opened") == 1, (
            "status says it again and again, the log once"
        )
        ended, took_s = await agent.stop()
        assert (ended, took_s < STOP_S) == (1, True), agent.log
        assert "stopping before the buffer could take them: " in agent.log
        assert agent.log.rstrip().endswith("the buffer is not closed")


async def test_a_name_server_that_hangs_holds_up_nothing_else(tmp_path: Path):
    config = SIMULATED
    for number in range(4):  # each of these twelve would like a thread at once
        config += (
            f'[[source]]\nid = "broker-{number}"\ndriver = "mqtt"\nurl = "mqtt://broker.example"\n'
            f'topics = ["a/{number}"]\n'
            f'[[source]]\nid = "serial-{number}"\ndriver = "serial"\nport = "socket://serial.example:4001"\n'
            f'[[upstream]]\nname = "{number}"\ndriver = "{("http", "mqtt")[number % 2]}"\n'
            f'url = "{("http", "mqtt")[number % 2]}://cloud.example"\ntls = false\nlinger = "100 ms"\n'
        )
    with AgentProgram(tmp_path, config) as agent:
        agent.start(script=Path(hanging_part.__file__), script_arguments=("resolver",))
        report = await agent.until(lambda r: r.buffer.stored > 0, "readings")
        stored_first = report.buffer.stored
        report = await agent.until(lambda r: r.buffer.stored > stored_first + 2, "more readings")
        assert {s.state for s in report.sources[1:]} == {"connecting"}
        status, took_s = await agent.stop()
        assert (status, took_s < STOP_S) == (0, True), agent.log
        assert "something still hangs" not in agent.log
        assert "could not commit" not in agent.log
        assert len(stored.documents(agent.buffer)) >= report.buffer.stored
