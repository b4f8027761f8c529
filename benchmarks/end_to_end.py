"""How many readings a second the whole line takes, and what each costs, beside a naive agent.

    python -m benchmarks.end_to_end

MQTT sensors publish at QoS 1 to a real Mosquitto -> `python -m agent run` (MQTT source, buffer, MQTT
upstream with ack = "receiver") -> a second Mosquitto -> `python -m agent receive` -> SQLite. The sensors
are always two thousand messages ahead, so the line is as fast as its slowest part; the table says how
busy each part was. In the same run the naive agent gets the same load (see naive_agent.py).

Everything runs on loopback, on free ports, in a temporary folder, and is gone afterwards. Takes about 80 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent.status.socket import AgentNotRunningError, ask_status
from benchmarks.machine import machine, mosquitto_version
from benchmarks.processes import Program, cpu_s, machine_busy_s, memory
from benchmarks.sensors import SENSORS
from tests.rigs.mosquitto import BrokerSettings, Mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.status.report import StatusReport

_AHEAD = 2000
"""Messages that the sensors may be ahead of what the agent has kept."""
_TICK_S = 0.1
_DRAIN_TIMEOUT_S = 30.0
_MOSQUITTO_DEFAULT_INFLIGHT = 20

AGENT_CONFIG = """\
[device]
id = "benchmark"

[[source]]
id = "sensors"
driver = "mqtt"
url = "{source_url}"
topics = ["sensors/#"]

[buffer]
path = "buffer"

[[upstream]]
driver = "mqtt"
url = "{upstream_url}"
ack = "receiver"
"""


class Line(Protocol):
    """What is measured: an agent and what is behind it."""

    agent: Program
    others: dict[str, int]
    """Process ids of the other parts."""

    def kept(self) -> int:
        """Readings that the agent has made durable."""
        ...

    def received(self) -> int:
        """Readings at the other end."""
        ...


class OutstationLine:
    """`outstation run` and `outstation receive` between two brokers."""

    def __init__(self, folder: Path, source: Mosquitto, upstream: Mosquitto, stack: ExitStack) -> None:
        self._socket = folder / "buffer" / "agent.sock"
        self._database = folder / "cloud.db"
        config = folder / "agent.toml"
        config.write_text(AGENT_CONFIG.format(source_url=source.url, upstream_url=upstream.url))
        receive = ["-m", "agent", "receive", "--from", upstream.url, "--into", f"sqlite:///{self._database}"]
        receiver = stack.enter_context(Program(receive, folder / "receiver.log"))
        receiver.wait_for(lambda: "connected to" in receiver.last_words(), "connection of the receiver")
        run = ["-m", "agent", "run", "--config", str(config)]
        self.agent = stack.enter_context(Program(run, folder / "agent.log"))
        self.agent.wait_for(self._collecting, "connection of the agent")
        self.others = {"receiver": receiver.pid}

    def _collecting(self) -> bool:
        with contextlib.suppress(AgentNotRunningError):
            report = self._report()
            parts = [*report.sources, *report.upstreams]
            return all(part.state == "connected" for part in parts)
        return False

    def _report(self) -> StatusReport:
        return asyncio.run(ask_status(self._socket))

    def kept(self) -> int:
        """As `outstation status` says it."""
        return self._report().buffer.stored

    def received(self) -> int:
        """Rows in the receiver's database; each reading is there once."""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT count(*) FROM readings").fetchone()
        return int(row[0])


