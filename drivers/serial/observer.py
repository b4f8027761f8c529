"""Counts what goes wrong at one port, and draws conclusions from it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from drivers.framing import FrameError
from drivers.serial.diagnosis import line_errors
from drivers.serial.garbage import BaudrateDoubt, Ration
from drivers.serial.trouble import TroubleKind
from drivers.transport.apart import run_apart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collectors.clock import Clock
    from drivers.serial.config import SerialConfig
    from drivers.serial.diagnosis import LineErrors
    from drivers.serial.link import SerialLink
    from drivers.serial.port import Port
    from drivers.serial.trouble import PortError

_log = logging.getLogger(__name__)

UART_TIMEOUT_S: Final = 0.5
"""How long asking a UART for its counts may take."""

_UART_KINDS: Final = (
    TroubleKind.LINE_FRAMING,
    TroubleKind.LINE_PARITY,
    TroubleKind.LINE_OVERRUN,
    TroubleKind.LINE_BREAK,
)


class Observer:
    """What is known about one port, over all its connections.

    Args:
        name: The source, for messages.
        config: The port.
        clock: The time.

    Attributes:
        counts: How often each kind of trouble was met; the floods of the present connection are not among them.
    """

    def __init__(self, name: str, config: SerialConfig, clock: Clock) -> None:
        self.counts: Counter[str] = Counter()
        self._name = name
        self._config = config
        self._clock = clock
        self._ration = Ration(clock.monotonic_s())
        self._doubt = BaudrateDoubt(is_text=config.framing.is_text)
        self._link: SerialLink | None = None
        self._port: Port | None = None
        self._counted_before: LineErrors | None = None
        self._without_stop_bit = 0
        self._is_advised = False

    def troubles(self) -> Mapping[str, int]:
        """How often each kind of trouble was met."""
        floods = self._link.floods if self._link is not None else 0
        return self.counts + Counter({TroubleKind.FLOOD: floods})

    def connected(self, link: SerialLink, port: Port | None) -> None:
        """There is a new connection; a device of this machine comes with its port."""
        self._link, self._port = link, port
        self._doubt = BaudrateDoubt(is_text=self._config.framing.is_text)
        self._without_stop_bit = 0
        if port is None:
            return
        self._counted_before = port.line_errors
        if port.others:
            self.counts[TroubleKind.SHARED] += 1
            _log.warning("%s: %s", self._name, _shared(port))
        if not self._is_advised:
            self._is_advised = True
            for advice in port.advice:
                _log.warning("%s: %s", self._name, advice)

    async def disconnecting(self) -> None:
        """The connection is about to be closed."""
        await self._ask_uart()
        self._port = None

    def disconnected(self) -> None:
        """It is closed."""
        if self._link is not None:
            self.counts[TroubleKind.FLOOD] += self._link.floods
        self._link = None

    def failed(self, error: PortError) -> None:
        """Opening, closing or reading has failed."""
        self.counts[error.kind] += 1

    def sees(self, frame: bytes | FrameError) -> bool:
        """Take something that came into account; True when it raises a doubt, which wants `wonder`."""
        if isinstance(frame, FrameError):
            self.counts[frame.kind] += 1
        return self._doubt.see(frame)

    async def wonder(self) -> None:
        """Say that nothing but garbage comes."""
        self.counts[TroubleKind.WRONG_BAUDRATE] += 1
        await self._ask_uart()
        _log.warning("%s: %s", self._name, self._garbage_only())

    def keeps(self) -> bool:
        """Whether one more error is given out; else it is only counted."""
        kept = self._ration.take(self._clock.monotonic_s())
        if not kept:
            self.counts[TroubleKind.NOT_KEPT] += 1
        return kept

    def remarks(self) -> list[str]:
        """What people should know about the present connection."""
        remarks = []
        if self._doubt.doubts:
            remarks.append(self._garbage_only())
        if self._port is not None and self._port.others:
            remarks.append(_shared(self._port))
        if self._link is not None and self._link.is_flooded:
            remarks.append("the device sends faster than its frames are taken: bytes may be lost")
        return remarks

    def _garbage_only(self) -> str:
        counted = self._without_stop_bit
        uart = f" (the UART counts {counted} bytes without a stop bit)" if counted else ""
        settings = f"{self._config.baudrate} baud and parity {self._config.parity}"
        line = f"are {settings}" if self._config.is_device else "are the settings of the serial server"
        return (
            f"{self._config.name}: nothing but garbage since the port was opened{uart}: {line} right, and does the"
            f" device send {self._config.framing.type}?"
        )

    async def _ask_uart(self) -> None:
        """Count what the UART has counted since it was asked last. One that does not answer is left alone."""
        port, before = self._port, self._counted_before
        if port is None or before is None or not port.is_open:
            return
        with contextlib.suppress(OSError, ValueError):  # the device has gone
            async with asyncio.timeout(UART_TIMEOUT_S):
                now = await run_apart(f"uart {self._name}", lambda: line_errors(port.fileno()))
            if now is None:
                return
            counted, self._counted_before = now.since(before), now
            self._without_stop_bit += counted.framing
            for kind, count in zip(_UART_KINDS, counted, strict=True):
                self.counts[kind] += count


def _shared(port: Port) -> str:
    return f"{', '.join(port.others)} has {port.port} open, too, and may take some of the bytes"
