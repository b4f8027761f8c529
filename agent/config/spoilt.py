"""What can still be told of a configuration that has errors: where the agent that runs with it listens."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_SECTION = re.compile(r"\s*\[(?P<name>\w+)\]\s*(#.*)?")
_TEXT = re.compile(r"""\s*(?P<key>\w+)\s*=\s*(?P<quote>["'])(?P<text>[^"']*)(?P=quote)\s*(#.*)?""")
SOCKET_NAME = "agent.sock"


def socket_named_in(path: Path) -> Path | None:
    """The socket that a file names, whatever else is wrong with it; None when it cannot be told."""
    try:
        text = path.read_text("utf-8-sig", "replace")
    except OSError:
        return None
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError):
        document = _sections(text)
    folder = path.parent.absolute()
    socket, buffer = _text(document, "agent", "socket"), _text(document, "buffer", "path")
    if socket is not None:
        return folder / socket
    return None if buffer is None else folder / buffer / SOCKET_NAME


def _text(document: dict[str, Any], section: str, key: str) -> str | None:
    table = document.get(section)
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) and "\0" not in value else None


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
