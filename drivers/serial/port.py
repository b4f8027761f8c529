"""Opening a port, off the event loop.

A USB adapter that is stuck can hold `open()` for ever. Each opening therefore runs in a daemon thread of its own,
not in a pool that other ports, files and name look-ups share, and that Python waits for when it ends. What is
opened after its caller has given up is closed again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import termios
import threading
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import serial
import serial_asyncio_fast

from drivers.serial.diagnosis import advice, line_errors, shared_with, why_not
from drivers.serial.trouble import PortError, TroubleKind
from drivers.serial.usb import find_port
from drivers.transport.apart import run_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drivers.serial.config import SerialConfig
    from drivers.serial.diagnosis import LineErrors

PARITIES = {
    "none": serial.PARITY_NONE,
    "even": serial.PARITY_EVEN,
    "odd": serial.PARITY_ODD,
    "mark": serial.PARITY_MARK,
    "space": serial.PARITY_SPACE,
}

KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 30, 10, 3
"""A reader that never writes would not notice in days that its serial server has lost power; so, in a minute."""


class Port(serial.Serial):
    """A serial port whose closing does not wait for a peer that has stopped reading."""

    line_errors: LineErrors | None = None
    """What the UART had counted when it was opened."""
    others: Sequence[str] = ()
    """Programs that had it open, too."""
    advice: Sequence[str] = ()
    """What would be better about its name."""

    def close(self) -> None:
        """Close, discarding what the peer did not take: the kernel waits up to 30 s for it otherwise."""
        if self.is_open:
            with contextlib.suppress(termios.error, OSError):  # the device may be gone
                self.reset_output_buffer()
        super().close()


def open_device(config: SerialConfig) -> Port:
    """Open a device; blocks.

    Raises:
        PortError: It cannot be opened; the message says why and what would help.
    """
    path = config.port if config.port is not None else find_port(config.configured_usb)
    port = Port()
    try:
        port.port = path
        port.baudrate = config.baudrate
        port.bytesize = config.bytesize
        port.parity = PARITIES[config.parity]
        port.stopbits = config.stopbits
        port.rtscts = config.flow_control == "rtscts"
        port.xonxoff = config.flow_control == "xonxoff"
        port.exclusive = config.exclusive or None
        port.dtr = config.dtr
        port.rts = config.rts
        port.open()
        _set_hangup(port, hangup=config.hangup)
    except (OSError, ValueError, termios.error) as error:
        port.close()
        raise why_not(config, path, error) from error
    port.line_errors = line_errors(port.fileno())
    port.others = shared_with(path) if config.exclusive else []
    port.advice = advice(path) if config.port is not None else []
    return port


def _set_hangup(port: Port, *, hangup: bool) -> None:
    """Whether DTR and RTS fall when the port is closed (termios(3), HUPCL).

    Only then do they rise at the next opening, which is what resets a board whose reset hangs on DTR.
    """
    settings = termios.tcgetattr(port.fileno())
    control = settings[2] | termios.HUPCL if hangup else settings[2] & ~termios.HUPCL
    if control != settings[2]:
        settings[2] = control
        termios.tcsetattr(port.fileno(), termios.TCSANOW, settings)


class Opener:
    """Opens one device again and again, with at most one attempt under way.

    Args:
        open_port: What opens it; blocks, and raises PortError.
        name: The port, for messages.
    """

    def __init__(self, open_port: Callable[[], Port], name: str) -> None:
        self._open_port = open_port
        self._name = name
        self._is_opening = False

    async def open(self, timeout_s: float) -> Port:
        """Open the device.

        Raises:
            PortError: It cannot be opened, or not in time, or an earlier attempt still hangs.
        """
        if self._is_opening:
            raise PortError(
                TroubleKind.STUCK,
                f"{self._name}: an earlier attempt to open it still hangs: the adapter may be stuck",
            )
        # Left pending until it has a result: so it can be cancelled while the thread is inside open().
        future: concurrent.futures.Future[Port] = concurrent.futures.Future()
        self._is_opening = True
        threading.Thread(
            target=self._run, args=(future,), name=f"outstation-open {self._name}", daemon=True
        ).start()
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            self._abandon(future)
            raise PortError(
                TroubleKind.STUCK, f"{self._name}: not open within {timeout_s:g} s: the adapter may be stuck"
            ) from None
        except asyncio.CancelledError:
            self._abandon(future)
            raise

    def _run(self, future: concurrent.futures.Future[Port]) -> None:
        try:
            port = self._open_port()
        except BaseException as error:  # noqa: BLE001 (reported to whoever waits for the future)
            self._is_opening = False
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
            return
        if future.set_running_or_notify_cancel():
            self._is_opening = False
            future.set_result(port)
        else:
            port.close()  # nobody waits any more
            self._is_opening = False

    def _abandon(self, future: concurrent.futures.Future[Port]) -> None:
        if future.cancel() or future.cancelled() or future.exception() is not None:
            return  # the thread closes what it opens
        # It was opened at the very moment the caller gave up.
        threading.Thread(
            target=future.result().close, name=f"outstation-close {self._name}", daemon=True
        ).start()


async def attach_device(config: SerialConfig, port: Port, protocol: asyncio.Protocol) -> None:
    """Let the event loop read an open device; `protocol` gets the transport.

    Raises:
        PortError: It has gone meanwhile, or does not take its settings a second time; it is closed.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await serial_asyncio_fast.connection_for_serial(loop, lambda: protocol, port)
    except (OSError, ValueError, termios.error) as error:
        path = str(port.port)
        await run_apart(f"close {path}", port.close)
        raise why_not(config, path, error) from error
    # The library says so one turn of the loop later; a close() before that must already know the transport.
    protocol.connection_made(transport)


async def connect_socket(config: SerialConfig, protocol: asyncio.Protocol) -> None:
    """Connect to a serial server; `protocol` gets the transport.

    Raises:
        PortError: It does not answer, or not in time.
    """
    parts = urlsplit(config.name)
    connecting = partial(
        asyncio.get_running_loop().create_connection, lambda: protocol, parts.hostname, parts.port
    )
    try:
        async with asyncio.timeout(config.open_timeout):
            transport, _ = await connecting()
    except TimeoutError:
        message = f"{config.name}: no connection within {config.open_timeout:g} s"
        raise PortError(TroubleKind.NOT_OPENED, message) from None
    except OSError as error:
        raise PortError(TroubleKind.NOT_OPENED, f"{config.name}: {error}") from error
    link: socket.socket = transport.get_extra_info("socket")
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
