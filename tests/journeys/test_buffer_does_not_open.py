"""A buffer that does not open when the agent starts: said wherever somebody looks, and taken up once it opens."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING

from agent.doctor import agent_process
from drivers.examination import Level
from tests.rigs.programs import Program, run_command, until
from tests.rigs.stored import documents

if TYPE_CHECKING:
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
