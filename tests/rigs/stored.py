"""What is on the device's disk, read with nothing but `json`: every segment is a plain TinyDB file after each commit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def documents(buffer: Path, table: str = "readings") -> dict[int, dict[str, Any]]:
    """The records of a table by id. The agent must not be running."""
    found: dict[int, dict[str, Any]] = {}
    for segment in sorted((buffer / table).glob("[as].*.json")):
        for key, document in json.loads(segment.read_bytes())[table].items():
            assert int(key) not in found, f"record {key} is in two segments"
            found[int(key)] = document
    return dict(sorted(found.items()))
