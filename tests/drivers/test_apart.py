"""Work that hangs, in threads that nobody else needs."""

from __future__ import annotations

import asyncio
import threading

import pytest

from drivers.transport.apart import ABANDONED_MAX, run_apart


async def test_the_result_or_the_error_comes_back():
    assert await run_apart("a", threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await run_apart("a", lambda: 1 // 0)


async def test_many_at_once_wait_for_nobody():
    together = threading.Barrier(20)
    async with asyncio.timeout(10):
        await asyncio.gather(*(run_apart("a", together.wait) for _ in range(20)))


async def test_what_was_left_hanging_is_bounded_and_forgotten_when_it_ends():
    answer = threading.Event()
    for _ in range(ABANDONED_MAX):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await run_apart("dead", answer.wait)
    with pytest.raises(ConnectionError, match="4 earlier attempts still hang"):
        await run_apart("dead", answer.wait)
    assert await run_apart("alive", lambda: 5) == 5
    answer.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await run_apart("dead", answer.wait)
            except ConnectionError:
                await asyncio.sleep(0.01)
            else:
                return
