"""The real bluetoothd on the real Linux Bluetooth stack, in a virtual machine; controller and sensors are bumble's.

bluetoothd in the machine joins a private bus of this one, over QEMU's user network; the machine's controller hangs on a virtual
console, whose other end bumble holds. It is emulated (TCG), so it runs wherever QEMU does; it starts in 5 to 20 s.

File descriptors cannot cross into the machine, so AcquireNotify would hang; bleak does not use it unless told to.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bumble.transport import open_transport
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from tests.rigs.ble.private_bus import DIE_WITH_US, PrivateBus
from tests.rigs.ble.virtual_air import Air, MachineController, VirtualSensor
from tests.rigs.ble.virtual_image import image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bumble.transport.common import Transport

    from tests.rigs.ble.world import Characteristic

ADAPTER_PATH = "/org/bluez/hci0"
PUBLIC_ADDRESS = "F0:F1:F2:F3:F4:F5"
_BOOT_S = 90.0
_COMMAND_S = 30.0
_RELAY = Path(__file__).with_name("bus_relay.py")
_PROPERTIES = "org.freedesktop.DBus.Properties"


class VirtualWorld:
    """A virtual machine, running within the `async with` block."""

    def __init__(self) -> None:
        self.private_bus = PrivateBus()
        self.bus_address = self.private_bus.address
        self._machine: subprocess.Popen[bytes] | None = None
        self._sensors: dict[str, VirtualSensor] = {}

    async def __aenter__(self) -> Self:
        self.private_bus.__enter__()
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        await asyncio.to_thread(self._start_machine)
        async with asyncio.timeout(_BOOT_S):
            self._air = Air()
            self._transport = await self._open_console()
            self._controller = MachineController(
                "machine",
                host_source=self._transport.source,
                host_sink=self._transport.sink,
                link=self._air,
                public_address=PUBLIC_ADDRESS,
            )
            self._bus = await MessageBus(bus_address=self.bus_address).connect()
            await self.powered()

    async def _open_console(self) -> Transport:
        """The other end of the machine's controller, once QEMU listens: the socket is there a moment earlier."""
        while True:
            try:
                return await open_transport(f"unix:{self._folder / 'hci'}")
            except (FileNotFoundError, ConnectionRefusedError):
                self._assert_alive()
                await asyncio.sleep(0.05)

    def _assert_alive(self) -> None:
        assert self._machine is not None
        assert self._machine.poll() is None, f"the virtual machine has ended:\n{self.console}"

    def _start_machine(self) -> None:
        self._machine = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    async def __aexit__(self, *_: object) -> None:
        if hasattr(self, "_bus"):
            self._bus.disconnect()
        if hasattr(self, "_transport"):
            await self._transport.close()
        if self._machine is not None:
            self._machine.kill()
            await asyncio.to_thread(self._machine.wait)
        self.private_bus.__exit__()

    @property
    def _folder(self) -> Path:
        return self.private_bus.folder

    @property
    def console(self) -> str:
        """What the machine has written."""
        log = self._folder / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def _command(self) -> list[str]:
        made, folder = image(), self._folder
        machine = "-machine pc -accel tcg -cpu max -smp 1 -m 256 -nodefaults -no-user-config -no-reboot -display none"
        options = {
            "-kernel": str(made.kernel),
            "-initrd": str(made.initrd),
            "-append": "console=ttyS0 quiet panic=-1 mitigations=off",
        }
        devices = [
            *(
                "-chardev",
                f"file,id=console,path={folder}/console.log",
                "-device",
                "isa-serial,chardev=console",
            ),
            *("-device", "virtio-serial-pci", "-device", "virtio-rng-pci"),
            *("-chardev", f"socket,id=hci,path={folder}/hci,server=on,wait=off"),
            *("-device", "virtconsole,chardev=hci"),
            *("-chardev", f"socket,id=shell,path={folder}/shell,server=on,wait=off"),
            *("-device", "virtconsole,chardev=shell"),
        ]
        relay = f"{sys.executable} {_RELAY} {self.private_bus.socket}"
        network = f"user,model=virtio-net-pci,restrict=on,guestfwd=tcp:10.0.2.100:55-cmd:{relay}"
        given = [word for option in options.items() for word in option]
        return [*DIE_WITH_US, "qemu-system-x86_64", *machine.split(), *given, *devices, "-nic", network]

    # The world

    async def sensor(
        self, address: str, gatt: Mapping[int, Sequence[Characteristic]] | None = None
    ) -> VirtualSensor:
        """Put a sensor on the air."""
        sensor = self._sensors[address] = VirtualSensor(self._controller, self._air, address, gatt)
        await sensor.start()
        return sensor

    async def power(self, *, on: bool) -> None:
        """Switch the adapter."""
        body = ["org.bluez.Adapter1", "Powered", Variant("b", on)]
        await self._call(ADAPTER_PATH, _PROPERTIES, "Set", "ssv", body)

    def deafen(self) -> None:
        """The controller reports nothing any more, until it is switched off and on."""
        self._controller.deaf = True

    async def kill_bluetoothd(self) -> None:
        """SIGKILL; it stays away."""
        await self.shell("touch /run/hold; kill -9 $(pidof bluetoothd)")

    async def start_bluetoothd(self) -> None:
        """Start it again."""
        await self.shell("rm /run/hold")
        await self.powered()

    async def powered(self) -> None:
        """Wait until bluetoothd is there and its adapter is on."""
        async with asyncio.timeout(_BOOT_S):
            while not await self._is_powered():
                self._assert_alive()
                await asyncio.sleep(0.1)

    async def _is_powered(self) -> bool:
        body = ["org.bluez.Adapter1", "Powered"]
        answer = await self._call(ADAPTER_PATH, _PROPERTIES, "Get", "ss", body, check=False)
        return answer.message_type is MessageType.METHOD_RETURN and bool(answer.body[0].value)

    async def _call(
        self, path: str, interface: str, member: str, signature: str, body: list[Any], *, check: bool = True
    ) -> Message:
        message = Message(
            destination="org.bluez",
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
        )
        answer = await self._bus.call(message)
        assert not check or answer.message_type is MessageType.METHOD_RETURN, answer.body
        return answer

    async def shell(self, command: str) -> str:
        """Run a command in the machine; what it writes."""
        reader, writer = await asyncio.open_unix_connection(str(self._folder / "shell"))
        try:
            writer.write(f'\n{command}; echo "=""done="\n'.encode())
            async with asyncio.timeout(_COMMAND_S):
                return (await reader.readuntil(b"=done=")).decode(errors="replace")
        finally:
            writer.close()
