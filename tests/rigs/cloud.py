"""What arrived, read from a receiver's SQLite database without any of the program's own code."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One reading, in the order of arrival."""

    device_id: str
    store_id: str
    seq: int
    source: str
    document: dict[str, Any]

    @property
    def sensor(self) -> str:
        """Which sensor said it: the last level of the topic, or the source."""
        topic = self.document.get("tags", {}).get("topic")
        return topic.rpartition("/")[2] if topic else self.source


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)


def rows(database: Path) -> list[Row]:
    """Everything that arrived, in that order."""
    with closing(_connect(database)) as connection:
        found = connection.execute(
            "SELECT device_id, store_id, seq, source, document FROM readings ORDER BY arrival"
        )
        return [Row(*keys, json.loads(document)) for *keys, document in found]


def count(database: Path) -> int:
    """How many readings arrived; 0 while there is no database."""
    try:
        with closing(_connect(database)) as connection:
            return int(connection.execute("SELECT count(*) FROM readings").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def counters(arrived: Iterable[Row]) -> dict[str, list[int]]:
    """The counter `n` of each sensor's readings, in the order of arrival."""
    by_sensor: dict[str, list[int]] = defaultdict(list)
    for row in arrived:
        by_sensor[row.sensor].append(row.document["values"]["n"])
    return dict(by_sensor)


def disordered(arrived: Iterable[Row]) -> list[Row]:
    """Rows that came after a row of the same source with a higher sequence number."""
    newest: dict[tuple[str, str, str], int] = {}
    late = []
    for row in arrived:
        key = row.device_id, row.store_id, row.source
        if row.seq < newest.get(key, 0):
            late.append(row)
        newest[key] = max(row.seq, newest.get(key, 0))
    return late
