"""How a fleet comes back: real devices of `outstation simulate`, a real Mosquitto, and a gate before it that takes so many a second.

    python -m benchmarks.fleet [--devices 300] [--accepts 10] [--outage 5] [--outage 120]

After each outage it prints the most attempts to connect in any second, and when the last device was back. The gate
resets what comes beyond its rate, as a load balancer or a broker's limit does. The default back-off is what is measured:
the first retry within 30 s, then full jitter up to 300 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import machine, mosquitto_version
from benchmarks.processes import Program
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.proxy import ChaosProxy

PEAK_MAX = 3.0
"""Times what is accepted."""
BACK_MAX_S = 600.0


class Gate(ChaosProxy):
    """A proxy that takes at most so many connections in any second.

    Attributes:
        attempts: When somebody tried to connect, on the monotonic clock.
    """

    def __init__(self, port: int, accepts_per_s: float) -> None:
        super().__init__(("127.0.0.1", port))
        self.attempts: list[float] = []
        self.closed = False
        self._accepts_per_s = accepts_per_s
        self._taken: deque[float] = deque()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = time.monotonic()
        self.attempts.append(now)
        while self._taken and self._taken[0] < now - 1:
            self._taken.popleft()
        self.refuse = self.closed or len(self._taken) >= self._accepts_per_s
        if not self.refuse:
            self._taken.append(now)
        await super()._accept(reader, writer)


@dataclass(frozen=True)
class Return:
    """What became of one outage."""

    outage_s: float
    attempts: int
    peak_per_s: int
    """The most attempts in any second, from the moment that the connections were lost."""
    back_s: float
    """From the end of the outage until all were connected."""

    def fits(self, accepts_per_s: float) -> bool:
        """Whether it was gentle, and quick enough."""
        return self.peak_per_s <= PEAK_MAX * accepts_per_s and self.back_s <= BACK_MAX_S


async def measure(devices: int, accepts_per_s: float, outages_s: list[float], folder: Path) -> list[Return]:
    """What became of each outage, one after the other."""
    with Mosquitto() as broker:
        async with Gate(broker.port, accepts_per_s) as gate:
            arguments = ["-m", "agent", "simulate", "--devices", str(devices), "--json", "--ack", "broker"]
            arguments += [
                "--to",
                f"mqtt://127.0.0.1:{gate.port}",
                "--rate",
                "0.2",
                "--folder",
                str(folder / "devices"),
            ]
            arguments += ["--ramp", str(1.5 * devices / accepts_per_s)]
            with Program(arguments, folder / "log") as fleet:
                await _all_connected(fleet, folder / "log", devices)
                return [await _one(gate, fleet, folder / "log", devices, outage_s) for outage_s in outages_s]


async def _one(gate: Gate, fleet: Program, log: Path, devices: int, outage_s: float) -> Return:
    gate.attempts.clear()
    gate.closed = True
    gate.reset_all()
    await asyncio.sleep(outage_s)
    gate.closed = False
    opened = time.monotonic()
    await _all_connected(fleet, log, devices)
    back_s = time.monotonic() - opened
    return Return(outage_s, len(gate.attempts), _most_in_a_second(gate.attempts), back_s)


async def _all_connected(fleet: Program, log: Path, devices: int) -> None:
    """As the fleet says it, from its next report but one on."""
    seen = len(_reports(log)) + 1
    while not any(report["connected"] == devices for report in _reports(log)[seen:]):
        if fleet.process.poll() is not None:
            raise RuntimeError(f"the fleet has ended: {fleet.last_words()}")
        await asyncio.sleep(0.2)


def _reports(log: Path) -> list[dict[str, float]]:
    lines = log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def _most_in_a_second(moments: list[float]) -> int:
    most, window = 0, deque[float]()
    for moment in moments:
        window.append(moment)
        while window[0] <= moment - 1:
            window.popleft()
        most = max(most, len(window))
    return most


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument(
        "--accepts", type=float, default=10.0, help="connections a second that the gate takes"
    )
    parser.add_argument("--outage", type=float, action="append", help="seconds; may be repeated (5 and 120)")
    arguments = parser.parse_args()
    print(f"{machine()}; {mosquitto_version()}")
    outages = arguments.outage or [5.0, 120.0]
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        found = asyncio.run(measure(arguments.devices, arguments.accepts, outages, Path(folder)))
        last = _reports(Path(folder) / "log")[-1]
    for each in found:
        print(
            f"{arguments.devices} devices, outage of {each.outage_s:g} s: at most {each.peak_per_s} attempts in a second"
            f" ({each.peak_per_s / arguments.accepts:.1f} times what is accepted), {each.attempts} in all;"
            f" all back after {each.back_s:.0f} s"
        )
    print(f"memory of the fleet: {last['memory_mb']:.0f} MB")
    return 0 if all(each.fits(arguments.accepts) for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
