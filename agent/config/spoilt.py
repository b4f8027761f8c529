"""What can still be told of a configuration that has errors: where the agent that runs with it listens."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

_SECTION = re.compile(r"\s*\[(?P<name>\w+)\]\s*(#.*)?")
_TEXT = re.compile(r"""\s*(?P<key>\w+)\s*=\s*(?P<quote>["'])(?P<text>[^"']*)(?P=quote)\s*(#.*)?""")
SOCKET_NAME = "agent.sock"
BUFFER_PATH = Path("/var/lib/outstation/buffer")
"""Where the buffer is when the file does not say it."""


def socket_named_in(path: Path) -> Path | None:
    """The socket that a file names, whatever else is wrong with it; None when it cannot be told.

    One that names no buffer means the usual one.
    """
    try:
        text = path.read_text("utf-8-sig", "replace")
    except OSError:
        return None
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError):
        document = _sections(text)
    folder = path.parent.absolute()
    socket, buffer = _value(document, "agent", "socket"), _value(document, "buffer", "path")
    if _is_path(socket):
        return folder / str(socket)
    if buffer is None:
        return BUFFER_PATH / SOCKET_NAME
    return folder / str(buffer) / SOCKET_NAME if _is_path(buffer) else None


def _value(document: dict[str, Any], section: str, key: str) -> object:
    table = document.get(section)
    return table.get(key) if isinstance(table, dict) else None


def _is_path(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _sections(text: str) -> dict[str, Any]:
    """The texts in each section, line by line: of a file that is no TOML any more."""
    document: dict[str, Any] = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        if (heading := _SECTION.fullmatch(line)) is not None:
            section = document.setdefault(heading["name"], {})
        elif (entry := _TEXT.fullmatch(line)) is not None:
            section[entry["key"]] = entry["text"]
        elif line.lstrip().startswith("["):
            section = {}
    return document
