"""What InfluxDB reads from lines, written from its syntax alone."""

from __future__ import annotations

import re
from typing import Any


def points(payload: bytes) -> list[tuple[str, dict[str, str], dict[str, Any], int]]:
    """Measurement, tags, fields and timestamp of each line."""
    found = []
    for line in _lines(payload.decode()):
        head, _, rest = _cut(line, " ")
        fields, _, timestamp = _cut(rest, " ", quoted=True)
        measurement, *pairs = _split(head, ",")
        tags = dict(_pair(pair) for pair in pairs)
        assert len(tags) == len(pairs), "a tag twice"
        values = {name: _value(value) for name, value in map(_pair, _split(fields, ",", quoted=True))}
        own = {name: _plain(value) for name, value in tags.items()}
        found.append((_plain(measurement), own, values, int(timestamp)))
    return found


def _lines(text: str) -> list[str]:
    """One for each point. A text may hold line breaks: such a line is not over before its quotes are closed."""
    found: list[str] = []
    for part in text.split("\n"):
        if found and _is_open(found[-1]):
            found[-1] += f"\n{part}"
        else:
            found.append(part)
    return found


def _is_open(line: str) -> bool:
    """Whether it ends within a quoted value; a quote in the name of a field is a character like others."""
    escaped = inside = False
    before = ""
    for char in _cut(line, " ")[2]:
        if char == '"' and not escaped and (inside or before == "="):
            inside = not inside
        before = "" if escaped else char
        escaped = char == "\\" and not escaped
    return inside


def _cut(text: str, at: str, *, quoted: bool = False) -> tuple[str, str, str]:
    """At the first character that is not escaped and, in fields, not within a quoted value."""
    escaped = inside = False
    before = ""
    for place, char in enumerate(text):
        if char == at and not escaped and not inside:
            return text[:place], char, text[place + 1 :]
        if quoted and char == '"' and not escaped and (inside or (before == "=")):
            inside = not inside
        before = "" if escaped else char
        escaped = char == "\\" and not escaped
    return text, "", ""


def _split(text: str, at: str, *, quoted: bool = False) -> list[str]:
    part, found, rest = _cut(text, at, quoted=quoted)
    return [part, *(_split(rest, at, quoted=quoted) if found else [])]


def _pair(text: str) -> tuple[str, str]:
    name, found, value = _cut(text, "=")
    assert found
    return _plain(name), value


def _plain(text: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", text)


def _value(text: str) -> Any:
    if text.startswith('"'):
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    return text == "t" if text in {"t", "f"} else float(text)
