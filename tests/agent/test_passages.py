"""Nobody is on the way while somebody looks; and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from agent.passages import Passages


async def turns(n: int = 20) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_many_pass_at_a_time_and_nobody_while_one_looks():
    passages, seen = Passages(), []

    async def look() -> None:
        async with passages.none():
            seen.append("look")
            await turns()
            seen.append("looked")

    async def walk(name: str) -> None:
        async with passages.one():
            seen.append(name)

    async with asyncio.TaskGroup() as group:
        async with passages.one():
            async with passages.one():
                group.create_task(look(), name="look")
                await turns()
                group.create_task(walk("later"), name="walk")
                await turns()
            assert seen == []
        await turns(5)
        assert seen == ["look"]
        assert passages.in_use
    assert seen == ["look", "looked", "later"]
    assert not passages.in_use


async def test_who_gives_up_looking_lets_others_pass():
    passages = Passages()
    async with passages.one():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), passages.none():
                raise AssertionError("somebody is on the way")
        async with asyncio.timeout(1), passages.one():
            pass


async def test_an_error_on_the_way_ends_it():
    passages = Passages()
    with pytest.raises(OSError, match="broken"):
        async with passages.one():
            raise OSError("broken")
    async with asyncio.timeout(1), passages.none():
        pass
