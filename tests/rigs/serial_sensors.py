"""A sensor that counts, on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.rigs.pty import PtySensor


class SerialCounter:
    """Writes `{"n": 0, ...}`, `{"n": 1, ...}`; like a UART it does not wait for a reader.

    Args:
        sensor: The pseudo-terminal.
        rate_hz: Lines a second.
    """

    def __init__(self, sensor: PtySensor, rate_hz: float) -> None:
        self._sensor = sensor
        self._interval_s = 1 / rate_hz
        self.written_at: list[float] = []
        """When line n was written (wall clock)."""
        self.refused = 0
        """Lines for which the terminal had no room, since nobody read."""

    async def speak(self) -> None:
        """Write on a schedule that does not drift until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            number = len(self.written_at)
            line = json.dumps({"n": number, "celsius": round(20 + number % 50 / 10, 1)}).encode() + b"\n"
            self.written_at.append(time.time())
            try:
                sent = os.write(self._sensor.master, line)
            except BlockingIOError:
                sent = 0
            self.refused += sent < len(line)
            due += self._interval_s
            await asyncio.sleep(max(0.0, due - loop.time()))
