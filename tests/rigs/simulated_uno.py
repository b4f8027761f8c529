"""An Arduino Uno without hardware: real firmware in a simulated ATmega328P, its UART on a pseudo-terminal.

    firmware = build_firmware(folder, MODE="JSON", PERIOD_MS=50)
    async with SimulatedUno(folder, firmware) as board:
        await board.plug()
        ... open board.port ...

`simulated_uno.c` says what it can do; it is built when it is first needed.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware-notes" / "atmega328p"
BINARY = {
    "framing": "cobs",
    "codec": {
        "type": "struct",
        "byteorder": "little",
        "ignore": ["{"],
        "layout": [
            {
                "prefix": "D",
                "fields": [
                    {"name": "boot", "type": "u16"},
                    {"name": "seq", "type": "u32"},
                    {"name": "ms", "type": "u32"},
                    {"name": "celsius", "type": "i16", "scale": 0.1, "unit": "Cel"},
                    {"name": "millivolts", "type": "u16"},
                ],
            }
        ],
    },
}
"""How a source reads its binary frames."""
_SIMULATOR = Path(__file__).with_suffix(".c")
_END_TIMEOUT_S = 5.0


def _run(*command: str | Path) -> None:
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"{' '.join(map(str, command))}\n{made.stdout}{made.stderr}"


def build_firmware(folder: Path, **settings: object) -> Path:
    """Build the reference firmware as its notes say: `make MODE=JSON`; the ELF file."""
    name = "-".join(["sensor", *(f"{key}{value}" for key, value in settings.items())])
    made = [f"{key}={value}" for key, value in settings.items()]
    _run("make", "-s", "-C", FIRMWARE, f"OUT={folder / name}", *made)
    return folder / name / "sensor.elf"


def build_simulator(folder: Path) -> Path:
    """Build the simulator."""
    made = folder / "simulated_uno"
    _run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", made, _SIMULATOR, "-lsimavr")
    return made


def build_frame_library(folder: Path) -> Path:
    """Build the part of the firmware that is portable for this machine."""
    made = folder / "frame.so"
    _run(
        "cc",
        "-std=c99",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        made,
        FIRMWARE / "frame.c",
    )
    return made


class SimulatedUno:
    """A board with a supply of its own; unplugged at first.

    Args:
        folder: Where its port and its EEPROM are. A board made anew in the same folder has the same EEPROM.
        simulator: What `build_simulator` made.
        firmware: The ELF file.
        reset_on_open: Whether opening the port resets it, as DTR does on an Uno as it comes.
    """

    def __init__(self, folder: Path, simulator: Path, firmware: Path, *, reset_on_open: bool = False) -> None:
        self.port = str(folder / "usb-Arduino_Uno-if00")
        self._command = [simulator, firmware, self.port, "--eeprom", folder / "eeprom"]
        if reset_on_open:
            self._command.append("--reset-on-open")
        self._process: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise

    async def plug(self) -> None:
        """Plug it in: the port comes (back) under its name, on another terminal."""
        assert (await self.tell("plug")).startswith("plugged /dev/pts/")

    async def unplug(self) -> None:
        """Pull the cable; the board goes on."""
        assert await self.tell("unplug") == "done"

    async def tell(self, command: str) -> str:
        """Give the simulator a command; its answer.

        Raises:
            ConnectionError: It has ended.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._asking:
            self._process.stdin.write(f"{command}\n".encode())
            answer = await self._process.stdout.readline()
        if not answer:
            raise ConnectionError(f"the simulated board has ended with {await self._process.wait()}")
        return answer.decode().strip()
