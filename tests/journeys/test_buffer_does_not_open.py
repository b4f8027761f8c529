"""A buffer that does not open when the agent starts: said wherever somebody looks, and taken up once it opens."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING

from agent.doctor import agent_process
from drivers.examination import Level
from tests.rigs.programs import Program, run_command, until
from tests.rigs.pty import PtySensor
from tests.rigs.stored import documents

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import pytest

    from agent.status.report import StatusReport

CONFIGURATION = """
[[source]]
id = "house"
driver = "simulated"
rate = 50
signals = [{{ name = "n", kind = "counter" }}]

[buffer]
path = "{path}"
"""
SAID = "NOT STORING: it does not open: "


async def test_it_is_said_and_what_came_meanwhile_is_stored_once_it_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    buffer = tmp_path / "buffer"
    buffer.write_text("no folder")
    config = tmp_path / "outstation.toml"
    config.write_text(CONFIGURATION.format(path=buffer))
    with Program("run", "--config", config, log=tmp_path / "log") as agent:
        agent.start()
        report = await until(partial(asked, buffer), "status while it does not open")
        assert SAID in report.summary()
        assert "frames wait in memory" in report.summary()
        assert [(source.source_id, source.condition) for source in report.sources] == [("house", "ok")]
        found = agent_process.findings(buffer / "agent.sock", report)
        assert any(finding.level is Level.PROBLEM and SAID in finding.what for finding in found)
        command = await asyncio.to_thread(run_command, "status", "--config", config)
        assert command.stdout.startswith(f"buffer: {SAID}")
        assert f"buffer at {buffer} cannot be opened" in agent.log
        buffer.unlink()

        async def stored() -> int:
            report = await asked(buffer)
            return 0 if report is None else report.buffer.stored

        await until(stored, "it stores")
        await until(lambda: not list((tmp_path / "run").iterdir()), "it answers at one place only")
        assert agent.running
        await agent.stop()
    stored_now = await asyncio.to_thread(documents, buffer)
    readings = list(stored_now.values())
    assert [reading["values"]["n"] for reading in readings] == list(range(len(readings))), "none is missing"
    times = [reading["up"] for reading in readings]
    assert times == sorted(times)
    assert (readings[0]["boot"], readings[0]["clock"]) == (1, "estimated")


async def asked(buffer: Path) -> StatusReport | None:
    return await agent_process.ask(buffer / "agent.sock")


async def test_what_waits_in_memory_when_it_is_stopped_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "buffer").write_text("no folder")
    config = tmp_path / "outstation.toml"
    config.write_text(CONFIGURATION.format(path=tmp_path / "buffer"))
    with Program("run", "--config", config, log=tmp_path / "log") as agent:
        agent.start()

        async def something_waits() -> bool:
            report = await asked(tmp_path / "buffer")
            return report is not None and re.search(r"[1-9]\d* frames wait", report.summary()) is not None

        await until(something_waits, "something waits")
        status, took_s = await agent.stop()
        assert status == 0
        assert took_s < 5
        assert "stopping before the buffer could take them: " in agent.log
        assert "frames wait in memory" in agent.log


RESENDING = """
[[source]]
id = "soil"
driver = "serial"
port = "{port}"
resend = {{ depth = 64 }}

[buffer]
path = "{path}"
"""


async def test_a_sensor_that_can_send_again_is_heard_meanwhile_and_asked_for_what_is_missing_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    buffer = tmp_path / "buffer"
    buffer.write_text("no folder")
    config = tmp_path / "outstation.toml"
    async with PtySensor(tmp_path) as sensor:
        config.write_text(RESENDING.format(port=sensor.port, path=buffer))

        async def say(*numbers: int) -> None:
            for number in numbers:
                await sensor.write(b'{"boot":1,"seq":%d,"ms":%d}\n' % (number, 10 * number))

        async def frames() -> int:
            report = await asked(buffer)
            return 0 if report is None else report.sources[0].frames

        with Program("run", "--config", config, log=tmp_path / "log") as agent:
            agent.start()

            async def connected() -> bool:
                report = await asked(buffer)
                return report is not None and report.sources[0].state == "connected"

            await until(connected, "the port is open while the buffer is not")
            await say(*range(1, 101), 102)  # more than its ring holds; noise took the 101st
            await until(lambda: _at_least(frames, 101), "they are heard")
            buffer.unlink()
            await until(lambda: _at_least(partial(stored, buffer), 101), "they are stored")

            async def asks() -> bool:
                await say(next(later))
                return b"R1:101-101\n" in sensor.read_available()

            later = iter(range(103, 1000))
            await until(asks, "what is missing is asked for")
            await say(101)
            first = next(later)
            await until(lambda: _at_least(partial(stored, buffer), first - 1), "all is stored")
            await agent.stop()
    kept = [reading["values"]["seq"] for reading in (await asyncio.to_thread(documents, buffer)).values()]
    assert sorted(kept) == list(range(1, first)), "each once"


async def stored(buffer: Path) -> int:
    report = await asked(buffer)
    return 0 if report is None else report.buffer.stored


async def _at_least(count: Callable[[], Awaitable[int]], enough: int) -> bool:
    return await count() >= enough
