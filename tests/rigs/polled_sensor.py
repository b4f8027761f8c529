"""A sensor on a pseudo-terminal that speaks when it is asked."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.rigs.pty import PtySensor


class PolledSensor:
    """Answers each request.

    Args:
        sensor: The pseudo-terminal.
        answer: What to send for a request, the how manyth it is; None: nothing.
        ends_with: What ends a request.
    """

    def __init__(
        self, sensor: PtySensor, answer: Callable[[bytes, int], bytes | None], *, ends_with: bytes = b"\n"
    ) -> None:
        self._sensor = sensor
        self._answer = answer
        self._ends_with = ends_with
        self._heard = b""
        self.requests: list[bytes] = []
        self.asked_at: list[float] = []
        """When each request was whole (the loop's time)."""
        self._pending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._sensor.master, self._listen)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._sensor.master)
        for task in self._pending:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._pending)

    def _listen(self) -> None:
        self._heard += self._sensor.read_available()
        *requests, self._heard = self._heard.split(self._ends_with)
        for request in requests:
            self.requests.append(request)
            self.asked_at.append(asyncio.get_running_loop().time())
            answer = self._answer(request, len(self.requests))
            if answer is not None:
                task = asyncio.get_running_loop().create_task(self._sensor.write(answer))
                self._pending.add(task)
                task.add_done_callback(self._pending.discard)
