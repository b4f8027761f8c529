"""Many producers, each waiting until its own record is durable.

The buffer gathers all who wait into one commit. SQLite has one commit a record: by itself in a plain loop
(the best it can do, with nobody else to serve), and as an asyncio program has to call it, on a thread of
its own that all producers share.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.buffer_durable import work
from benchmarks.buffer_stores import Opened, Sqlite
from benchmarks.buffer_workload import Documents, against, folder, median
from buffer import TinyDBBuffer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

PRODUCERS = 64
FLOOR, AIM = 12, 30
_ROUNDS = 9


async def produce(
    store_one: Callable[[bytes], Awaitable[object]], supply: Sequence[bytes], seconds: float
) -> float:
    """Records a second that all producers get stored, each waiting for its own before its next."""
    loop = asyncio.get_running_loop()
    count = 0

    async def producer(number: int) -> None:
        nonlocal count
        at = number
        while loop.time() < until_s:
            await store_one(supply[at % len(supply)])
            at += PRODUCERS
            count += 1

    begun_s = time.perf_counter()
    until_s = loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(PRODUCERS):
            group.create_task(producer(number), name=f"producer-{number}")
    return count / (time.perf_counter() - begun_s)


@asynccontextmanager
async def _buffer(place: Path) -> AsyncIterator[TinyDBBuffer]:
    buffer = TinyDBBuffer("benchmark", place / "buffer")
    await buffer.connect()
    try:
        yield buffer
    finally:
        await buffer.disconnect()


async def _rounds(place: Path, opened: Opened, share_s: float) -> list[tuple[float, float, float, float]]:
    supply = Documents()
    documents = supply.next(1000)
    alone = opened.open(Sqlite)
    shared = opened.open(lambda folder: Sqlite(folder, any_thread=True))
    loop = asyncio.get_running_loop()
    async with _buffer(place) as buffer:

        async def append(document: bytes) -> None:
            await buffer.wait_durable(buffer.append([document], vouched=True)[0])

        async def store(document: bytes) -> None:
            await buffer.store(parsed[document])

        async def on_thread(document: bytes) -> None:
            await loop.run_in_executor(thread, shared.put, (document,))

        parsed = {document: json.loads(document) for document in documents}
        with ThreadPoolExecutor(1) as thread:
            return [
                (
                    await produce(append, documents, share_s),
                    await produce(store, documents, share_s),
                    _a_second(work(alone, 1, share_s, supply)),
                    await produce(on_thread, documents, share_s),
                )
                for _ in range(_ROUNDS + 1)
            ][1:]  # the first warms up


def _a_second(done: tuple[int, float]) -> float:
    return done[0] / done[1]


def waiting(directory: Path | None, seconds: float) -> None:
    """Print what producers that wait for their own records reach."""
    share_s = seconds / ((_ROUNDS + 1) * 4)
    with folder(directory) as place, Opened(place) as opened:
        rounds = asyncio.run(_rounds(place, opened, share_s))
    append, store, alone, on_thread = (median(column) for column in zip(*rounds, strict=True))
    print(f"\n{PRODUCERS} producers, each waiting for its own record: records/s, median of {_ROUNDS} rounds")
    print(f"{'buffer, append and wait_durable (bytes)':44}{append:>10,.0f}")
    print(f"{'buffer, store (a dict; gives a location)':44}{store:>10,.0f}")
    print(f"{'sqlite3, a commit each, in a plain loop':44}{alone:>10,.0f}")
    print(f"{'sqlite3, a commit each, shared on a thread':44}{on_thread:>10,.0f}")
    for name, column in (("a plain loop of commits", 2), ("sharing a thread", 3)):
        ratio = median([each[0] / each[column] for each in rounds])
        print(f"append beside {name}: {against(ratio, FLOOR, AIM)}")
