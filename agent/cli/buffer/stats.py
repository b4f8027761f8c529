"""`outstation buffer stats`: how much there is, since when, how fast it comes, and who still waits for it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.cli.buffer.words import short_time
from agent.cli.exit_status import DONE
from agent.cli.progress import Progress
from agent.status.text import counted, size
from buffer.export import time_text
from buffer.inspection import Inspection
from buffer.naming import READINGS
from buffer.wear import WEAR, stored_wear

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from buffer.inspection import SeenTable

_LATELY_SEGMENTS = 2
"""The rate of late is that of the last two."""


def run(arguments: argparse.Namespace) -> int:
    """Count."""
    inspection = Inspection(arguments.path)
    with Progress("reading") as progress:
        report = _report(inspection, progress)
    print(json.dumps(report, indent=2) if arguments.json else "\n".join(_lines(report)))
    return DONE


def _report(inspection: Inspection, progress: Progress) -> dict[str, Any]:
    quarantine = inspection.quarantine()
    ledger = [dict(row) for _, row in inspection.small_table("ledger").items()]
    return {
        "path": inspection.path,
        "in_use": inspection.in_use,
        "device_id": inspection.epochs[-1].device_id if inspection.epochs else None,
        "store_id": inspection.epochs[-1].store_id if inspection.epochs else None,
        "tables": [_table(inspection, name, progress) for name in inspection.tables()],
        "consumers": [
            {
                "name": consumer.name,
                "acknowledged_up_to": consumer.mark,
                "backlog": inspection.backlog(consumer),
            }
            for consumer in inspection.consumers
        ],
        "wear": asdict(stored_wear(inspection.small_table(WEAR))),
        "lost": inspection.told,
        "ledger": ledger,
        "quarantine": {"files": len(quarantine), "size_bytes": sum(file.size_bytes for file in quarantine)},
    }


def _table(inspection: Inspection, name: str, progress: Progress) -> dict[str, Any]:
    table = inspection.readings if name == READINGS else inspection.table(name)
    segments = [segment for segment in table.segments if segment.count]
    sizes = [table.size_of(segment) for segment in segments]
    for at, segment in enumerate(segments):
        if name == READINGS:
            table.sum_up(segment)
        progress(sum(sizes[: at + 1]), sum(sizes))
    count, used = table.durable_total(), sum(sizes)
    low, high = _span(table, 0)
    return {
        "table": name,
        "records": count,
        "segments": len(segments),
        "size_bytes": used,
        "bytes_a_record": round(used / count, 1) if count else None,
        "measured_from": time_text(low),
        "measured_to": time_text(high),
        "rate_hz": _rate(table, 0),
        "rate_lately_hz": _rate(table, -_LATELY_SEGMENTS),
    }


def _span(table: SeenTable, since: int) -> tuple[float | None, float | None]:
    """The first and the last time of measurement in the segments from one on."""
    summaries = [segment.summary for segment in table.segments if segment.count][since:]
    lows = [each.low for each in summaries if each and time_text(each.low)]
    highs = [each.high for each in summaries if each and time_text(each.high)]
    return min((low for low in lows if low is not None), default=None), max(
        (high for high in highs if high is not None), default=None
    )


def _rate(table: SeenTable, since: int) -> float | None:
    """Records a second of measured time in the segments from one on; None while there is no telling."""
    low, high = _span(table, since)
    count = sum([segment.count for segment in table.segments if segment.count][since:])
    if low is None or high is None or high <= low or count < 2:  # noqa: PLR2004 (two ends make a span)
        return None
    return (count - 1) / (high - low)


def _lines(report: dict[str, Any]) -> Iterator[str]:
    used = ", in use" if report["in_use"] else ""
    yield f"buffer        {report['path']}{used}"
    if report["store_id"]:
        yield f"identity      device {report['device_id'] or '(unnamed)'}, store {report['store_id']}"
    for table in report["tables"]:
        each = f", {table['bytes_a_record']:.0f} bytes each" if table["records"] else ""
        yield (
            f"{table['table']:<14}{counted(table['records'], 'record')} in"
            f" {counted(table['segments'], 'segment')}, {size(table['size_bytes'])}{each}"
        )
        if table["measured_from"]:
            first, last = short_time(table["measured_from"]), short_time(table["measured_to"])
            yield f"              measured from {first} to {last}"
        if table["rate_hz"] is not None:
            yield f"              {table['rate_hz']:.3g} a second, lately {table['rate_lately_hz'] or 0:.3g}"
    for consumer in report["consumers"]:
        yield (
            f"consumer      {consumer['name']}: {consumer['backlog']:,} waiting, everything up to id"
            f" {consumer['acknowledged_up_to']:,} acknowledged"
        )
    wear = report["wear"]
    if wear["bytes_total"]:
        per_day = wear["bytes_per_day"]
        daily = f", {size(round(per_day))} a day while it is open" if per_day else ""
        yield f"wear          {size(wear['bytes_total'])} written to the disk since it was made{daily}"
    yield from _loss_lines(report)
    quarantine = report["quarantine"]
    if quarantine["files"]:
        yield f"quarantine    {counted(quarantine['files'], 'damaged file')}, {size(quarantine['size_bytes'])}"


def _loss_lines(report: dict[str, Any]) -> Iterator[str]:
    if not report["ledger"] and not report["lost"]:
        yield "ledger        nothing was lost"
        return
    yield f"ledger        {counted(report['lost'], 'record')} lost"
    for entry in report["ledger"]:
        lane = f" of the lane {entry['lane']}" if entry.get("lane") else ""
        yield (
            f"              {entry['table']} {entry['first']:,} to {entry['last']:,}:"
            f" {entry['count']:,}{lane}, {entry['why']}"
        )
