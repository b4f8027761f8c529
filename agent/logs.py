"""Logging: lines for people on a terminal, `key=value` fields under systemd.

Under systemd (JOURNAL_STREAM is set) each line begins with its priority as sd-daemon(3) has it,
and carries logger, message and fields in logfmt, so that journalctl filters by priority and any
log shipper can take it apart.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

_OURS = ("agent", "buffer", "drivers")
"""Our loggers are named by module, so they lie under the packages."""

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_COLOUR = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[1;31m"}
_RESET = "\x1b[0m"


def _quoted(value: object) -> str:
    text = str(value)
    if text and not any(c.isspace() or c in '"=' for c in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class TerminalFormatter(logging.Formatter):
    """`07:31:02 WARNING  message`, coloured where the stream is a terminal."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(message)s", "%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback where there is one."""
        text = super().format(record)
        colour = _COLOUR.get(record.levelno) if self._colour else None
        return f"{colour}{text}{_RESET}" if colour else text


class JournalFormatter(logging.Formatter):
    """`<4>logger=source message="..." key=value`: one line a record, whatever it holds."""

    def format(self, record: logging.LogRecord) -> str:
        """One line in logfmt behind its priority."""
        fields = {"logger": record.name, "message": record.getMessage()}
        fields.update(getattr(record, "fields", {}))
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        priority = _PRIORITY.get(record.levelno, 6)
        return f"<{priority}>" + " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send this program's log to a stream (standard error), in the form its reader can use."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    structured = "JOURNAL_STREAM" in os.environ
    formatter = JournalFormatter() if structured else TerminalFormatter(colour=stream.isatty())
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    set_level(level)


def set_level(level: str) -> None:
    """How much of our log is kept, from now on."""
    for package in _OURS:
        logging.getLogger(package).setLevel(level.upper())
