"""`outstation buffer verify`: what is damaged, what it costs, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.cli.buffer.words import short_time
from agent.cli.exit_status import DONE, FAILED
from agent.cli.progress import Progress
from agent.status.text import counted, size
from buffer.export import time_text
from buffer.inspection import Inspection
from buffer.verification import verify

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from buffer.verification import Damage, Lost, Verdict


def run(arguments: argparse.Namespace) -> int:
    """Verify; 1 when something is damaged."""
    inspection = Inspection(arguments.path)
    with Progress("checking") as progress:
        verdict = verify(inspection, progress)
        elapsed_s = progress.elapsed_s
    if arguments.json:
        quarantine = [file.name for file in inspection.quarantine()]
        print(json.dumps(as_json(verdict) | {"seconds": elapsed_s, "quarantine": quarantine}, indent=2))
    else:
        print("\n".join(lines(verdict)))
        print(_speed(verdict, elapsed_s))
        if not verdict.sound:
            print("what to do: " + " ".join(_remedies(verdict, inspection)))
        elif kept := inspection.quarantine():
            print(
                f"in the quarantine from earlier: {counted(len(kept), 'file')}; `outstation buffer ls` lists them"
            )
    return DONE if verdict.sound else FAILED


def as_json(verdict: Verdict) -> dict[str, Any]:
    """What was found, for programs."""
    return {"sound": verdict.sound, **asdict(verdict)}


def lines(verdict: Verdict) -> Iterator[str]:
    """What was found, for people."""
    for table in verdict.tables:
        damaged = f", {len(table.damages)} damaged" if table.damages else ""
        yield (
            f"{table.table}: {counted(table.records, 'record')} in {counted(table.segments, 'segment')},"
            f" {size(table.size_bytes)}{damaged or ', sound'}"
        )
        for damage in table.damages:
            yield from _damage(damage)
        for note in table.notes:
            yield f"  note: {note}"
    if verdict.missing:
        yield "readings: files are missing"
    for lost in verdict.missing:
        yield f"    lost: {_lost(lost)}"
    for problem in verdict.state:
        yield f".state: {problem}"


def _damage(damage: Damage) -> Iterator[str]:
    yield f"  {damage.file} {damage.what}; {counted(damage.intact, 'record')} in it readable"
    for lost in damage.lost:
        yield f"    lost: {_lost(lost)}"
    if not damage.lost:
        yield "    nothing is lost by it"


def _lost(lost: Lost) -> str:
    ids = f"{lost.first:,}" if lost.first == lost.last else f"{lost.first:,} to {lost.last:,}"
    edges = [short_time(time_text(lost.after_s)), short_time(time_text(lost.before_s))]
    words = zip(("after", "before"), edges, strict=True)
    measured = " and ".join(f"{word} {time}" for word, time in words if time)
    if not lost.undelivered:
        delivered = "all delivered before"
    elif lost.undelivered == lost.count:
        delivered = "not delivered yet"
    else:
        delivered = f"{lost.undelivered:,} of them not delivered yet"
    return (
        f"{'at most ' if lost.at_most else ''}{lost.count:,} with ids {ids}"
        + (f", measured {measured}" if measured else "")
        + f"; {delivered}"
    )


def _speed(verdict: Verdict, elapsed_s: float) -> str:
    rate = verdict.size_bytes / elapsed_s if elapsed_s else 0.0
    records = verdict.records / elapsed_s if elapsed_s else 0.0
    return f"checked {size(verdict.size_bytes)} in {elapsed_s:.1f} s ({size(round(rate))}/s, {records:,.0f} records/s)"


def _remedies(verdict: Verdict, inspection: Inspection) -> Iterator[str]:
    if verdict.missing:
        yield (
            "put the missing files back before the agent starts, if there are copies of them: its next start enters"
            " them in the loss ledger."
        )
    if verdict.damages or verdict.state:
        stop = "stop the agent, then " if inspection.in_use else ""
        yield (
            f"{stop}run `outstation buffer repair`: it keeps every readable record, and the damaged files in"
            " the quarantine. A running agent does the same with a damaged segment when it comes to read it."
            " Damage without a power cut before it says that the card is wearing out: copy it, and use another."
        )
