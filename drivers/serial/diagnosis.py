"""Why a port cannot be used as it should be, in words that say what would help. Asks the system: blocks."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import re
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from drivers.serial.trouble import PortError, TroubleKind

if TYPE_CHECKING:
    from drivers.serial.config import SerialConfig

BY_ID = Path("/dev/serial/by-id")

_FLEETING_NAME = re.compile(r"/dev/tty(USB|ACM)\d+")
_PTS_MAJORS = range(136, 144)
"""Pseudo-terminals: Documentation/admin-guide/devices.txt of the kernel."""

_TIOCGICOUNT = 0x545D
_ICOUNT = struct.Struct("11i36x")
"""struct serial_icounter_struct: cts, dsr, rng, dcd, rx, tx, frame, overrun, parity, brk, buf_overrun, reserved."""


class LineErrors(NamedTuple):
    """What a UART has counted since the system started."""

    framing: int
    parity: int
    overrun: int
    breaks: int

    def since(self, before: LineErrors) -> LineErrors:
        """What was counted in between; a driver that was loaded anew begins at zero."""
        return LineErrors(*(max(0, now - then) for now, then in zip(self, before, strict=True)))


def line_errors(descriptor: int) -> LineErrors | None:
    """The counts of an open port; None when its driver has none (pseudo-terminals, some USB adapters)."""
    try:
        counts = _ICOUNT.unpack(fcntl.ioctl(descriptor, _TIOCGICOUNT, bytes(_ICOUNT.size)))
    except OSError:
        return None
    frame, overrun, parity, breaks, buffer_overrun = counts[6:11]
    return LineErrors(frame, parity, overrun + buffer_overrun, breaks)


def advice(port: str) -> list[str]:
    """What would be better about the name of a port."""
    if not _FLEETING_NAME.fullmatch(port):
        return []
    better = stable_name(port)
    if better is not None:
        return [f"{port} may come back under another name when it is unplugged: use {better}"]
    usb = 'usb = { vendor = "...", product = "..." } (see lsusb)'
    return [
        f"{port} may come back under another name when it is unplugged: use its name in {BY_ID}, or {usb}"
    ]


def stable_name(port: str) -> str | None:
    """The name of a port that stays when it is unplugged, if the system gives it one."""
    try:
        links = sorted(BY_ID.iterdir())
    except OSError:
        return None
    return next((str(link) for link in links if os.path.realpath(link) == os.path.realpath(port)), None)


def why_not(config: SerialConfig, port: str, error: Exception) -> PortError:
    """Why a port does not open.

    Args:
        config: How it was to be opened.
        port: Its device path.
        error: What the system said.
    """
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ENOENT:
        return PortError(TroubleKind.NO_PORT, f"{port}: no such port: {_present()}")
    if code in {errno.EACCES, errno.EPERM}:
        return PortError(
            TroubleKind.NO_PERMISSION, f"{port}: no permission: {missing_permission(port, code)}"
        )
    if code in {errno.EAGAIN, errno.EBUSY}:
        return PortError(TroubleKind.BUSY, f"{port}: another program holds it: {_named(port)}")
    if code in {errno.ENXIO, errno.ENODEV, errno.EIO}:
        return PortError(TroubleKind.NO_PORT, f"{port}: the device does not answer: is it plugged in?")
    if _is_no_terminal(port):
        return PortError(TroubleKind.NOT_OPENED, f"{port}: not a serial port")
    line = (
        f"{config.baudrate} baud, {config.bytesize} bits, parity {config.parity}, {config.stopbits} stop bits"
    )
    return PortError(TroubleKind.NOT_OPENED, f"{port}: cannot be set to {line}: {error}")


def _present() -> str:
    """Which ports there are, to be told when the wanted one is not."""
    found = sorted(BY_ID.glob("*")) or sorted(
        path for pattern in ("ttyUSB*", "ttyACM*") for path in Path("/dev").glob(pattern)
    )
    if not found:
        return "is it plugged in? There is no USB serial port at all"
    return f"is it plugged in? There are: {', '.join(map(str, found))}"


def missing_permission(port: str, code: int) -> str:
    """Which group is missing, or what else, and what to do about it."""
    if code == errno.EPERM:
        return "the system forbids it, whoever asks: under systemd, `DeviceAllow=` must name it"
    try:
        state = Path(port).stat()
        group = grp.getgrgid(state.st_gid)
    except (OSError, KeyError):
        return "ask for access to the device"
    if state.st_gid in {os.getegid(), *os.getgroups()}:
        return f"its group {group.gr_name}, which this program is in, may not read and write it ({stat.filemode(state.st_mode)})"
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:  # a container's user often has no name
        return (
            f"it belongs to the group {group.gr_name}, which this program must be in (it runs as the user {os.geteuid()}, "
            f"who has no name here): give a container --group-add {group.gr_gid}"
        )
    if user.pw_name in group.gr_mem or user.pw_gid == state.st_gid:
        return (
            f"the user {user.pw_name} is in its group {group.gr_name} by now, but this program was started before: "
            "log in again, or restart the service"
        )
    return (
        f"it belongs to the group {group.gr_name}, which the user {user.pw_name} must be in: "
        f"sudo usermod -aG {group.gr_name} {user.pw_name}, then log in again or restart the service"
    )


def _is_no_terminal(port: str) -> bool:
    try:
        descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return True  # a directory, for example
    try:
        return not os.isatty(descriptor)
    finally:
        os.close(descriptor)


def _named(port: str) -> str:
    """Who holds a port."""
    others = holders(port)
    if others:
        return ", ".join(others)
    if _descriptors_on(os.path.realpath(port), Path(f"/proc/{os.getpid()}/fd")):
        return "this one itself: is the port in two sources?"
    return f"one of another user's, which only root may see: sudo fuser -v {port}"


def shared_with(port: str) -> list[str]:
    """Which other programs have a port open, too. Of a pseudo-terminal, one always has: whoever plays the device."""
    try:
        state = Path(port).stat()
    except OSError:
        return []
    return [] if os.major(state.st_rdev) in _PTS_MAJORS else holders(port)


def holders(port: str) -> list[str]:
    """Which other programs have a device open, as `name (pid 123)`; those of other users only root may see."""
    device = os.path.realpath(port)
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        if _descriptors_on(device, process / "fd"):
            found.append(f"{_command(process)} (pid {process.name})")
    return found


def _descriptors_on(device: str, folder: Path) -> bool:
    try:
        return any(_target(descriptor) == device for descriptor in folder.iterdir())
    except OSError:
        return False  # ended meanwhile, or another user's


def _target(descriptor: Path) -> str | None:
    try:
        return str(descriptor.readlink())
    except OSError:
        return None


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program"
