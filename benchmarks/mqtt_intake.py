"""MQTT readings a second from a broker into the buffer, durably, beside a bare aiomqtt subscriber in the same run.

    python -m benchmarks.mqtt_intake [--rounds N] [--messages N]

The same messages wait at one Mosquitto in two sessions. In turn, each in a process of its own:

- bare: aiomqtt takes each message and nothing is done with it (`benchmarks.bare_subscriber`);
- stored: `outstation run` takes it, decodes it, makes a reading of it, commits it with fdatasync, and acknowledges it then.

Stored, the rate is that of the last nine tenths, without the start of the program. Everything runs on loopback, on a free
port, in a temporary folder, and is gone afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent.status.socket import AgentNotRunningError, ask_status
from benchmarks.machine import machine, mosquitto_version
from benchmarks.processes import ROOT, Program, cpu_s
from tests.rigs.mosquitto import BrokerSettings, Mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.status.report import StatusReport

_TICK_S = 0.02
_CONFIG = """\
[device]
id = "benchmark"

[[source]]
id = "sensors"
driver = "mqtt"
url = "mqtt://127.0.0.1:{port}"
topics = ["sensors/#"]

[buffer]
path = "buffer"

[agent]
log_level = "warning"
"""


class Agent:
    """`outstation run` with nothing but the source and a buffer."""

    def __init__(self, folder: Path, port: int) -> None:
        self._config = folder / "agent.toml"
        self._config.write_text(_CONFIG.format(port=port))
        self._socket = folder / "buffer" / "agent.sock"
        self._log = folder / "agent.log"
        self._stored = 0

    def subscribe(self) -> None:
        """Let the broker know our session."""
        self._run(lambda _, report: report.sources[0].state == "connected")

    def take(self, count: int) -> tuple[float, float]:
        """Store so many; readings a second and microseconds of CPU a reading, of the last nine tenths."""
        samples: list[tuple[float, float, int]] = []
        end = self._stored + count

        def taken(pid: int, report: StatusReport) -> bool:
            samples.append((time.perf_counter(), cpu_s(pid), report.buffer.stored))
            return report.buffer.stored >= end

        self._run(taken)
        counted = [sample for sample in samples if sample[2] >= self._stored + count // 10]
        (begun, cpu_begun, first), (ended, cpu_ended, last) = counted[0], counted[-1]
        self._stored = end
        return (last - first) / (ended - begun), (cpu_ended - cpu_begun) / (last - first) * 1e6

    def _run(self, enough: Callable[[int, StatusReport], bool]) -> None:
        with Program(["-m", "agent", "run", "--config", str(self._config)], self._log) as program:
            deadline = time.monotonic() + 120
            while True:
                with contextlib.suppress(AgentNotRunningError):
                    if enough(program.pid, asyncio.run(ask_status(self._socket))):
                        return
                if program.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(program.last_words())
                time.sleep(_TICK_S)


def bare(port: int, count: int) -> tuple[float, float]:
    """Messages a second and microseconds of CPU a message."""
    command = [sys.executable, "-m", "benchmarks.bare_subscriber", str(port), str(count)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if not count:
        return 0.0, 0.0
    figures = json.loads(said)
    return figures["rate"], figures["cpu_us"]


def publish(port: int, count: int) -> None:
    """Let the sensors say so much."""
    command = [sys.executable, "-m", "benchmarks.sensors", "--port", str(port)]
    subprocess.run(command, cwd=ROOT, input=f"{count}\n", text=True, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=30_000)
    arguments = parser.parse_args()
    print(machine())
    print(f"{mosquitto_version()}; {arguments.messages:,} messages a round, load {os.getloadavg()[0]:.1f}")
    figures: dict[str, list[tuple[float, float]]] = {"bare": [], "stored": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        Mosquitto(BrokerSettings(max_inflight_messages=1000)) as broker,
    ):
        agent = Agent(Path(folder), broker.port)
        agent.subscribe()
        bare(broker.port, 0)
        for number in range(arguments.rounds):
            publish(broker.port, arguments.messages)
            ways = {
                "bare": lambda: bare(broker.port, arguments.messages),
                "stored": lambda: agent.take(arguments.messages),
            }
            for name in sorted(ways, reverse=bool(number % 2)):
                figures[name].append(ways[name]())
            print(
                f"  round {number + 1}: "
                + ", ".join(f"{name} {rates[-1][0]:,.0f}/s" for name, rates in figures.items())
            )
    for name, rates in figures.items():
        rate, cpu_us = (statistics.median(column) for column in zip(*rates, strict=True))
        print(f"{name:7} {rate:8,.0f}/s  {cpu_us:5.1f} us of CPU each")
    ratio = statistics.median(s[0] / b[0] for s, b in zip(figures["stored"], figures["bare"], strict=True))
    print(f"stored, durably, at {ratio:.0%} of the bare subscriber's rate")


if __name__ == "__main__":
    main()
