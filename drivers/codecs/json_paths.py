"""Paths into JSON documents: `ENERGY.Power`, `sensors[0].t`, `payload["odd.key"]`. Pure.

A path is keys and places, one after the other. A key of letters, digits, `_`, `-`, `:`, `@` and `/` is written as it is, with a dot
between two; any other one in brackets and quotes, as a JSON string; a place in an array in brackets, from 0.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic_core import from_json

Path = tuple[str | int, ...]
"""Keys and places."""

STEPS_MAX: Final = 16
MISSING: Final = object()
"""What is where nothing is."""
_STEP: Final = re.compile(
    r"""(?P<key>[\w:@/-]+)|\[(?P<place>[0-9]{1,6})\]|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]"""
)


def parse_path(text: str) -> Path:
    """The keys and places of a path.

    Raises:
        ValueError: It is none; the message shows where it goes wrong.
    """
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        if steps and text[at] == ".":
            at += 1
        elif steps and text[at] != "[":
            break
        step = _STEP.match(text, at)
        if step is None or (step["key"] is None and text[at - 1 : at] == "."):
            break
        try:
            steps.append(_said(step))
        except ValueError:  # quotes with what no JSON string may hold
            break
        at = step.end()
    if at < len(text) or not steps or text.endswith("."):
        raise ValueError(
            f"{text!r} is no path into JSON from {text[at:]!r} on; write it like ENERGY.Power, sensors[0].t or"
            ' payload["odd.key"]'
        )
    if len(steps) > STEPS_MAX:
        raise ValueError(f"{text!r}: a path may have {STEPS_MAX} steps at most")
    return tuple(steps)


def _said(step: re.Match[str]) -> str | int:
    if step["place"] is not None:
        return int(step["place"])
    if step["quoted"] is not None:
        return str(from_json(step["quoted"]))
    return step["key"]


def find(document: Any, path: Path) -> Any:
    """What is at a path; MISSING when nothing is."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(document, dict) or step not in document:
                return MISSING
        elif not isinstance(document, list) or step >= len(document):
            return MISSING
        document = document[step]
    return document
