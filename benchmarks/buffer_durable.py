"""Durable records a second beside sqlite3, by how many share a commit.

Both stay open over all rounds, so that what they do now and then (checkpoints, new segments) is in the
figures. Within a round they take turns of some 0.1 s, so that what else the machine does meets both.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.buffer_stores import Buffer, Opened, Sqlite, Store
from benchmarks.buffer_workload import Documents, against, folder, median

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GROUPS = (1, 10, 100, 1000)
FLOORS = {1: (1.2, 1.5), 10: (1.8, 2.5), 100: (2, 4), 1000: (3, 8)}
_ROUNDS = 9
_TURNS = 8


def work(store: Store, group: int, seconds: float, supply: Documents) -> tuple[int, float]:
    """How many records a store makes durable in groups, in (a little more than) so many seconds."""
    count = 0
    begun_s = now_s = time.perf_counter()
    while now_s - begun_s < seconds or not count:
        store.put(supply.next(group))
        count += group
        now_s = time.perf_counter()
    return count, now_s - begun_s


def rates(stores: Sequence[Store], group: int, seconds: float, supply: Documents) -> list[tuple[float, ...]]:
    """Records a second of each store, round by round; in a round they take turns often."""
    share_s = seconds / (len(stores) * _ROUNDS * _TURNS)
    for store in stores:
        work(store, group, share_s, supply)  # the first time warms up
    found = []
    for _ in range(_ROUNDS):
        done = [[work(store, group, share_s, supply) for store in stores] for _ in range(_TURNS)]
        found.append(
            tuple(
                sum(count for count, _ in turns) / sum(took_s for _, took_s in turns)
                for turns in zip(*done, strict=True)
            )
        )
    return found


def durable(directory: Path | None, seconds: float) -> None:
    """Print how the buffer compares with sqlite3, at each size of group."""
    print(f"\ndurable records/s by records a commit, median of {_ROUNDS} rounds of {_TURNS} turns each")
    print(f"{'records a commit':20}{'buffer':>12}{'sqlite3':>12}   ratio")
    supply = Documents()
    for group in GROUPS:
        with folder(directory) as place, Opened(place) as opened:
            stores = [opened.open(Buffer), opened.open(Sqlite)]
            found = rates(stores, group, seconds / len(GROUPS), supply)
        ours, theirs = (median(column) for column in zip(*found, strict=True))
        ratio = median([one / other for one, other in found])
        print(f"{group:<20}{ours:>12,.0f}{theirs:>12,.0f}   {against(ratio, *FLOORS[group])}")
    print(
        "sqlite3: WAL, synchronous=FULL, AUTOINCREMENT (ids never reused, as here), executemany in a transaction"
    )
