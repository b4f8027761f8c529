"""`outstation` as a process: started, watched, killed, stopped.

    agent = AgentProgram(folder, CONFIG)
    agent.start()
    report = await agent.until(lambda report: report.buffer.stored > 100)
    agent.kill()

The installed command is run where there is one, else `python -m agent`.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from agent.status.socket import AgentNotRunningError, ask_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from agent.status.report import StatusReport

ROOT = Path(__file__).resolve().parents[2]
_INSTALLED = Path(sys.executable).with_name("outstation")
COMMAND = [str(_INSTALLED)] if _INSTALLED.exists() else [sys.executable, "-m", "agent"]
PATIENCE_S = 40.0
"""For what takes well under a second on an idle machine."""
_POLL_S = 0.02
_STATUS_POLL_S = 0.1

T = TypeVar("T")


async def until(condition: Callable[[], T | Awaitable[T]], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Wait until a condition is truthy; returns what it was.

    Raises:
        AssertionError: It was not within the time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        found: T = await value if isinstance(value, Awaitable) else value
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}; last: {found!r}"
        await asyncio.sleep(_POLL_S)


def seed_of(test: str) -> int:
    """A new seed, printed; OUTSTATION_SEED repeats a run."""
    seed = int(os.environ.get("OUTSTATION_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"{test}: OUTSTATION_SEED={seed}")  # noqa: T201 (pytest shows it when the test fails)
    return seed


def run_command(*arguments: str | Path, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """Run `outstation ARGUMENTS` to its end."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, env=_environment(), capture_output=True, text=True, timeout=timeout_s, check=False
    )


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    return environment | {"PYTHONPATH": str(ROOT)}


class Program:
    """One command line that is run as a process, once at a time; killed at the end of the `with` block.

    Args:
        arguments: Of `outstation`.
        log: Where its output goes, run after run.
    """

    def __init__(self, *arguments: str | Path, log: Path) -> None:
        self.arguments = list(map(str, arguments))
        self.log_file = log
        self.killed: list[tuple[float, str]] = []
        """When it was killed (wall clock), and how."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has written so far, all runs together."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def start(self, *, script: Path | None = None, script_arguments: tuple[str | Path, ...] = ()) -> None:
        """Start it.

        Args:
            script: A Python program that does something to the command line's program and then runs it.
            script_arguments: What the script takes before the arguments of `outstation`.
        """
        assert not self.running, "it is running"
        command = COMMAND if script is None else [sys.executable, str(script), *map(str, script_arguments)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
            )

    def kill(self) -> None:
        """SIGKILL."""
        assert self.running, f"it has ended by itself:\n{self.log[-2000:]}"
        assert self._process is not None
        self.killed.append((time.time(), "SIGKILL from outside"))
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait until it has ended; its exit status, negative for a signal."""
        assert self._process is not None
        process = self._process
        await until(lambda: process.poll() is not None, f"{self.arguments[0]} ends", timeout_s)
        assert process.returncode is not None
        return process.returncode

    async def stop(self, timeout_s: float = PATIENCE_S) -> tuple[int, float]:
        """SIGTERM; its exit status, and how long it took in seconds."""
        assert self._process is not None
        began = time.monotonic()
        self._process.terminate()
        status = await self.ended(timeout_s)
        return status, time.monotonic() - began


class AgentProgram(Program):
    """`outstation run` with a configuration of its own in a folder.

    Args:
        folder: Gets `NAME.toml`, `NAME.log` and, as the configuration says so, the buffer.
        config: TOML. A relative `buffer.path` is below the folder.
        name: Of the files.
    """

    def __init__(self, folder: Path, config: str, *, name: str = "agent") -> None:
        self.config_file = folder / f"{name}.toml"
        self.config_file.write_text(config)
        self.buffer = folder / "buffer"
        self.socket = self.buffer / "agent.sock"
        super().__init__("run", "--config", self.config_file, log=folder / f"{name}.log")

    async def report(self) -> StatusReport | None:
        """What it says about itself; None while it does not answer."""
        try:
            return await ask_status(self.socket)
        except AgentNotRunningError:  # not yet, or killed while it spoke
            return None

    async def until(
        self, condition: Callable[[StatusReport], object], what: str = "", timeout_s: float = PATIENCE_S
    ) -> StatusReport:
        """Wait until its report meets a condition; the report.

        Raises:
            AssertionError: It did not within the time, or the program has ended.
        """
        deadline = time.monotonic() + timeout_s
        report = None
        while time.monotonic() < deadline:
            assert self.running, f"the agent has ended by itself:\n{self.log[-3000:]}"
            report = await self.report()
            if report is not None and condition(report):
                return report
            await asyncio.sleep(_STATUS_POLL_S)
        raise AssertionError(f"not within {timeout_s:g} s: {what}; last: {report}\n{self.log[-3000:]}")


def receiver_program(folder: Path, url: str) -> Program:
    """`outstation receive` from a URL into `cloud.sqlite` in a folder."""
    database = folder / "cloud.sqlite"
    return Program("receive", "--from", url, "--into", f"sqlite:///{database}", log=folder / "receiver.log")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
