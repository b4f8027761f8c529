"""What ends a command that goes on until it is told."""

import asyncio
import os
import signal

import pytest

from agent.cli.until_told import until_told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_block_and_what_comes_behind_it_goes_on(number):
    before, ended = signal.getsignal(number), []
    async with until_told():
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        finally:
            os.kill(os.getpid(), number)  # told twice
            await asyncio.sleep(0)
            ended.append("in order")
    await asyncio.sleep(0)
    assert ended == ["in order"]
    assert signal.getsignal(number) in {before, signal.SIG_DFL, signal.default_int_handler}


async def test_so_long_is_the_end_too():
    async with until_told(0.01):
        await asyncio.sleep(60)


async def test_a_block_that_ends_by_itself_has_ended():
    async with until_told():
        await asyncio.sleep(0)


async def test_another_time_out_is_an_error():
    with pytest.raises(TimeoutError, match="the disk"):
        async with until_told(60):
            raise TimeoutError("the disk")


async def test_whoever_cancels_the_command_cancels_it():
    async def command():
        async with until_told():
            await asyncio.sleep(60)

    task = asyncio.create_task(command())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
