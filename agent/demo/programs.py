"""The two installed programs that the demo runs as processes of their own: the agent and the receiver."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence
    from pathlib import Path

_STOP_TIMEOUT_S = 8.0


class Program:
    """`outstation ARGUMENTS` as a process that can be started, killed and started again."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self._process: Process | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; what it logs goes to its file."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agent",
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its programs in order
            )

    async def kill(self) -> None:
        """SIGKILL: no warning, no clean-up, like a power cut."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that takes too long."""
        await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])


AGENT_CONFIG = """\
# The configuration of the demo's agent: two serial sensors and a simulated one,
# kept in a buffer, delivered over HTTP.
[device]
id = "demo-pi"

[[source]]
id = "greenhouse"
driver = "serial"
port = "{ports[0]}"

[[source]]
id = "cellar"
driver = "serial"
port = "{ports[1]}"

[[source]]
id = "weather"
driver = "simulated"
rate = {rate}
seed = 3

[[source.signals]]
name = "wind"
kind = "random_walk"

[[source.signals]]
name = "sun"
kind = "sine"

[buffer]
path = "buffer"

[[upstream]]
name = "cloud"
driver = "http"
url = "http://127.0.0.1:{link_port}/readings"
linger = "200 ms"

# In the field the first retry comes within a minute, so that a fleet does not come back all at once.
[upstream.retry]
first = "1 s"
base = "500 ms"
cap = "2 s"
"""
