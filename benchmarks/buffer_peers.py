"""What other libraries reach, so that a reader can choose: speed, durability, bytes and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.buffer_child import run
from benchmarks.buffer_durable import work
from benchmarks.buffer_stores import CHOICES, HOW_TO_INSTALL, Opened, installed
from benchmarks.buffer_workload import Documents, folder, median

if TYPE_CHECKING:
    from pathlib import Path

_ROUNDS = 5
_STORED = 20_000
_GROUPS = (1, 100)


def peers(directory: Path | None, seconds: float, *, stored: int = _STORED) -> None:
    """Print what each library reaches alone and in hundreds, and what it takes on disk and in memory."""
    supply = Documents()
    with folder(directory) as place:
        choices, missing = installed(CHOICES, place)
        share_s = seconds / 2 / (len(choices) * len(_GROUPS) * _ROUNDS)
        rates: dict[tuple[str, int], list[float]] = {}
        with Opened(place) as opened:
            stores = {
                (choice.name, group): opened.open(choice.make) for choice in choices for group in _GROUPS
            }
            for _ in range(_ROUNDS):
                for (name, group), store in stores.items():
                    count, took_s = work(store, group, share_s, supply)
                    rates.setdefault((name, group), []).append(count / took_s)
        taken = {}
        for at, choice in enumerate(choices):
            (place / f"peer-{at}").mkdir()
            taken[choice.name] = run("peer", place / f"peer-{at}", choice.name, stored)
    print(
        f"\nother libraries: records/s (median of {_ROUNDS} rounds); of {stored:,} records stored in hundreds"
    )
    print(
        "bytes a record in files, and MB of RSS over Python itself: imported and open, and the most while storing"
    )
    print(
        f"{'':22}{'survives a power cut':22}{'1 a commit':>12}{'100':>10}{'bytes':>8}{'open':>8}{'most':>8}"
    )
    for choice in choices:
        alone, hundred = (median(rates[choice.name, group]) for group in _GROUPS)
        found = taken[choice.name]
        print(
            f"{choice.name:22}{choice.durable:22}{alone:>12,.0f}{hundred:>10,.0f}"
            f"{found['bytes']:>8,.0f}{found['opened_mb']:>8.1f}{found['peak_mb']:>8.1f}"
        )
    if missing:
        print(f"not installed: {', '.join(missing)}; {HOW_TO_INSTALL}")
