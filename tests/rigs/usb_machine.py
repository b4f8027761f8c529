"""A USB serial adapter on a real kernel driver (ftdi_sio), in a virtual machine, and this program reading it there.

The adapter is QEMU's; what hangs on its serial side is the test, over a socket. It is unplugged and plugged in again by
QEMU's monitor. The machine sees the files of this one, read-only (9P), so that the very code under test runs in it. It is emulated
(TCG), so it runs wherever QEMU does; it starts in 10 to 20 s.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.rigs import debian_kernel
from tests.rigs.ble.initramfs import Initramfs
from tests.rigs.ble.private_bus import DIE_WITH_US

if TYPE_CHECKING:
    from tests.rigs.debian_kernel import Image

ROOT = Path(__file__).resolve().parents[2]
VENDOR, PRODUCT, SERIAL = "0403", "6001", "A1"
_MODULES = ["virtio_pci", "virtio_console", "xhci_pci", "usbserial", "ftdi_sio", "9pnet_virtio", "9p"]
_BOOT_S, _ANSWER_S = 90.0, 40.0
_INIT = """\
#!/bin/busybox sh
B=/bin/busybox
export PATH=/bin
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read -r module; do $B insmod "/mod/$module.ko" || echo "guest: $module cannot be loaded"; done </mod/order
$B --install -s /bin 2>/dev/null
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=1048576 host /host
mount -t devtmpfs dev /host/dev
mount -t proc proc /host/proc
mount -t sysfs sys /host/sys
mount -t tmpfs tmp /host/mnt
export TMPDIR=/mnt
exec chroot /host sh -c READER >/dev/hvc0 2>&1
"""


def image() -> Image:
    """The image, made if it is not there yet."""
    return debian_kernel.image("usb-machine", [], [__file__], _file_system, places=[sys.executable, ROOT])


def _file_system(root: Path) -> bytes:
    files = Initramfs()
    for folder in ("proc", "sys", "dev", "host"):
        files.folder(folder)
    python, checkout = shlex.quote(sys.executable), shlex.quote(str(ROOT))
    reader = shlex.quote(f"cd {checkout} && exec {python} -m tests.rigs.usb_reader")
    files.file("init", _INIT.replace("READER", reader).encode())
    files.file("bin/busybox", (root / "bin/busybox").read_bytes())
    debian_kernel.add_modules(files, root, _MODULES)
    return files.bytes()


class UsbMachine:
    """A virtual machine with an adapter, running within the `async with` block.

    Args:
        folder: For its sockets.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._machine: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        plugged: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self._server = await asyncio.start_unix_server(
            lambda _, writer: plugged.put_nowait(writer), self._folder / "sensor"
        )
        try:
            made = await asyncio.to_thread(image)
            self._machine = await asyncio.to_thread(self._start, made)
            async with asyncio.timeout(_BOOT_S):
                self._sensor = await plugged.get()
                self._events, self._events_writer = await self._socket("events")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def _start(self, made: Image) -> subprocess.Popen[bytes]:
        machine = "-machine pc -accel tcg -cpu max -smp 1 -m 384 -nodefaults -no-user-config -no-reboot -display none"
        sockets = {name: f"socket,id={name},path={self._folder}/{name}" for name in ("events", "sensor")}
        words = [
            *("-kernel", str(made.kernel), "-initrd", str(made.initrd)),
            *("-append", "console=ttyS0 quiet panic=-1 mitigations=off"),
            *("-chardev", f"file,id=console,path={self._folder}/console.log"),
            *("-device", "isa-serial,chardev=console", "-device", "virtio-serial-pci"),
            *("-chardev", "null,id=nothing"),
            *("-chardev", f"{sockets['events']},server=on,wait=off", "-device", "virtconsole,chardev=events"),
            *("-qmp", f"unix:{self._folder}/monitor,server=on,wait=off"),
            *("-device", "qemu-xhci,id=xhci", "-chardev", sockets["sensor"]),
            *("-device", f"usb-serial,chardev=sensor,id=adapter,bus=xhci.0,serial={SERIAL}"),
            *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
        ]
        return subprocess.Popen(
            [*DIE_WITH_US, "qemu-system-x86_64", *machine.split(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def __aexit__(self, *_: object) -> None:
        if self._machine is not None:
            self._machine.kill()
            await asyncio.to_thread(self._machine.wait)
        for writer in (getattr(self, "_sensor", None), getattr(self, "_events_writer", None)):
            if writer is not None:
                writer.close()
        self._server.close()

    async def _socket(self, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_unix_connection(str(self._folder / name))
            except OSError:
                await asyncio.sleep(0.05)

    @property
    def console(self) -> str:
        """What the machine has written."""
        return (self._folder / "console.log").read_text(errors="replace")

    async def event(self, kind: str) -> dict[str, Any]:
        """The next event of this kind that the reader in the machine tells."""
        async with asyncio.timeout(_BOOT_S):
            while True:
                line = await self._events.readline()
                assert line, self.console
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # what a console says besides
                assert event.get("kind") != "crashed", event
                if event.get("kind") == kind:
                    return dict(event)

    async def send(self, data: bytes) -> None:
        """What the sensor says."""
        self._sensor.write(data)
        await self._sensor.drain()

    async def unplug(self) -> None:
        """Pull the adapter."""
        await self._monitor("device_del", id="adapter")

    async def plug(self) -> None:
        """Plug it in again."""
        await self._monitor(
            "device_add", driver="usb-serial", chardev="sensor", id="adapter", bus="xhci.0", serial=SERIAL
        )

    async def plug_another(self) -> None:
        """Plug in another adapter of the same kind, on which nothing hangs."""
        another = {"chardev": "nothing", "always-plugged": True, "bus": "xhci.0", "serial": "B2"}
        await self._monitor("device_add", driver="usb-serial", **another)

    async def _monitor(self, execute: str, **arguments: str | bool) -> None:
        reader, writer = await self._socket("monitor")
        try:
            for command in ({"execute": "qmp_capabilities"}, {"execute": execute, "arguments": arguments}):
                writer.write(json.dumps(command).encode() + b"\n")
                async with asyncio.timeout(_ANSWER_S):
                    while "return" not in (answer := json.loads(await reader.readline())):
                        assert "error" not in answer, answer
        finally:
            writer.close()
