"""`outstation buffer export`: readings as JSON lines or CSV."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.cli.buffer.words import moment
from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.new_file import new_file
from agent.cli.progress import Progress
from agent.status.text import counted
from buffer.export import Selected, TooManyColumns, to_csv, to_jsonl
from buffer.inspection import Inspection

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from buffer.inspection import SeenTable
    from buffer.segment import Segment
    from buffer.selection import Found

_PASSES = {"jsonl": 1, "csv": 2}


def run(arguments: argparse.Namespace) -> int:
    """Export; 1 when something could not be read."""
    now = datetime.now(UTC)
    try:
        since_s, until_s = moment(arguments.since, now), moment(arguments.until, now)
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    inspection = Inspection(arguments.path)
    selected = Selected(
        inspection,
        source=arguments.source,
        since_s=since_s,
        until_s=until_s,
        undelivered=arguments.undelivered,
    )
    count = _Count(selected)
    encode = to_csv if arguments.format == "csv" else to_jsonl
    try:
        with Progress("exporting") as progress, new_file(arguments.output) as output:
            _watch(inspection.readings, _PASSES[arguments.format], progress)
            for piece in encode(count, inspection.identity_of):
                output.write(piece)
    except FileExistsError:
        print(f"{arguments.output} is there already: give a new name", file=sys.stderr)
        return WRONG_CONFIGURATION
    except TooManyColumns as error:
        print(error, file=sys.stderr)
        return FAILED
    return _tell(arguments, inspection.readings, count.seen)


class _Count:
    """Records, counted as they pass."""

    def __init__(self, records: Selected) -> None:
        self._records = records
        self.seen = 0
        """In the last pass."""

    def __iter__(self) -> Iterator[Found]:
        self.seen = 0
        for record in self._records:
            self.seen += 1
            yield record


def _watch(table: SeenTable, passes: int, progress: Callable[[int, int], None]) -> None:
    """Tell the progress how far reading has come, by the segments that it comes to."""
    places, total = {}, 0
    for segment in table.segments:
        places[segment.base] = total
        total += table.size_of(segment)
    done, last = 0, 0

    def come_to(segment: Segment) -> None:
        nonlocal done, last
        place = places.get(segment.base, last)
        if place < last:  # the next pass
            done += total
        last = place
        progress(min(done + place, passes * total), passes * total)

    table.on_segment = come_to


def _tell(arguments: argparse.Namespace, table: SeenTable, count: int) -> int:
    """Say what was exported, where that is not in the way of it."""
    if arguments.output is not None:
        print(f"{counted(count, 'reading')} in {arguments.output}", file=sys.stderr)
    lost = sum(loss.count for loss in table.losses)
    if lost:
        print(
            f"{lost:,} readings are in damaged parts of the buffer and could not be read:"
            " `outstation buffer verify` says which",
            file=sys.stderr,
        )
        return FAILED
    return DONE
