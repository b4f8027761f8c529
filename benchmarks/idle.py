"""What the agent costs while nothing happens: to start, to ask, to keep running.

    python -m benchmarks.idle

How long `outstation run --help` and `--version` take; how long from starting `outstation run` to its first
accepted reading; what an agent with a serial source (on a pseudo-terminal), an MQTT source and an MQTT
upstream takes of a core while nothing is sent, and of memory, idle and at 200 readings/s; and its memory when the
broker wants TLS. Beside it what Python itself and the libraries take. Takes about 60 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tty
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from agent.status.socket import AgentNotRunningError, ask_status
from benchmarks.machine import machine
from benchmarks.processes import ROOT, Memory, Program, cpu_s, memory
from benchmarks.sensors import payload
from tests.rigs.certificates import make_certificates
from tests.rigs.mosquitto import BrokerSettings, Mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.status.report import StatusReport

_REPEATS = 9
_STARTS = 5
_IDLE_S = 20.0
_BUSY_S = 10.0
_BUSY_HZ = 200
_LIBRARIES = "import asyncio, pydantic, aiomqtt"

AGENT_CONFIG = """\
[device]
id = "benchmark"

[[source]]
id = "soil"
driver = "serial"
port = "{port}"

[[source]]
id = "sensors"
driver = "mqtt"
url = "{url}"
topics = ["sensors/#"]

[buffer]
path = "buffer"

[[upstream]]
driver = "mqtt"
url = "{url}"
ack = "broker"
"""


class Station:
    """An agent with a serial sensor and MQTT sensors; a context manager.

    Args:
        tls: The broker wants TLS, and there are no MQTT sensors.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self._tls = tls
        self._stack = ExitStack()
        self._said = 0

    def __enter__(self) -> Self:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="outstation-benchmark-")))
        self._folder = folder
        self._socket = folder / "buffer" / "agent.sock"
        self._controller, terminal = os.openpty()
        self._stack.callback(os.close, self._controller)
        self._stack.callback(os.close, terminal)
        tty.setraw(terminal)
        config = AGENT_CONFIG.replace("{port}", os.ttyname(terminal))
        settings = BrokerSettings()
        if self._tls:
            certificates = make_certificates(folder / "pki")
            settings = BrokerSettings(certificates=certificates)
            config = config.replace(
                'url = "{url}"\n', f'url = "{{url}}"\nca_file = "{certificates.ca_file}"\n'
            )
        broker = self._stack.enter_context(Mosquitto(settings))
        config = config.replace("{url}", broker.url)
        if not self._tls:
            arguments = ["-m", "benchmarks.sensors", "--port", str(broker.port)]
            self._sensors = self._stack.enter_context(Program(arguments, folder / "load.log", talk=True))
        (folder / "agent.toml").write_text(config)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the agent."""
        arguments = ["-m", "agent", "run", "--config", str(self._folder / "agent.toml")]
        self.agent = self._stack.enter_context(Program(arguments, self._folder / "agent.log"))

    def speak(self, seconds: float, hz: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let the sensors speak, half of the messages on the serial line, until a condition holds."""
        pipe = self._sensors.process.stdin
        assert pipe is not None
        begun_s = time.monotonic()
        for count in range(round(seconds * hz / 2)):
            self._said += 1
            os.write(self._controller, payload(self._said) + b"\n")
            pipe.write(b"%d\n" % self._said)
            pipe.flush()
            if until():
                return
            time.sleep(max(0.0, begun_s + (count + 1) * 2 / hz - time.monotonic()))

    def report(self) -> StatusReport | None:
        """The status; None while the agent does not answer."""
        with contextlib.suppress(AgentNotRunningError):
            return asyncio.run(ask_status(self._socket))
        return None

    def connected(self) -> bool:
        """Whether everything is."""
        report = self.report()
        return report is not None and all(
            part.state == "connected" for part in (*report.sources, *report.upstreams)
        )

    def accepted(self) -> bool:
        """Whether a reading is in the buffer."""
        report = self.report()
        return report is not None and report.buffer.stored > 0


def run_times_s(*arguments: str) -> list[float]:
    """How long a Python program takes, several times; the first, with cold caches, left out."""
    times = []
    for _ in range(_REPEATS + 1):
        begun_s = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun_s)
    return times[1:]


def library_memory(code: str) -> float:
    """The peak RSS of `python -c CODE` in MB."""
    ask = f"{code}\nimport re; print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    answer = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, check=True, capture_output=True, text=True)
    return int(answer.stdout) * 1024 / 1e6


def start_up_s() -> float:
    """From starting the process to the first accepted reading, with sensors that speak all the time."""
    with Station() as station:
        begun_s = time.perf_counter()
        station.start()
        station.speak(30, 100, until=station.accepted)
        return time.perf_counter() - begun_s


def running() -> tuple[float, Memory, float, Memory]:
    """CPU in per cent of a core, and memory: idle, then under load."""
    with Station() as station:
        station.start()
        station.agent.wait_for(station.connected, "connection of the agent")
        pid = station.agent.pid
        time.sleep(2)
        before_s = cpu_s(pid)
        time.sleep(_IDLE_S)
        idle_s = cpu_s(pid) - before_s
        idle_memory = memory(pid)
        before_s = cpu_s(pid)
        station.speak(_BUSY_S, _BUSY_HZ)
        busy_s = cpu_s(pid) - before_s
        return idle_s / _IDLE_S * 100, idle_memory, busy_s / _BUSY_S * 100, memory(pid)


def encrypted() -> Memory:
    """Memory of an idle agent whose broker wants TLS."""
    with Station(tls=True) as station:
        station.start()
        station.agent.wait_for(station.connected, "connection of the agent")
        time.sleep(2)
        return memory(station.agent.pid)


def main() -> None:
    print(machine())
    print(f"\ntime in ms, median of {_REPEATS} (least, most)")
    commands = {
        "outstation run --help": ("-m", "agent", "run", "--help"),
        "outstation --version": ("-m", "agent", "--version"),
        "python -c pass": ("-c", "pass"),
        f"python -c '{_LIBRARIES}'": ("-c", _LIBRARIES),
    }
    for name, arguments in commands.items():
        _print_times(name, run_times_s(*arguments))
    _print_times(f"run: first accepted reading (of {_STARTS})", [start_up_s() for _ in range(_STARTS)])

    idle_percent, idle, busy_percent, busy = running()
    print("\nagent with serial + MQTT sources and an MQTT upstream")
    print(f"{'':42}{'idle':>10}{f'{_BUSY_HZ}/s':>10}{'idle, TLS':>11}")
    print(f"{'CPU, % of a core':42}{idle_percent:>10.2f}{busy_percent:>10.2f}")
    found = (idle, busy, encrypted())
    _print_memory("RSS, MB", [each.resident for each in found])
    _print_memory("  of that anonymous", [each.anonymous for each in found])
    _print_memory("  peak", [each.peak for each in found])
    for code in ("pass", _LIBRARIES):
        print(f"{f'python -c {code!r}, RSS':42}{library_memory(code):>10.1f}")


def _print_memory(name: str, values: list[float]) -> None:
    print(f"{name:42}{values[0]:>10.1f}{values[1]:>10.1f}{values[2]:>11.1f}")


def _print_times(name: str, times_s: list[float]) -> None:
    middle, least, most = (1000 * f(times_s) for f in (statistics.median, min, max))
    print(f"{name:52}{middle:>8.0f} ({least:.0f}, {most:.0f})")


if __name__ == "__main__":
    main()
