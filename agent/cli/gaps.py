"""`outstation gaps`: which readings a receiver's database misses, and why.

Exit status: 0 when everything that is missing is explained, 1 when something is not.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from agent.receiver.gaps import Missing
    from agent.receiver.store import Coverage

_RANGES_SHOWN = 20


def main(arguments: argparse.Namespace) -> int:
    """Print the report."""
    from agent.receiver.gaps import missing_of

    try:
        coverages = asyncio.run(_coverages(arguments.database, arguments.device))
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    except (OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return FAILED
    found = [(coverage, missing_of(coverage)) for coverage in coverages]
    if arguments.json:
        from pydantic_core import to_json

        print(to_json([_as_document(*each) for each in found], indent=2).decode())
    else:
        for coverage, missing in found:
            print("\n".join(_lines(coverage, missing)))
        if not found:
            print("no readings" + (f" of {arguments.device}" if arguments.device else ""))
    return FAILED if any(missing.unexplained for _, missing in found) else DONE


async def _coverages(url: str, device_id: str | None) -> list[Coverage]:
    from agent.receiver.sqlite_store import SqliteStore
    from agent.receiver.store import store_for
    from collectors.clock import SystemClock

    store = store_for(url, SystemClock())
    if isinstance(store, SqliteStore) and not await asyncio.to_thread(Path(store.path).exists):
        raise OSError(f"{store.path}: there is no such file")
    async with store:
        return await store.coverage(device_id)


def _lines(coverage: Coverage, missing: Missing) -> Iterator[str]:
    span = f", {coverage.first} to {coverage.last}" if coverage.readings else ""
    yield f"{coverage.device_id} (buffer {coverage.store_id}): {coverage.readings} readings{span}"
    for why, count in missing.dropped.items():
        yield f"  dropped       {count:>8}  {why}"
    for why, count in missing.dropped_without_number.items():
        yield f"  dropped       {count:>8}  {why}; they had no number yet"
    if missing.never_issued:
        yield f"  never issued  {missing.never_issued:>8}"
    if missing.unexplained:
        yield f"  unexplained   {missing.unexplained:>8}  among {_ranges(missing)}"
    if not missing.total and not missing.dropped_without_number:
        yield "  nothing is missing"


def _ranges(missing: Missing) -> str:
    shown = [str(a) if a == b else f"{a} to {b}" for a, b in missing.suspects[:_RANGES_SHOWN]]
    left = len(missing.suspects) - len(shown)
    return ", ".join(shown) + (f" and {left} more ranges" if left > 0 else "")


def _as_document(coverage: Coverage, missing: Missing) -> dict[str, Any]:
    return {
        "device": coverage.device_id,
        "store": coverage.store_id,
        "first": coverage.first,
        "last": coverage.last,
        "readings": coverage.readings,
        "dropped": dict(missing.dropped),
        "dropped_without_number": dict(missing.dropped_without_number),
        "never_issued": missing.never_issued,
        "unexplained": missing.unexplained,
        "unexplained_among": missing.suspects,
    }
