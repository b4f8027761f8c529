"""A whole machine: a stock Debian kernel, systemd, a disk of its own, and a plug to pull.

    machine = VirtualMachine(folder, disk)
    machine.boot()
    machine.run("systemctl", "is-active", "outstation")
    machine.cut()

It is emulated (QEMU's TCG), and so runs wherever QEMU does. A cut kills QEMU: what the machine had handed to its disk is there, and
what it had not is not. (Since this machine lives on, its own disk need not be waited for: `cache=unsafe`.) Commands go over a serial port of virtio to `guest.py`.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.rigs import debian_kernel
from tests.rigs.ble.initramfs import Initramfs
from tests.rigs.ble.private_bus import DIE_WITH_US
from tests.rigs.machine.device import Device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.rigs.debian_kernel import Image

_MODULES = [
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "virtio_rng",
    "crc32c_generic",
    "ext4",
    "vfat",
    "nls_ascii",
    "nls_cp437",
]
_BOOT_S = 240.0
_MEMORY_MB = 512
HOST = "10.0.2.2"
"""This machine, as seen from there."""
_INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read -r module; do $B insmod "/mod/$module.ko" || echo "guest: $module cannot be loaded"; done </mod/order
for word in $($B cat /proc/cmdline); do
    case $word in root=*) root=${word#root=} ;; esac
done
$B mkdir -p /new
$B mount -t ext4 -o rw "$root" /new || exec $B poweroff -f
$B mount --move /proc /new/proc
$B mount --move /sys /new/sys
$B mount --move /dev /new/dev
exec $B switch_root /new /sbin/init
"""
_UNIT = """\
[Unit]
DefaultDependencies=no
After=local-fs.target systemd-udevd.service
Wants=systemd-udevd.service
[Service]
ExecStartPre=-/bin/sh -c 'ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2'
ExecStart=/usr/bin/python3 /usr/local/lib/guest.py
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
"""

_UNNEEDED = ("e2scrub_reap.service", "getty.target", "getty-static.service", "serial-getty@ttyS0.service")
"""Nobody logs in, and emulated each takes seconds of every boot."""


def kernel() -> Image:
    """The kernel and what it is started with, made if they are not there yet."""
    return debian_kernel.image("device-machine", [], [__file__], _file_system)


def _file_system(root: Path) -> bytes:
    files = Initramfs()
    for folder in ("proc", "sys", "dev", "new"):
        files.folder(folder)
    files.file("init", _INIT.encode())
    files.file("bin/busybox", (root / "bin/busybox").read_bytes())
    debian_kernel.add_modules(files, root, _MODULES)
    return files.bytes()


def add_guest(root: Path) -> None:
    """Let a Debian's files take commands when they are booted in such a machine."""
    (root / "usr/local/lib/guest.py").write_bytes(Path(__file__).with_name("guest.py").read_bytes())
    unit = root / "etc/systemd/system/guest.service"
    unit.write_text(_UNIT)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / unit.name).symlink_to(f"../{unit.name}")
    for name in _UNNEEDED:
        (unit.parent / name).symlink_to("/dev/null")


def recipe() -> str:
    """What the files of `add_guest` depend on, for the name of an image that is kept."""
    here = Path(__file__)
    return hashlib.sha256(here.read_bytes() + here.with_name("guest.py").read_bytes()).hexdigest()[:8]


class VirtualMachine(Device):
    """A machine with one or more disks.

    Args:
        folder: For its sockets.
        disk: With the root file system.
        more: Further disks, read-only: /dev/vdb and so on.
        root: Where the root file system is, as the machine names it.
    """

    patience_s = 240.0
    """Emulated, the agent alone takes ten seconds to start."""

    def __init__(self, folder: Path, disk: Path, more: Sequence[Path] = (), root: str = "/dev/vda") -> None:
        self._folder = folder
        self._disk = disk
        self._more = more
        self._root = root
        self._qemu: subprocess.Popen[bytes] | None = None
        self._port: socket.socket | None = None
        self._received = b""

    def boot(self, command_line: str = "") -> None:
        """Boot, until it takes commands.

        Args:
            command_line: More for the kernel.
        """
        made = kernel()
        path = self._folder / "commands"
        path.unlink(missing_ok=True)
        disks = []
        for number, disk in enumerate((self._disk, *self._more)):
            readonly = "on" if number else "off"
            disks += [
                *(
                    "-drive",
                    f"file={disk},format=raw,if=none,id=d{number},cache=unsafe,readonly={readonly}",
                ),
                *("-device", f"virtio-blk-pci,drive=d{number}"),
            ]
        machine = f"-machine pc -accel tcg,thread=multi -cpu max -smp 2 -m {_MEMORY_MB} -nodefaults -no-user-config -no-reboot -display none"
        append = (
            f"console=ttyS0 quiet panic=-1 mitigations=off net.ifnames=0 root={self._root} rw {command_line}"
        )
        self._qemu = subprocess.Popen(
            [
                *(*DIE_WITH_US, "qemu-system-x86_64", *machine.split()),
                *("-kernel", made.kernel, "-initrd", made.initrd, "-append", append),
                *disks,
                *("-chardev", f"file,id=console,path={self._folder}/console.log,append=on"),
                *(
                    "-device",
                    "isa-serial,chardev=console",
                    "-device",
                    "virtio-serial-pci",
                    "-device",
                    "virtio-rng-pci",
                ),
                *("-chardev", f"socket,id=commands,path={path},server=on,wait=off"),
                *("-device", "virtserialport,chardev=commands,name=commands"),
                *("-nic", "user,model=virtio-net-pci"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._connect(path)
        assert self._receive(_BOOT_S).get("up"), "the machine says something else first"

    def _connect(self, path: Path) -> None:
        deadline = time.monotonic() + _BOOT_S
        self._received = b""
        self._port = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self._port.connect(str(path))
            except OSError:
                assert time.monotonic() < deadline, "QEMU does not start"
                time.sleep(0.05)
            else:
                return

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        assert self._port is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._received:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"no answer within {timeout_s:g} s: {self.console()[-2000:]}"
            self._port.settimeout(left_s)
            try:
                piece = self._port.recv(65536)
            except TimeoutError:
                continue
            assert piece, f"the machine has ended: {self.console()[-2000:]}"
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def console(self) -> str:
        """What it has written to its console."""
        return (self._folder / "console.log").read_text(errors="replace")

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """As `Device.run`."""
        self.begin(*command, timeout_s=timeout_s)
        answer = self._receive(timeout_s + 30)
        done = subprocess.CompletedProcess(command, answer["returncode"], answer["stdout"])
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return done

    def begin(self, *command: str, timeout_s: float = 600.0) -> None:
        """Begin a command whose end is not awaited: the machine is cut before."""
        assert self._port is not None
        self._port.sendall(json.dumps({"command": command, "timeout_s": timeout_s}).encode() + b"\n")

    def cut(self) -> None:
        """Pull the plug."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None
        if self._port is not None:
            self._port.close()
            self._port = None
