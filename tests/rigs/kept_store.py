"""Writes a small store with a bit of everything, and what is in it, for `tests/buffer/stores`.

    python -m tests.rigs.kept_store tests/buffer/stores/<version>

The process ends without closing it, so the store has sealed files, an active one and a journal, as a
power cut leaves them. Needs a new one with each version of the format; those that are there stay.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from buffer import BufferDB


def reading(n: int) -> dict[str, Any]:
    """The n-th reading; each seventh is an alarm."""
    document = {
        "source": f"s{n % 3}",
        "t": 1_790_000_000 + 10 * n,
        "values": {"temperature": n / 8, "ok": n % 2 == 0},
        "units": {"temperature": "Cel"},
    }
    return {**document, "lane": "alarm"} if n % 7 == 0 else document


def fill(db: BufferDB, first: int, n: int) -> None:
    """Some more readings."""
    db.insert_json([json.dumps(reading(first + at), separators=(",", ":")).encode() for at in range(n)])
    db.flush()


def acknowledge(consumer: Any, n: int, **how: Any) -> list[int]:
    """Take and acknowledge a batch; gives its ids."""
    batch = consumer.take(n, **how)
    consumer.ack(batch)
    return [record.seq for record in batch.records]


def write(place: Path) -> dict[str, Any]:
    """Write a store; gives what is in it."""
    options = {"segment_bytes": 4096, "device_id": "greenhouse-3", "machine_id": "m"}
    db = BufferDB(place, threaded=False, **options)
    cloud = db.consumer("cloud")
    fill(db, 1, 10)
    had = {"cloud": acknowledge(cloud, 6)}
    for first in range(11, 51, 5):
        fill(db, first, 5)
    late = db.consumer("late")
    try:
        had["late"] = acknowledge(late, 3, lane="alarm")
    except TypeError:  # lanes came later
        had["late"] = acknowledge(late, 3)
    db.table("readings").update({"edited": True}, doc_ids=[20, 33])
    db.table("readings").remove(doc_ids=[8, 9, 40])
    db.delete(12)
    db.table("dead_letters").insert({"batch": [1, 2], "why": "too large"})
    db.table("café/notes").insert_multiple([{"n": 1}, {"n": 2}])
    db.small_table("device_state").put("soil", {"seq": 17, "é": None})
    db.flush()
    db.maintain()
    fill(db, 51, 4)
    tables = {name: {each.doc_id: dict(each) for each in db.table(name)} for name in sorted(db.tables())}
    return {
        "store_id": db.store_id,
        "tables": tables,
        "had": had,
        "device_state": dict(db.small_table("device_state").items()),
        "lost": db.ledger.lost() if hasattr(db.ledger, "lost") else {},
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    (folder / "content.json").write_text(json.dumps(write(folder / "store"), ensure_ascii=False) + "\n")
    os._exit(0)
