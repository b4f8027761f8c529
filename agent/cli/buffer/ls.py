"""`outstation buffer ls`: the segments, and what was set aside."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.cli.buffer.words import short_time
from agent.cli.exit_status import DONE
from agent.cli.progress import Progress
from agent.status.text import counted, size
from buffer.export import time_text
from buffer.inspection import Inspection
from buffer.naming import READINGS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from buffer.inspection import QuarantinedFile, SeenTable
    from buffer.segment import Segment


def run(arguments: argparse.Namespace) -> int:
    """List."""
    inspection = Inspection(arguments.path)
    with Progress("reading") as progress:
        tables = {name: list(_rows(inspection, name, progress)) for name in inspection.tables()}
    quarantine = inspection.quarantine()
    if arguments.json:
        report = {
            "path": inspection.path,
            "in_use": inspection.in_use,
            "segments": [row for rows in tables.values() for row in rows],
            "quarantine": [_quarantined(file) for file in quarantine],
        }
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(_lines(inspection, tables, quarantine)))
    return DONE


def _rows(inspection: Inspection, name: str, progress: Progress) -> Iterator[dict[str, Any]]:
    table = inspection.readings if name == READINGS else inspection.table(name)
    segments = [segment for segment in table.segments if segment.count]
    sizes = [table.size_of(segment) for segment in segments]
    for at, segment in enumerate(segments):
        table.sum_up(segment)
        progress(sum(sizes[: at + 1]), sum(sizes))
        yield _row(inspection, table, segment, sizes[at])


def _row(inspection: Inspection, table: SeenTable, segment: Segment, size_bytes: int) -> dict[str, Any]:
    summary = segment.summary
    mark = inspection.lowest_mark
    delivered = "all" if segment.last <= mark else "part" if segment.base <= mark else "none"
    return {
        "table": table.table,
        "file": segment.name,
        "first": segment.base,
        "last": segment.last,
        "count": segment.count - table.deleted.count_within(segment.base, segment.last),
        "size_bytes": size_bytes,
        "measured_from": time_text(summary.low) if summary else None,
        "measured_to": time_text(summary.high) if summary else None,
        "sealed": segment.sealed is not None,
        "delivered": delivered if table.table == READINGS else None,
    }


def _quarantined(file: QuarantinedFile) -> dict[str, Any]:
    modified = datetime.fromtimestamp(file.modified_s, UTC)
    return {"file": file.name, "size_bytes": file.size_bytes, "modified": time_text(modified.timestamp())}


def _lines(
    inspection: Inspection, tables: dict[str, list[dict[str, Any]]], quarantine: list[QuarantinedFile]
) -> Iterator[str]:
    used = "  (in use)" if inspection.in_use else ""
    yield f"{inspection.path}{used}"
    for name, rows in tables.items():
        yield ""
        total = sum(row["size_bytes"] for row in rows)
        count = counted(sum(row["count"] for row in rows), "record")
        yield f"{name}: {count} in {counted(len(rows), 'segment')}, {size(total)}"
        if rows:
            yield f"  {'first':>13} {'last':>13} {'count':>9} {'size':>9}  {'measured from':<20}  {'to':<20}  state"
        for row in rows:
            yield (
                f"  {row['first']:>13,} {row['last']:>13,} {row['count']:>9,} {size(row['size_bytes']):>9}"
                f"  {short_time(row['measured_from']):<20}  {short_time(row['measured_to']):<20}  {_state(row, inspection)}"
            )
    if quarantine:
        yield ""
        total = sum(file.size_bytes for file in quarantine)
        yield f"quarantine: {counted(len(quarantine), 'damaged file')}, {size(total)}, kept for people to look at"
        for file in quarantine:
            yield f"  {size(file.size_bytes):>9}  {short_time(time_text(file.modified_s)):<20}  {file.name}"


def _state(row: dict[str, Any], inspection: Inspection) -> str:
    words = {"all": "delivered", "part": "partly delivered", "none": "waiting", None: ""}
    kind = "sealed" if row["sealed"] else "being written" if inspection.in_use else "not closed"
    return ", ".join(filter(None, [kind, words[row["delivered"]]]))
