"""Findings as TOML: ready to be pasted, each with what it rests on as a comment."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from drivers.discovery import Finding

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ID_MAX = 60


def toml(findings: Iterable[Finding], taken: Sequence[str] = ()) -> str:
    """The sources of all findings, with ids of their own.

    Args:
        findings: What was found; those without a source become comments.
        taken: Ids that are used already.
    """
    used = set(taken)
    parts = []
    for finding in findings:
        lines = [f"# {_one_line(text)}" for text in (finding.what, *finding.notes)]
        if finding.source is not None:
            source = {**finding.source, "id": _free(str(finding.source["id"]), used)}
            lines += ["[[source]]", table(source).rstrip("\n")]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def table(keys: Mapping[str, Any]) -> str:
    """The lines of a table, without its heading."""
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in keys.items())


def _free(wanted: str, used: set[str]) -> str:
    """An id that fits, and that nobody has."""
    base = re.sub(r"[^A-Za-z0-9_.-]", "-", wanted).lstrip("_.-")[:_ID_MAX] or "source"
    name, number = base, 1
    while name in used:
        number += 1
        name = f"{base}-{number}"
    used.add(name)
    return name


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else "?" for c in text).split())


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    """A JSON string is a TOML string, but for the one control character that JSON lets stand."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