class NaiveLine:
    """The naive agent between the same brokers; a subscriber counts what arrives."""

    def __init__(self, folder: Path, source: Mosquitto, upstream: Mosquitto, stack: ExitStack) -> None:
        self._count = 0
        subscriber = subprocess.Popen(
            ["mosquitto_sub", "-p", str(upstream.port), "-t", "cloud/#", "-q", "1", "-F", "x"],
            stdout=subprocess.PIPE,
        )
        stack.callback(subscriber.wait)
        stack.callback(subscriber.terminate)
        assert subscriber.stdout is not None
        counting = threading.Thread(target=self._count_lines, args=(subscriber.stdout.fileno(),), daemon=True)
        counting.start()
        arguments = ["-m", "benchmarks.naive_agent", str(source.port), str(upstream.port)]
        self.agent = stack.enter_context(
            Program([*arguments, str(folder / "naive.json")], folder / "agent.log")
        )
        self.agent.wait_for(lambda: "as naive-down" in source.log, "connection of the naive agent")
        self.others = {"receiver": subscriber.pid}

    def _count_lines(self, pipe: int) -> None:
        while chunk := os.read(pipe, 65536):
            self._count += chunk.count(b"\n")

    def kept(self) -> int:
        """What was delivered: it keeps one reading at a time."""
        return self._count

    def received(self) -> int:
        """What was delivered."""
        return self._count


@dataclass
class Result:
    """One column of the table."""

    name: str
    kept_per_s: float = 0.0
    received_per_s: float = 0.0
    cpu_us: float = 0.0
    rss_peak: float = 0.0
    rss_steady: float = 0.0
    rss_anonymous: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    """Per cent of one core, by process."""
    published: int = 0
    received: int = 0
    drained_s: float = 0.0


@dataclass(frozen=True)
class _Sample:
    at_s: float
    kept: int
    received: int
    cpu: dict[str, float]


def measure(
    name: str,
    line_of: Callable[[Path, Mosquitto, Mosquitto, ExitStack], Line],
    settings: BrokerSettings,
    *,
    seconds: float,
    watch: Callable[[Line], None] = lambda _: None,
    stall: bool = False,
) -> Result:
    """Run one line under load for some seconds, the receiver stopped if asked for, then let it drain."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outstation-benchmark-")))
        source = stack.enter_context(Mosquitto(settings))
        upstream = stack.enter_context(Mosquitto(settings))
        line = line_of(folder, source, upstream, stack)
        sensors = stack.enter_context(
            Program(["-m", "benchmarks.sensors", "--port", str(source.port)], folder / "load.log", talk=True)
        )
        pids = {"agent": line.agent.pid, **line.others, "sensors": sensors.pid}
        pids |= {"source broker": source.pid, "upstream broker": upstream.pid}
        _drive(line, sensors, seconds=seconds * 0.25)  # imports, caches, prefilled files
        watch(line)
        begun = _sample(line, pids)
        if stall:
            os.kill(line.others["receiver"], signal.SIGSTOP)
        resident = _drive(line, sensors, seconds=seconds)
        ended = _sample(line, pids)
        if stall:
            os.kill(line.others["receiver"], signal.SIGCONT)
        result = _rates(name, begun, ended)
        result.rss_peak = memory(line.agent.pid).peak
        result.rss_steady = statistics.median(resident)
        result.rss_anonymous = memory(line.agent.pid).anonymous
        assert sensors.process.stdin is not None
        assert sensors.process.stdout is not None
        sensors.process.stdin.close()
        result.published = int(sensors.process.stdout.read())
        drain_begun_s = time.monotonic()
        line.agent.wait_for(lambda: line.received() >= result.published, "end of the drain", _DRAIN_TIMEOUT_S)
        result.drained_s = time.monotonic() - drain_begun_s
        result.received = line.received()
        return result


def _drive(line: Line, sensors: Program, *, seconds: float) -> list[float]:
    """Keep the sensors ahead of the agent; the agent's resident memory meanwhile."""
    assert sensors.process.stdin is not None
    resident = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sensors.process.stdin.write(b"%d\n" % (line.kept() + _AHEAD))
        sensors.process.stdin.flush()
        resident.append(memory(line.agent.pid).resident)
        time.sleep(_TICK_S)
    return resident


def _sample(line: Line, pids: dict[str, int]) -> _Sample:
    cpu = {name: cpu_s(pid) for name, pid in pids.items()} | {"everything on the machine": machine_busy_s()}
    return _Sample(time.monotonic(), line.kept(), line.received(), cpu)


