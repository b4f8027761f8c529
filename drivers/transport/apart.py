"""Blocking work that may hang, in a thread of its own.

A name server that does not answer holds a thread for half a minute. In asyncio's pool, which has six threads on two
cores, a few connections would hold up all other work there: committing, packing, status. And Python waits for a pool
when it ends, but not for the daemon threads of this module.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ABANDONED_MAX: Final = 4
"""Threads of one name that still hang when nobody waits for them any more; until one of them ends there is no other."""

_lock = threading.Lock()
_abandoned: Counter[str] = Counter()


async def run_apart(name: str, work: Callable[[], T]) -> T:
    """Run something that blocks. When cancelled, the thread is left to itself: what it comes to is dropped.

    Args:
        name: What it is about: names the thread, and counts those that were left.
        work: What to run.

    Raises:
        ConnectionError: Earlier attempts still hang.
    """
    if (hanging := _abandoned[name]) >= ABANDONED_MAX:
        raise ConnectionError(f"{hanging} earlier attempts still hang: does the name server answer?")
    # Left pending until it has a result: so it can be cancelled while the thread works.
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    threading.Thread(target=_run, args=(name, future, work), name=f"outstation-{name}", daemon=True).start()
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if future.cancel():
            _count(name, 1)
        raise


def _run(name: str, future: concurrent.futures.Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 (reported to whoever waits for the future)
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
            return
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(result)
            return
    _count(name, -1)


def _count(name: str, change: int) -> None:
    with _lock:
        _abandoned[name] += change
        if not _abandoned[name]:
            del _abandoned[name]
