"""Ways through something that must not be looked at while anybody is half-way."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Passages:
    """Many may pass at a time; who wants nobody to pass waits for those on their way, and is waited for by others."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._passing = 0
        self.ended = 0
        """So many have come to the end of their way."""
        self._nobody_passes = asyncio.Event()
        self._nobody_passes.set()

    @property
    def in_use(self) -> bool:
        """Whether somebody is on the way, or keeps others from it."""
        return self._passing > 0 or not self._open.is_set()

    @property
    def passing(self) -> int:
        """How many are on the way."""
        return self._passing

    async def enter(self) -> None:
        """Be on the way, until `leave`: `one` for a path on which each message is to cost little."""
        while not self._open.is_set():
            await self._open.wait()
        self._passing += 1
        self._nobody_passes.clear()

    def leave(self) -> None:
        """Be on the way no more."""
        self._passing -= 1
        self.ended += 1
        if not self._passing:
            self._nobody_passes.set()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Be on the way while the block runs."""
        await self.enter()
        try:
            yield
        finally:
            self.leave()

    @asynccontextmanager
    async def none(self) -> AsyncIterator[None]:
        """Nobody is on the way while the block runs. Not from within `one`: it would wait for itself."""
        async with self._turn:
            self._open.clear()
            try:
                await self._nobody_passes.wait()
                yield
            finally:
                self._open.set()
