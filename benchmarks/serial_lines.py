"""Serial lines a second, from a pseudo-terminal to `CollectedData`, beside plain pyserial-asyncio readline().

The sender is a process of its own. Both ways read the same 40,000 lines of 38 bytes, in turn, five times.

    python -m benchmarks.serial_lines
"""

from __future__ import annotations

import asyncio
import os
import pty
import statistics
import subprocess
import sys
import time
import tty
from typing import TYPE_CHECKING, Any

from serial_asyncio_fast import open_serial_connection

from benchmarks.machine import machine
from collectors.clock import SystemClock
from drivers.serial.config import SerialConfig
from drivers.serial.source import SerialSource

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LINES, ROUNDS = 40_000, 5
LINE = b'{"seq":12345,"ms":123456789,"t":21.5}\n'
SENDER = "import os, sys\nfor _ in range({lines} // 100): os.write(1, {line!r} * 100)"


async def ours(port: str) -> None:
    source = SerialSource("s", SerialConfig(port=port), data_format="json", clock=SystemClock())
    await source.connect()
    count = 0
    async for _ in source.collect_stream():
        count += 1
        if count == LINES:
            break
    await source.disconnect()


async def plain(port: str) -> None:
    reader, writer = await open_serial_connection(url=port, baudrate=115200)
    for _ in range(LINES):
        await reader.readline()
    writer.close()


def measure(read: Callable[[str], Coroutine[Any, Any, None]]) -> tuple[float, float]:
    """Lines a second, and CPU microseconds a line of the reading process."""
    controller, terminal = pty.openpty()
    tty.setraw(terminal)
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER.format(lines=LINES, line=LINE)], stdout=controller
    )
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    asyncio.run(read(os.ttyname(terminal)))
    took_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    sender.wait()
    os.close(controller)
    os.close(terminal)
    return LINES / took_s, cpu_s / LINES * 1e6


def main() -> None:
    print(machine())
    results: dict[str, list[tuple[float, float]]] = {"ours": [], "readline": []}
    for _ in range(ROUNDS):
        results["ours"].append(measure(ours))
        results["readline"].append(measure(plain))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in results.items()
    }
    for name, (rate, cpu_us) in medians.items():
        print(f"{name:<10} {rate:>9,.0f} lines/s  {cpu_us:5.1f} us CPU a line")
    print(f"ratio      {medians['ours'][0] / medians['readline'][0]:.2f} in lines/s")


if __name__ == "__main__":
    main()
