"""A booted Debian in a systemd-nspawn container: a real systemd, a real service, within two seconds.

    with Container(folder, bundle) as device:
        device.run("/mnt/install.sh")
        device.cut()
        device.boot()

What a test changes lies in an overlay and is thrown away. It has no network but its own loopback. A cut kills everything at
once; unlike a power cut it loses nothing that was written and not synced (virtual machines and crash states show that). Needs root.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.rigs.machine.device import Device
from tests.rigs.machine.root import debian_root

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOOT_S = 30.0
_POLL_S = 0.05


class Container(Device):
    """A device.

    Args:
        folder: For its files.
        bundle: Seen read-only below /mnt/bundle.
        more: Other folders of this machine, by where they are seen in the container, read-only.
        below: Changes of another container (its `changes`) that this one begins with.
    """

    def __init__(
        self, folder: Path, bundle: Path, more: dict[str, Path] | None = None, below: Path | None = None
    ) -> None:
        self._folder = folder
        self._below = below
        self._shown = {"/mnt/bundle": bundle, **(more or {})}
        self.root = folder / "root"
        self.changes = folder / "upper"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._groups: list[Path] = []

    def __enter__(self) -> Self:
        work = self._folder / "work"
        for part in (self.root, self.changes, work):
            part.mkdir(parents=True)
        lower = ":".join(str(layer) for layer in (self._below, debian_root()) if layer)
        layers = f"lowerdir={lower},upperdir={self.changes},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        subprocess.run(["umount", self.root], check=True)

    def boot(self) -> None:
        """Boot, until systemd says that it is done."""
        binds = [f"--bind-ro={source}:{target}" for target, source in self._shown.items()]
        log = (self._folder / "boot.log").open("ab")
        self._nspawn = subprocess.Popen(
            [
                *(
                    "systemd-nspawn",
                    "--quiet",
                    f"--directory={self.root}",
                    *binds,
                    "--register=no",
                    "--keep-unit",
                ),
                *("--private-network", "--console=pipe", "--boot", "systemd.unit=multi-user.target"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=self._enter_groups,  # noqa: PLW1509 (no threads: a control group must be entered before it starts)
        )
        log.close()
        deadline = time.monotonic() + _BOOT_S
        while not self._is_up():
            assert time.monotonic() < deadline, f"no boot: {(self._folder / 'boot.log').read_text()[-2000:]}"
            time.sleep(_POLL_S)

    def _enter_groups(self) -> None:
        """A control group of its own in each hierarchy, which systemd insists on."""
        for hierarchy in ("systemd", "unified", ""):
            parent = Path("/sys/fs/cgroup") / hierarchy
            if (parent / "cgroup.procs").exists():
                group = parent / f"outstation-{os.getppid()}"
                group.mkdir(exist_ok=True)
                (group / "cgroup.procs").write_text(str(os.getpid()))

    def _is_up(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, (self._folder / "boot.log").read_text()[-2000:]
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        if not children:
            return False
        self._init = int(children[0])
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def cut(self) -> None:
        """Kill everything in it."""
        if self._nspawn is None:
            return
        for pid in (self._init, self._nspawn.pid):
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._nspawn.wait()
        self._nspawn, self._init = None, 0
        for hierarchy in ("systemd", "unified", ""):
            group = Path("/sys/fs/cgroup") / hierarchy / f"outstation-{os.getpid()}"
            for path in sorted(group.rglob("*"), reverse=True) if group.exists() else ():
                if path.is_dir():
                    with contextlib.suppress(OSError):
                        path.rmdir()
            with contextlib.suppress(OSError):
                group.rmdir()

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        done = subprocess.run(
            self.inside(command),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return done

    def inside(self, command: Sequence[str]) -> list[str]:
        """The words that run a command in it."""
        return [
            "nsenter",
            "-t",
            str(self._init),
            *("-m", "-u", "-i", "-n", "-p", "-C", "--"),
            "env",
            "-i",
            _PATH,
            *command,
        ]


_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
