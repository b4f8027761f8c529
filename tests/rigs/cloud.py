"""What arrived, read from a receiver's database, SQLite or PostgreSQL, without any of the program's own code."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

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


def fetch(database: Path | str, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query.

    Args:
        database: A file of SQLite, `sqlite:///file`, or a PostgreSQL address.
        query: In words that both understand.
    """
    if isinstance(database, str) and database.startswith("postgresql:"):
        with psycopg.connect(database, options="-c search_path=outstation -c TimeZone=UTC") as server:
            return server.execute(query.encode()).fetchall()
    path = str(database).removeprefix("sqlite:///")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(query).fetchall()


def rows(database: Path | str) -> list[Row]:
    """Everything that arrived, in that order."""
    found = fetch(
        database, "SELECT device_id, store_id, seq, source, document FROM readings ORDER BY arrival"
    )
    return [
        Row(*keys, document if isinstance(document, dict) else json.loads(document))
        for *keys, document in found
    ]


def count(database: Path | str) -> int:
    """How many readings arrived; 0 while there is no database."""
    try:
        return int(fetch(database, "SELECT count(*) FROM readings")[0][0])
    except (sqlite3.OperationalError, psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return 0


def counters(arrived: Iterable[Row]) -> dict[str, list[int]]:
    """The counter `n` of each sensor's readings, in the order in which the device took them."""
    by_sensor: dict[str, list[int]] = defaultdict(list)
    for row in sorted(arrived, key=lambda row: row.seq):
        by_sensor[row.sensor].append(row.document["values"]["n"])
    return dict(by_sensor)


def disordered(arrived: Iterable[Row]) -> list[Row]:
    """Rows of a source that go on with neither its live readings nor its backlog, nor, if they are alarms, with its alarms.

    Live readings and the backlog each come in order, so that the numbers of a source are two ascending sequences; alarms are one.
    """
    newest: dict[tuple[object, ...], list[int]] = {}
    late = []
    for row in arrived:
        lane = row.document.get("lane")
        key = row.device_id, row.store_id, row.source, lane
        piles = newest.setdefault(key, [0] if lane == "alarm" else [0, 0])
        piles.sort()
        place = max((at for at, pile in enumerate(piles) if pile < row.seq), default=None)
        if place is None:
            late.append(row)
        else:
            piles[place] = row.seq
    return late
