"""`outstation gaps`: which readings a receiver's database misses, and why.

Exit status: 0 when everything that is missing is explained, 1 when something is not.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from agent.receiver.gaps import Missing, Range
    from agent.receiver.store import Coverage, ReadingStore

_RANGES_SHOWN = 20
_RANGES_TOLD = 1000
"""Of a buffer, as JSON."""


@dataclass(frozen=True, slots=True)
class _Report:
    """What there is to say of one buffer."""

    coverage: Coverage
    missing: Missing
    among: Sequence[Range]
    """Ranges that have not come, with what is unexplained among them; the first of them."""
    cut: bool
    """There are more of them. The counts are exact all the same."""


def main(arguments: argparse.Namespace) -> int:
    """Print the report."""
    most = _RANGES_TOLD if arguments.json else _RANGES_SHOWN
    try:
        found = asyncio.run(_reports(arguments.database, arguments.device, most))
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    except (OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return FAILED
    if arguments.json:
        from pydantic_core import to_json

        print(to_json([_as_document(each) for each in found], indent=2).decode())
    else:
        for each in found:
            print("\n".join(_lines(each)))
        if not found:
            print("no readings" + (f" of {arguments.device}" if arguments.device else ""))
    return FAILED if any(each.missing.unexplained for each in found) else DONE


async def _reports(url: str, device_id: str | None, most: int) -> list[_Report]:
    from agent.receiver.sqlite_store import SqliteStore
    from agent.receiver.store import store_for
    from collectors.clock import SystemClock

    store = store_for(url, SystemClock())
    if isinstance(store, SqliteStore) and not await asyncio.to_thread(Path(store.path).exists):
        raise OSError(f"{store.path}: there is no such file")
    async with store:
        return [await _report(store, coverage, most) for coverage in await store.coverage(device_id)]


async def _report(store: ReadingStore, coverage: Coverage, most: int) -> _Report:
    from agent.receiver.gaps import missing_of

    missing = missing_of(coverage)
    among = await store.holes(coverage.device_id, coverage.store_id, missing.suspects, most + 1)
    return _Report(coverage, missing, among[:most], len(among) > most)


def _lines(report: _Report) -> Iterator[str]:
    coverage, missing = report.coverage, report.missing
    span = f", {coverage.first} to {coverage.last}" if coverage.readings else ""
    yield f"{coverage.device_id} (buffer {coverage.store_id}): {coverage.readings} readings{span}"
    for why, count in missing.dropped.items():
        yield f"  dropped       {count:>8}  {why}"
    for why, count in missing.dropped_without_number.items():
        yield f"  dropped       {count:>8}  {why}; they had no number yet"
    if missing.never_issued:
        yield f"  never issued  {missing.never_issued:>8}"
    if missing.set_aside:
        yield f"  set aside     {missing.set_aside:>8}  as dead letters, on the device"
    if missing.under_way:
        yield f"  under way     {missing.under_way:>8}  as the device said at {_told_at(coverage)}"
    if missing.not_judged:
        yield f"  not judged    {missing.not_judged:>8}  not for here, or lost: the upstream has a route"
    if missing.unexplained:
        yield f"  unexplained   {missing.unexplained:>8}  among {_ranges(report)}"
    if not missing.total and not missing.dropped_without_number:
        yield "  nothing is missing"


def _told_at(coverage: Coverage) -> str:
    told_at = max(extent.told_at for extent in coverage.extents)
    return datetime.fromtimestamp(told_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ranges(report: _Report) -> str:
    shown = [str(a) if a == b else f"{a} to {b}" for a, b in report.among]
    return (", ".join(shown) or "what has come meanwhile") + (" and further ranges" if report.cut else "")


def _as_document(report: _Report) -> dict[str, Any]:
    coverage, missing = report.coverage, report.missing
    return {
        "device": coverage.device_id,
        "store": coverage.store_id,
        "first": coverage.first,
        "last": coverage.last,
        "readings": coverage.readings,
        "extents": coverage.extents,
        "dropped": dict(missing.dropped),
        "dropped_without_number": dict(missing.dropped_without_number),
        "never_issued": missing.never_issued,
        "set_aside": missing.set_aside,
        "under_way": missing.under_way,
        "not_judged": missing.not_judged,
        "unexplained": missing.unexplained,
        "unexplained_among": report.among,
        "unexplained_among_cut": report.cut,
    }
