"""What is heard while the buffer does not open: how much of it was lost is said, also when that is later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from agent.composition.meanwhile import Meanwhile
from agent.spine.spine import open_spine
from agent.waiting_room import COUNT_MAX
from tests.agent.test_waiting_room import frame

if TYPE_CHECKING:
    import pytest

    from agent.composition.processing import Processing
    from agent.composition.sources import Sources
    from agent.config import AgentConfig
    from collectors.interfaces import IDataSource
    from collectors.models import CollectedData


class Hears:
    """All sources: one that only speaks."""

    def __init__(self, source: object = None) -> None:
        self.source = source

    async def begin_early(self, _config: AgentConfig) -> dict[str, IDataSource]:
        return {"soil": cast("IDataSource", self.source)}


class Full:
    """Takes nothing in before it is told that there is room."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.taken = 0

    async def take_in(self, _data: CollectedData) -> None:
        await self.room.wait()
        self.taken += 1


async def test_what_goes_while_the_rest_is_being_stored_is_said(caplog: pytest.LogCaptureFixture) -> None:
    processing = Full()
    async with open_spine(close_timeout_s=1) as spine:
        meanwhile = Meanwhile(cast("Sources", Hears()), spine)
        await meanwhile.begin(cast("AgentConfig", None))
        assert meanwhile.keeps(frame(0))
        meanwhile.hand_over(cast("Processing", processing), 1)
        await asyncio.sleep(0)
        for n in range(COUNT_MAX + 3):
            assert meanwhile.keeps(frame(n))
        processing.room.set()
        async with asyncio.timeout(10):
            while processing.taken <= COUNT_MAX:
                await asyncio.sleep(0.01)
        assert not meanwhile.keeps(frame(0)), "what comes now is stored at once"
    assert "the buffer is open: 1 frames wait in memory" in caplog.text
    assert "3 more had to go from memory" in caplog.text


class Numbers:
    """A source that knows of its second frame that it is stored, and of its third nothing at all."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []
        self.is_caught_up = asyncio.Event()

    def catch_up(self, data: CollectedData) -> CollectedData | None:
        self.shown.append(data.raw_data)
        if len(self.shown) == 3:
            raise LookupError("the third")
        return None if len(self.shown) == 2 else data

    def caught_up(self) -> None:
        self.is_caught_up.set()


async def test_sources_that_know_what_is_stored_are_shown_all_that_waits() -> None:
    source, processing = Numbers(), Full()
    processing.room.set()
    async with open_spine(close_timeout_s=1) as spine:
        meanwhile = Meanwhile(cast("Sources", Hears(source)), spine)
        await meanwhile.begin(cast("AgentConfig", None))
        for n in range(4):
            assert meanwhile.keeps(frame(n))
        meanwhile.hand_over(cast("Processing", processing), 1)
        async with asyncio.timeout(10):
            await source.is_caught_up.wait()
        assert source.shown == [frame(n).raw_data for n in range(4)]
        assert processing.taken == 3
        assert spine.errors.reported == 1
        assert not meanwhile.keeps(frame(4))