def _rates(name: str, begun: _Sample, ended: _Sample) -> Result:
    seconds = ended.at_s - begun.at_s
    kept = ended.kept - begun.kept
    cpu = {part: ended.cpu[part] - begun.cpu[part] for part in ended.cpu}
    return Result(
        name,
        kept_per_s=kept / seconds,
        received_per_s=(ended.received - begun.received) / seconds,
        cpu_us=cpu["agent"] / kept * 1e6,
        busy={part: used / seconds * 100 for part, used in cpu.items()},
    )


def table(results: Sequence[Result]) -> str:
    """The results side by side; in brackets how many times the naive agent's, which is the last."""
    naive = results[-1]
    lines = [f"{'':34}" + "".join(f"{result.name:>25}" for result in results)]

    def row(label: str, values: Sequence[float], form: str, *, ratio: bool = True) -> None:
        cells = []
        for value, result in zip(values, results, strict=True):
            times = f" ({value / values[-1]:.2f}x)" if ratio and result is not naive else ""
            cells.append(f"{value:{form}}{times}")
        lines.append(f"{label:34}" + "".join(f"{cell:>25}" for cell in cells))

    row("readings/s durable in the agent", [r.kept_per_s for r in results], ",.0f")
    row("readings/s at the receiver", [r.received_per_s for r in results], ",.0f")
    row("agent: CPU us a reading", [r.cpu_us for r in results], ".0f")
    row("agent: peak RSS, MB", [r.rss_peak for r in results], ".1f")
    row("agent: steady RSS, MB", [r.rss_steady for r in results], ".1f")
    row("agent: of that anonymous, MB", [r.rss_anonymous for r in results], ".1f")
    for part in naive.busy:
        row(f"{part}: % of a core", [r.busy[part] for r in results], ".0f", ratio=False)
    row("published", [r.published for r in results], ",.0f", ratio=False)
    row("not received in the end", [r.published - r.received for r in results], ",.0f", ratio=False)
    row("drain after the last message, s", [r.drained_s for r in results], ".1f", ratio=False)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="of measuring each line (default: 15)")
    parser.add_argument("--inflight", type=int, default=1000, help="max_inflight_messages (default: 1000)")
    parser.add_argument("--persistence", action="store_true", help="brokers keep their messages on disk")
    parser.add_argument("--only", choices=("outstation", "all"), default="all", help="leave the others out")
    parser.add_argument(
        "--stall",
        action="store_true",
        help="the receiver hangs while measuring: a window of packs waits for it",
    )
    parser.add_argument("--watch", help="a command to run while measuring; PID in it is the agent's")
    arguments = parser.parse_args()
    settings = BrokerSettings(arguments.inflight, persistence=arguments.persistence)
    defaults = BrokerSettings(_MOSQUITTO_DEFAULT_INFLIGHT, persistence=arguments.persistence)

    def watch(line: Line) -> None:
        if arguments.watch:
            subprocess.Popen(arguments.watch.replace("PID", str(line.agent.pid)), shell=True)

    print(machine())
    print(
        f"{mosquitto_version()}: max_inflight_messages {settings.max_inflight_messages}"
        f" (its default is {_MOSQUITTO_DEFAULT_INFLIGHT}), max_queued_messages {settings.max_queued_messages},"
        f" persistence {str(settings.persistence).lower()}; {SENSORS} sensors, QoS 1"
    )
    seconds = arguments.seconds
    stall = arguments.stall
    results = [measure("outstation", OutstationLine, settings, seconds=seconds, watch=watch, stall=stall)]
    if arguments.only == "all":
        results.append(measure("same, inflight 20", OutstationLine, defaults, seconds=seconds))
        results.append(measure("naive agent", NaiveLine, settings, seconds=seconds))
    print(table(results))


if __name__ == "__main__":
    main()
