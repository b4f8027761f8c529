"""Listens at the serial ports that nobody uses, and proposes sources for what they say.

A port that another program has open, a running agent for one, is left alone: it is named with who has it. Nothing is sent.
Opening a port may still reset a board whose reset hangs on DTR; that line is put down at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import serial

from drivers.discovery import Finding
from drivers.serial.config import SerialConfig
from drivers.serial.diagnosis import BY_ID, shared_with, stable_name
from drivers.serial.port import open_device
from drivers.serial.proposal import recognise
from drivers.transport.apart import run_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.serial.port import Port
    from drivers.serial.proposal import Spoken

BAUDRATES: Final = (115200, 9600, 57600, 19200, 38400, 230400, 4800, 921600)
"""In the order in which they are tried."""
ENOUGH_BYTES: Final = 2048
HEARD_MAX: Final = 65536
_READ_S: Final = 0.1
_MARGIN_S: Final = 10.0
"""For opening and closing, beyond the time for listening."""


def ports() -> list[str]:
    """The ports of this machine that sensors hang on, each once, by the name that stays if it has one."""
    found: dict[str, str] = {}
    for pattern in ("ttyUSB*", "ttyACM*", "ttyAMA*", "serial[0-9]*"):
        for path in sorted(Path("/dev").glob(pattern)):
            found.setdefault(str(path.resolve()), str(path))
    if BY_ID.is_dir():
        for link in sorted(BY_ID.iterdir()):
            found[str(link.resolve())] = str(link)
    return sorted(found.values())


class SerialScout:
    """Listens at one port.

    Args:
        port: Its name.
        baudrates: What to try, in this order.
    """

    def __init__(self, port: str, baudrates: Sequence[int] = BAUDRATES) -> None:
        self._port = port
        self._baudrates = baudrates
        self._enough = threading.Event()

    @property
    def place(self) -> str:
        """The port."""
        return self._port

    async def look(self, seconds: float) -> list[Finding]:
        """Listen for so long at most.

        Raises:
            ConnectionError: It cannot be opened.
        """
        async with asyncio.timeout(seconds + _MARGIN_S):
            return await run_apart(f"discover {self._port}", lambda: self._listen(seconds))

    def enough(self) -> None:
        """Listen no longer."""
        self._enough.set()

    def _listen(self, seconds: float) -> list[Finding]:
        """In a thread."""
        users = shared_with(self._port)
        if users:
            return [Finding(f"{self._port} is in use by {', '.join(users)}: left alone")]
        deadline_s = time.monotonic() + seconds
        share_s = seconds / len(self._baudrates)
        heard_any = False
        for place, baudrate in enumerate(self._baudrates):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or self._enough.is_set():
                break
            # A wrong rate gives wrong bytes, but none where nothing is said: then another rate would not help.
            until_s = share_s * (place + 1) - (seconds - left_s)
            heard = self._hear(baudrate, max(until_s, _READ_S), left_s)
            heard_any = heard_any or bool(heard)
            if (spoken := recognise(heard)) is not None:
                return [self._finding(baudrate, spoken)]
            if not heard:
                break
        if not heard_any:
            return [Finding(f"{self._port} says nothing: does the device have to be asked?")]
        return [Finding(f"{self._port} says something that is known at none of the usual baud rates")]

    def _hear(self, baudrate: int, seconds: float, silent_s: float) -> bytes:
        """What comes in that time; for as long as `silent_s` while nothing comes."""
        config = SerialConfig(port=self._port, baudrate=baudrate, dtr=False, rts=False, hangup=False)
        port: Port = open_device(config)
        port.timeout = _READ_S
        begun_s = time.monotonic()
        heard = b""
        try:
            while len(heard) < HEARD_MAX:
                waited_s = time.monotonic() - begun_s
                if self._enough.is_set() or waited_s >= (seconds if heard else silent_s):
                    break
                heard += port.read(max(1, port.in_waiting))
                if len(heard) >= ENOUGH_BYTES and recognise(heard) is not None:
                    break
        except (OSError, serial.SerialException) as error:
            raise ConnectionError(f"{self._port}: {error}") from error
        finally:
            port.close()
        return heard

    def _finding(self, baudrate: int, spoken: Spoken) -> Finding:
        name = stable_name(self._port) or self._port
        source = {
            "id": f"serial-{Path(self._port).name[-20:].strip('-_.') or 'port'}",
            "driver": "serial",
            "port": name,
            "baudrate": baudrate,
            "framing": spoken.framing,
            "codec": spoken.codec,
        }
        codec = spoken.codec if isinstance(spoken.codec, str) else spoken.codec["type"]
        framing = spoken.framing if isinstance(spoken.framing, str) else spoken.framing["type"]
        return Finding(f"{self._port} at {baudrate} baud: {framing}, {codec}", source, list(spoken.notes))
