"""Serial sensors without hardware: each writes JSON lines to a real pseudo-terminal.

Like a real UART it does not wait: what nobody reads is gone once the terminal's buffer is full, and counted.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import pty
import random
import tty
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_MEAN_TEMPERATURE, _MEAN_HUMIDITY = 21.0, 55.0


class PtySensor:
    """A thermometer on a pseudo-terminal; `port` is what the agent opens.

    Args:
        name: What it calls itself.
        rate_hz: Lines a second.
        seed: Of its noise.
    """

    def __init__(self, name: str, rate_hz: float, seed: int) -> None:
        self.name = name
        self._interval_s = 1 / rate_hz
        self._rng = random.Random(seed)  # noqa: S311 (noise on a signal, not a secret)
        self._controller, self._terminal = pty.openpty()
        # The agent's side is held open too, so that the port outlives an agent that is killed.
        tty.setraw(self._terminal)
        os.set_blocking(self._controller, False)
        self.port = os.ttyname(self._terminal)
        self.written = 0
        self.unread = 0
        """Lines that the sensor said while nobody listened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._controller)
        os.close(self._terminal)

    def line(self) -> bytes:
        """The next line: a counter and two noisy values."""
        phase = math.sin(self.written / 200)
        values = {
            "n": self.written,
            "temperature": round(_MEAN_TEMPERATURE + 3 * phase + self._rng.gauss(0, 0.05), 2),
            "humidity": round(_MEAN_HUMIDITY - 8 * phase + self._rng.gauss(0, 0.2), 1),
        }
        return json.dumps(values, separators=(",", ":")).encode() + b"\n"

    async def run(self) -> None:
        """Speak until cancelled, on a schedule that does not drift."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            line = self.line()
            self.written += 1
            try:
                sent = os.write(self._controller, line)
            except BlockingIOError:
                sent = 0
            if sent < len(line):
                self.unread += 1
            due += self._interval_s
            await asyncio.sleep(max(0.0, due - loop.time()))
