"""Real processes on a machine without a clock: three boots, of which one never learns the time."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.rigs import cloud, one_boot
from tests.rigs.configuration import device, serial_source, upstream
from tests.rigs.programs import AgentProgram, free_port, receiver_program, run_command, until
from tests.rigs.pty import PtySensor

LINE_S = 0.1
OFF_S = 2.0
"""How long it is off between two boots."""
LATENCY_S = 5.0
"""From a sensor to its reader, on a busy machine; half of them take no millisecond."""


class Machine:
    """The machine: what its clocks say, and what it runs."""

    def __init__(self, folder: Path, agent: AgentProgram) -> None:
        self.folder = folder
        self.agent = agent
        self.listening = asyncio.Event()

    async def boot(self, number: int, *, wall: str) -> None:
        self.set_wall(wall)
        (self.folder / "synchronized").unlink(missing_ok=True)
        self.agent.start(
            script=Path(one_boot.__file__),
            script_arguments=(self.folder, f"boot-{number}"),
        )
        await self.agent.until(lambda report: report.sources[0].state == "connected", "it listens")
        self.listening.set()

    async def cut_power(self) -> None:
        self.listening.clear()
        self.agent.kill()
        await asyncio.sleep(OFF_S)

    def set_wall(self, wall: str) -> None:
        file = self.folder / "wall.new"
        file.write_text(wall)
        file.rename(self.folder / "wall")  # libfaketime reads it at any moment

    def synchronise(self) -> None:
        self.set_wall("+0")
        (self.folder / "synchronized").touch()


async def speak(sensor: PtySensor, machine: Machine) -> None:
    """A sensor that says the truth, which the agent does not look at; only while it is heard, not into a buffer."""
    while True:
        await machine.listening.wait()
        await sensor.write(json.dumps({"true": time.time()}).encode() + b"\n")
        await asyncio.sleep(LINE_S)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_what_was_measured_without_a_clock_arrives_with_its_time(tmp_path):
    port = free_port()
    async with AsyncExitStack() as stack:
        sensor = await stack.enter_async_context(PtySensor(tmp_path))
        config = device(serial_source(sensor.port), upstream(f"http://127.0.0.1:{port}/readings"))
        agent = stack.enter_context(AgentProgram(tmp_path, config))
        receiver = stack.enter_context(receiver_program(tmp_path, f"http://127.0.0.1:{port}"))
        machine = Machine(tmp_path, agent)
        async with asyncio.TaskGroup() as group:
            speaking = group.create_task(speak(sensor, machine), name="speak")
            await first_boot_learns_the_time(machine)
            await second_boot_never_does(machine)
            receiver.start()
            await third_boot_learns_it_and_delivers(machine)
            speaking.cancel()
        assert (await agent.stop())[0] == 0
    by_boot: dict[int, list[dict]] = {}
    for row in cloud.rows(tmp_path / "cloud.sqlite"):
        by_boot.setdefault(row.document["boot"], []).append(row.document)
    assert set(by_boot) == {1, 2, 3}
    late_s: list[float] = []
    for boot, documents in by_boot.items():
        for document in documents:
            late_s.append(document["t"] - document["values"]["true"])
            error_s = document.get("t_error", 0.1)
            assert -error_s <= late_s[-1] <= error_s + LATENCY_S, (boot, document)
    assert statistics.median(late_s[: len(by_boot[1])]) < 1.0
    qualities = {boot: {d.get("clock", "synced") for d in documents} for boot, documents in by_boot.items()}
    assert qualities == {1: {"corrected", "synced"}, 2: {"estimated"}, 3: {"corrected", "synced"}}
    assert max(d["t_error"] for d in by_boot[1] if "t_error" in d) < 0.5
    assert all(d.get("t_error", 99) < 30 for d in by_boot[2]), "the boot lies between two that knew the time"


async def first_boot_learns_the_time(machine: Machine) -> None:
    await machine.boot(1, wall="-1d")
    await machine.agent.until(lambda report: report.buffer.stored > 20, "readings are kept")
    machine.synchronise()
    report = await machine.agent.until(lambda r: r.clock.quality == "synced", "it is synchronised")
    assert [round(step.by_s) for step in report.clock.steps] == [86_400]
    said = run_command("clock", "--config", machine.agent.config_file).stdout
    assert "is synchronised (systemd-timesyncd)" in said
    assert "the wall clock was set by +86400" in said
    stored = report.buffer.stored
    await machine.agent.until(lambda r: r.buffer.stored > stored + 20, "readings with a good clock are kept")
    await machine.cut_power()


async def second_boot_never_does(machine: Machine) -> None:
    await machine.boot(2, wall="-20000d")
    report = await machine.agent.until(lambda report: report.sources[0].frames > 20, "readings come in")
    assert report.clock.quality == "estimated"
    await until(lambda: machine.agent.log.count("collects from") == 2, "it runs")
    await machine.cut_power()


async def third_boot_learns_it_and_delivers(machine: Machine) -> None:
    await machine.boot(3, wall="-3h")
    await machine.agent.until(lambda report: report.sources[0].frames > 10, "readings come in")
    machine.synchronise()
    await machine.agent.until(lambda report: report.clock.quality == "synced", "it is synchronised")
    await machine.agent.until(
        lambda report: not report.upstreams[0].backlog or report.upstreams[0].backlog < 20, "it delivers", 60
    )
    await machine.agent.until(lambda report: report.upstreams[0].delivered > 100, "all is delivered")
