"""What can still be told of a configuration that has errors: where the agent that runs with it listens."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from agent.config.files import files_of

_SECTION = re.compile(r"\s*\[(?P<name>\w+)\]\s*(#.*)?")
_TEXT = re.compile(r"""\s*(?P<key>\w+)\s*=\s*(?P<quote>["'])(?P<text>[^"']*)(?P=quote)\s*(#.*)?""")
SOCKET_NAME = "agent.sock"
BUFFER_PATH = Path("/var/lib/outstation/buffer")
"""Where the buffer is when the file does not say it."""


def socket_named_in(path: Path) -> Path | None:
    """The socket that a file, or one in its `conf.d`, names, whatever else is wrong with it; None when it cannot be told.

    One that names no buffer means the usual one.
    """
    try:
        documents = [_document(path), *(_document(file) for file in files_of(path)[1:])]
    except OSError:
        return None
    folder = path.parent.absolute()
    socket, buffer = _value(documents, "agent", "socket"), _value(documents, "buffer", "path")
    if _is_path(socket):
        return folder / str(socket)
    if buffer is None:
        return BUFFER_PATH / SOCKET_NAME
    return folder / str(buffer) / SOCKET_NAME if _is_path(buffer) else None


def _document(path: Path) -> dict[str, Any]:
    text = path.read_text("utf-8-sig", "replace")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return _sections(text)


def _value(documents: list[dict[str, Any]], section: str, key: str) -> object:
    for document in documents:
        table = document.get(section)
        if isinstance(table, dict) and key in table:
            return table[key]
    return None


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
