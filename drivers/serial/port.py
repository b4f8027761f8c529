"""Opening a port, off the event loop.

A USB adapter that is stuck can hold `open()` for ever. Each opening therefore runs in a daemon thread of its own,
not in a pool that other ports, files and name look-ups share, and that Python waits for when it ends. What is
opened after its caller has given up is closed again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import grp
import os
import socket
import termios
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import serial
import serial_asyncio_fast

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.serial.config import SerialConfig

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

    def close(self) -> None:
        """Close, discarding what the peer did not take: the kernel waits up to 30 s for it otherwise."""
        if self.is_open:
            with contextlib.suppress(termios.error, OSError):  # the device may be gone
                self.reset_output_buffer()
        super().close()


def open_device(config: SerialConfig) -> Port:
    """Open a device; blocks.

    Raises:
        ConnectionError: It cannot be opened; the message says why and what would help.
    """
    try:
        return Port(
            config.port,
            baudrate=config.baudrate,
            bytesize=config.bytesize,
            parity=PARITIES[config.parity],
            stopbits=config.stopbits,
            exclusive=config.exclusive or None,
        )
    except (OSError, ValueError, termios.error) as error:
        raise ConnectionError(_why_not(config, error)) from error


def _why_not(config: SerialConfig, error: Exception) -> str:
    port = config.port
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ENOENT:
        return f"{port}: no such port: {_present()}"
    if code in {errno.EACCES, errno.EPERM}:
        return f"{port}: no permission: {_needed_group(port)}"
    if code in {errno.EAGAIN, errno.EBUSY}:
        return f"{port}: another program holds it"
    if code in {errno.ENXIO, errno.ENODEV, errno.EIO}:
        return f"{port}: the device does not answer: is it plugged in?"
    if _is_no_terminal(port):
        return f"{port}: not a serial port"
    line = (
        f"{config.baudrate} baud, {config.bytesize} bits, parity {config.parity}, {config.stopbits} stop bits"
    )
    return f"{port}: cannot be set to {line}: {error}"


def _present() -> str:
    """Which ports there are, to be told when the wanted one is not."""
    found = sorted(Path("/dev/serial/by-id").glob("*")) or sorted(
        path for pattern in ("ttyUSB*", "ttyACM*") for path in Path("/dev").glob(pattern)
    )
    if not found:
        return "is it plugged in? There is no USB serial port at all"
    return f"is it plugged in? There are: {', '.join(map(str, found))}"


def _needed_group(port: str) -> str:
    try:
        group = grp.getgrgid(Path(port).stat().st_gid).gr_name
    except (OSError, KeyError):
        return "ask for access to the device"
    return f"it belongs to the group {group}, which this user must be in"


def _is_no_terminal(port: str) -> bool:
    try:
        descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return True  # a directory, for example
    try:
        return not os.isatty(descriptor)
    finally:
        os.close(descriptor)


class Opener:
    """Opens one device again and again, with at most one attempt under way.

    Args:
        open_port: What opens it; blocks, and raises ConnectionError.
        name: The port, for messages.
    """

    def __init__(self, open_port: Callable[[], Port], name: str) -> None:
        self._open_port = open_port
        self._name = name
        self._is_opening = False

    async def open(self, timeout_s: float) -> Port:
        """Open the device.

        Raises:
            ConnectionError: It cannot be opened, or not in time, or an earlier attempt still hangs.
        """
        if self._is_opening:
            raise ConnectionError(
                f"{self._name}: an earlier attempt to open it still hangs: the adapter may be stuck"
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
            raise ConnectionError(
                f"{self._name}: not open within {timeout_s:g} s: the adapter may be stuck"
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


async def attach_device(port: Port, protocol: asyncio.Protocol) -> None:
    """Let the event loop read an open device; `protocol` gets the transport."""
    loop = asyncio.get_running_loop()
    transport, _ = await serial_asyncio_fast.connection_for_serial(loop, lambda: protocol, port)
    # The library says so one turn of the loop later; a close() before that must already know the transport.
    protocol.connection_made(transport)


async def connect_socket(config: SerialConfig, protocol: asyncio.Protocol) -> None:
    """Connect to a serial server; `protocol` gets the transport.

    Raises:
        ConnectionError: It does not answer, or not in time.
    """
    parts = urlsplit(config.port)
    connecting = partial(
        asyncio.get_running_loop().create_connection, lambda: protocol, parts.hostname, parts.port
    )
    try:
        async with asyncio.timeout(config.open_timeout):
            transport, _ = await connecting()
    except TimeoutError:
        raise ConnectionError(f"{config.port}: no connection within {config.open_timeout:g} s") from None
    except OSError as error:
        raise ConnectionError(f"{config.port}: {error}") from error
    link: socket.socket = transport.get_extra_info("socket")
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
