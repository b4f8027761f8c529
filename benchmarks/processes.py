"""Programs under measurement: started with a log, read from /proc, always ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
_TICKS_S = os.sysconf("SC_CLK_TCK")
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Memory:
    """What a process holds in RAM now, and the most it ever held, in MB (10^6 bytes)."""

    anonymous: float
    file: float
    peak: float

    @property
    def resident(self) -> float:
        """Anonymous and file pages together."""
        return self.anonymous + self.file


class Program:
    """A Python program of this checkout, as a process; a context manager that ends it.

    Args:
        arguments: What follows `python`.
        log: Takes what it says on stderr (and on stdout, unless `talk`).
        talk: Connect its stdin and stdout to us.
    """

    def __init__(self, arguments: Sequence[str], log: Path, *, talk: bool = False) -> None:
        self._log = log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talk else stderr,
                stderr=stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def stop(self) -> int:
        """SIGTERM, then SIGKILL if that takes too long; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        return self.process.wait()

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Poll until a condition holds.

        Raises:
            RuntimeError: The program ended, or the condition did not come true in time.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended before {what}:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {what} within {timeout_s:.0f} s:\n{self.last_words()}")
            time.sleep(0.01)

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


def cpu_s(pid: int) -> float:
    """User and system time of a process and its threads so far, to 10 ms (/proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def machine_busy_s() -> float:
    """CPU time that the whole machine has spent on anything but idling (/proc/stat)."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = (
        int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / _TICKS_S


def memory(pid: int) -> Memory:
    """Resident memory of a process (/proc/PID/status)."""
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith("kB"):
            fields[name] = int(value.split()[0]) * 1024 / 1e6
    return Memory(fields["RssAnon"], fields["RssFile"] + fields["RssShmem"], fields["VmHWM"])
