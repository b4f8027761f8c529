"""What tests ask of a device on which Outstation is installed, whatever the device is."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

SOCKET = "/var/lib/outstation/buffer/agent.sock"
"""Where the agent answers, with a configuration that has its buffer at the usual place."""
ASK = f"""
import socket, sys
with socket.socket(socket.AF_UNIX) as agent:
    agent.settimeout(5)
    agent.connect("{SOCKET}")
    agent.shutdown(socket.SHUT_WR)
    while piece := agent.recv(1 << 16):
        sys.stdout.buffer.write(piece)
"""
"""As `outstation status --json`, which takes seconds to start on an emulated machine."""
CONFIGURATION = "/etc/outstation/outstation.toml"
PENDING = "/opt/outstation/pending"


class Device(ABC):
    """A device with a shell for root."""

    patience_s = 60.0
    """For what takes a second or two on an idle machine."""

    @abstractmethod
    def run(
        self, *command: str, check: bool = True, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on it; what it writes to either stream is its stdout.

        Raises:
            AssertionError: It failed, and `check` is set.
        """

    def install_from(
        self, bundle: str, *arguments: str, check: bool = True, kill_at: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run install.sh of a bundle that is seen there; killed before the step of that name, if one is given."""
        seams = [
            "OUTSTATION_TEST_STEADY_S=2",
            "OUTSTATION_TEST_PROGRESS_S=10",
            "OUTSTATION_TEST_SAMPLED_S=1",
            *([f"OUTSTATION_TEST_KILL={kill_at}"] if kill_at else []),
        ]
        return self.run("env", *seams, "sh", f"{bundle}/install.sh", *arguments, check=check, timeout_s=400.0)

    def exists(self, path: str) -> bool:
        """Whether something is there."""
        return self.run("test", "-e", path, check=False).returncode == 0

    @property
    def release(self) -> str | None:
        """The current release."""
        link = self.run("readlink", "/opt/outstation/current", check=False).stdout.strip()
        return link.rpartition("/")[2] or None

    @property
    def releases(self) -> set[str]:
        """All releases, whole or not."""
        return set(self.run("ls", "/opt/outstation/releases").stdout.split())

    @property
    def running_release(self) -> str | None:
        """The release whose agent runs, whatever the current one is."""
        order = f"tr '\\0' '\\n' </proc/{self.property('MainPID')}/cmdline"
        _, found, name = self.run("sh", "-c", order, check=False).stdout.partition(
            "/opt/outstation/releases/"
        )
        return name.partition("/")[0] if found else None

    def status(self) -> dict[str, Any] | None:
        """What the agent reports, None when it does not."""
        done = self.run("python3", "-I", "-S", "-c", ASK, check=False)
        try:
            report: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            return None
        return report

    def collects(self, more_than: int = 0, within_s: float | None = None) -> int:
        """Wait until more readings are stored than that; how many."""
        deadline = time.monotonic() + (within_s or self.patience_s)
        while time.monotonic() < deadline:
            report = self.status()
            if report is not None and report["buffer"]["stored"] > more_than:
                return int(report["buffer"]["stored"])
            time.sleep(0.2)
        journal = self.run("journalctl", "-u", "outstation", "-n", "30", "--no-pager", check=False).stdout
        raise AssertionError(f"nothing is collected: {report}\n{journal}")

    def property(self, name: str, unit: str = "outstation.service") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "-p", name, "--value", unit).stdout.strip()
