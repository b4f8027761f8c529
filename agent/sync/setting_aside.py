"""Parcels that become dead letters: each stays where it is until its letter is durable, and holds up nothing else meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from agent.spine.errors import describe
from agent.sync.batches import B
from agent.sync.dead_letters import DeadLetterBox, undelivered
from agent.sync.upstream import RetryLater, UpstreamError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from agent.sync.outbox import Item, Outbox
    from collectors.clock import Clock


class SettingAside(Generic[B]):
    """Makes the dead letters of one upstream.

    Args:
        name: The upstream's name in the configuration.
        box: Where they are kept.
        clock: Tells when.
        hold: Is told when one cannot be kept.
        wake: Set whenever one is durable, or cannot be.
    """

    def __init__(
        self,
        name: str,
        box: DeadLetterBox,
        clock: Clock,
        hold: Callable[[UpstreamError], Awaitable[None]],
        wake: asyncio.Event,
    ) -> None:
        self._name = name
        self._box = box
        self._clock = clock
        self._hold = hold
        self._wake = wake

    async def write(self, item: Item[B], reason: str) -> UpstreamError | None:
        """Make a dead letter of a parcel's readings; the parcel stays as it is when there is no room for it."""
        batch = item.taken.batch
        letter = undelivered(
            item.parcel.records,
            upstream=self._name,
            device_id=batch.device_id,
            store_id=batch.store_id,
            reason=reason,
            t=self._clock.now().timestamp(),
        )
        try:
            item.letter_id, item.letter_reason = self._box.append(letter), reason
        except (RuntimeError, OSError) as error:
            failure = RetryLater(f"cannot set a batch aside ({reason}): {describe(error)}")
            await self._hold(failure)
            return failure
        return None

    def await_all(
        self, outbox: Outbox[B], group: asyncio.TaskGroup, waiting: set[asyncio.Task[None]]
    ) -> None:
        """Wait for those that nobody waits for, beside: a disk that refuses must not keep anybody from what else happens."""
        for item in outbox:
            if item.letter_id is not None and not item.letter_awaited and not item.letter_durable:
                item.letter_awaited = True
                name = f"sync-letter:{self._name}:{item.letter_id}"
                task = group.create_task(self._await(item, item.letter_id), name=name)
                waiting.add(task)
                task.add_done_callback(waiting.discard)

    async def _await(self, item: Item[B], letter_id: int) -> None:
        try:
            await self._box.durable(letter_id)
        except (RuntimeError, OSError) as error:  # the buffer is closed: nothing is lost, the parcel stays
            reason = f"cannot set a batch aside ({item.letter_reason}): {describe(error)}"
            await self._hold(RetryLater(reason))
        else:
            item.letter_durable = True
        self._wake.set()
