"""What can go wrong at a serial port, by kind: what messages and counters call it.

What is wrong inside the stream of bytes has the names of `drivers.framing.ErrorKind`: noise, half_frame, too_long,
wrong_crc, cut_off.
"""

from __future__ import annotations

from enum import StrEnum


class TroubleKind(StrEnum):
    """What went wrong with a port, its line or its device."""

    NO_PORT = "no_port"
    """There is no such port, or no such USB device."""
    NO_PERMISSION = "no_permission"
    BUSY = "busy"
    """Another program holds the port."""
    SHARED = "shared"
    """Another program has the port open as well, and may take some of the bytes."""
    NOT_OPENED = "not_opened"
    """It cannot be opened for another reason."""
    STUCK = "stuck"
    """The adapter does not open, close or take what is sent."""
    LOST = "lost"
    """The connection was lost: unplugged, or closed by the other side."""
    SILENT = "silent"
    """Nothing, or no good frame, for longer than expected."""
    MISSING = "missing"
    """Readings that the device has counted and that did not come, not even when asked for."""
    NO_ANSWER = "no_answer"
    """Requests in a row without an answer in time, all repetitions included."""
    FLOOD = "flood"
    """The device sent faster than its frames could be taken, and the port was not read for a while."""
    NOT_KEPT = "not_kept"
    """What was no frame, and was only counted, since there was so much of it."""
    WRONG_BAUDRATE = "wrong_baudrate"
    """Nothing but garbage since the port was opened."""
    LINE_FRAMING = "line_framing"
    """A byte without its stop bit, as the UART counts them: a wrong baud rate, or noise."""
    LINE_PARITY = "line_parity"
    """A byte with a wrong parity bit, likewise."""
    LINE_OVERRUN = "line_overrun"
    """A byte lost because the UART or the adapter was not read in time, likewise."""
    LINE_BREAK = "line_break"
    """The line was low for longer than a byte, likewise."""


class PortError(ConnectionError):
    """A port that cannot be used (any more)."""

    def __init__(self, kind: TroubleKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
