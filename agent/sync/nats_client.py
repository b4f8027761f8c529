"""Waiting for nats-py without losing a cancellation.

nats-py waits by `asyncio.wait_for`, which before Python 3.12 may swallow a cancellation that comes as it ends, and swallows those that
come while it flushes: who was told to stop would go on. So whatever of it may wait is awaited through one of these two.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from nats import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from nats.aio.client import Client

_CANCELLED_TIMEOUT_S = 2.0
T = TypeVar("T")


async def undisturbed(work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """What some work of nats-py returns that has a task of its own, so that it may take a cancellation as it likes.

    Raises:
        TimeoutError: It is not done in time.
    """
    task = asyncio.ensure_future(work)
    try:
        in_time, _ = await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(forget)
            await asyncio.wait({task}, timeout=_CANCELLED_TIMEOUT_S)
    if not in_time or task.cancelled():
        raise TimeoutError(f"not within {timeout_s:g} s")
    return task.result()


async def heeding(work: Awaitable[T]) -> T:
    """What some quick work of nats-py returns; a cancellation that it swallowed meanwhile takes effect behind it."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    done = await work
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return done


def forget(task: asyncio.Future[Any]) -> None:
    """Look at what became of it, so that nobody complains that nobody did."""
    if not task.cancelled():
        task.exception()


async def close(client: Client, timeout_s: float) -> None:
    """Close a connection within that time, whatever state it is in."""
    try:
        # On a dead link there is nobody to say goodbye to; and nats-py asserts that it was connected before.
        with contextlib.suppress(errors.Error, OSError, AssertionError):
            await undisturbed(client.close(), timeout_s)
    finally:
        transport = client._transport  # noqa: SLF001 (what close leaves open when it fails or is not connected)
        if transport is not None:
            transport.close()  # type: ignore[no-untyped-call] # nats-py's
