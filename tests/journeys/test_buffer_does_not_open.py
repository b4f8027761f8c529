"""A buffer that does not open when the agent starts: said wherever somebody looks, and taken up once it opens."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from agent.doctor import agent_process
from drivers.examination import Level
from tests.rigs.programs import Program, run_command, until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from agent.status.report import StatusReport

CONFIGURATION = """
[[source]]
id = "house"
driver = "simulated"
rate = 50
signals = [{{ name = "temperature", kind = "sine" }}]

[buffer]
path = "{path}"
"""
SAID = "NOT COLLECTING: it does not open: "


async def test_it_is_said_and_then_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert [source.condition for source in report.sources] == ["stopped"]
        found = agent_process.findings(buffer / "agent.sock", report)
        assert any(finding.level is Level.PROBLEM and SAID in finding.what for finding in found)
        command = await asyncio.to_thread(run_command, "status", "--config", config)
        assert command.stdout.startswith(f"buffer: {SAID}")
        assert f"buffer at {buffer} cannot be opened" in agent.log
        buffer.unlink()

        async def stored() -> int:
            report = await asked(buffer)
            return 0 if report is None else report.buffer.stored

        await until(stored, "it collects")
        await until(lambda: not list((tmp_path / "run").iterdir()), "it answers at one place only")
        assert agent.running


async def asked(buffer: Path) -> StatusReport | None:
    return await agent_process.ask(buffer / "agent.sock")
