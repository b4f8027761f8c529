"""Tells systemd how the agent does, where systemd has started it: the protocol of sd_notify(3).

A datagram to the socket that NOTIFY_SOCKET names holds `KEY=VALUE` lines. READY=1 is said once the agent collects, or once it
is known why it cannot yet: a card that does not open is no reason to be killed and started again. WATCHDOG=1 is said while there is
progress, not while there is a process (`agent.forward`). STATUS is the first line of `outstation status`.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_log = logging.getLogger(__name__)

_STATUS_CHARS_MAX = 300


class ServiceManager:
    """systemd, or nobody.

    Args:
        address: Of its socket; a leading `@` stands for Linux's abstract namespace. None when nobody listens.
        watchdog_s: It kills who says nothing for so many seconds; None when it does not.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """The one that this process was started by.

        What says so is taken out of the environment: programs that we start are not to talk to it in our name, as
        timedatectl does when it fails.
        """
        address = environment.pop("NOTIFY_SOCKET", None)
        if not address or address[0] not in "/@":
            return cls()
        microseconds = environment.pop("WATCHDOG_USEC", "")
        meant = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = meant and microseconds.isascii() and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, int(microseconds) / 1e6 if watched else None)

    @property
    def listens(self) -> bool:
        """Whether there is anybody to tell."""
        return self._address is not None

    def ready(self) -> None:
        """The agent does its work."""
        self._tell("READY=1")

    def not_yet(self, seconds: float) -> None:
        """It starts still, and wants so many seconds more from now on."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def moves(self) -> None:
        """It makes progress."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """It ends."""
        self._tell("STOPPING=1")

    def says(self, line: str) -> None:
        """What `systemctl status` shows."""
        self._tell(f"STATUS={' '.join(line.split())[:_STATUS_CHARS_MAX]}")

    def _tell(self, assignment: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # noqa: FBT003 (positional only)
            try:
                sender.sendto(assignment.encode(), address)
            except OSError as error:
                # A manager that is not there at the moment loses a message; the next one finds it.
                _log.debug("systemd could not be told %s: %s", assignment, error)
