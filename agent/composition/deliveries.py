"""The upstreams of a running agent: each has a sender, and a consumer of the buffer under its name."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.spine.errors import STORAGE, SYNC
from agent.status.report import UpstreamStatus
from agent.supervisor import supervise
from agent.sync.aside import ASIDE, SetAside
from agent.sync.dead_letters import BufferDeadLetters
from agent.sync.extent import ROUTED, Extent, ExtentTeller, extents_of, whole_from
from agent.sync.frozen import StoredBounds
from agent.sync.losses import LossTeller
from agent.sync.registry import create_sender
from agent.sync.requeued import RequeueingConsumer
from buffer import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.composition.timekeeping import Timekeeping
    from agent.config import UpstreamConfig
    from agent.spine.spine import Spine
    from agent.sync.losses import Entry
    from agent.sync.requeued import Requeued
    from agent.sync.sender import Sender
    from buffer import AsyncConsumer, Ledger, TinyDBBuffer

_log = logging.getLogger(__name__)

_END_TIMEOUT_S = 5.0
_BOUNDS = "sync"
"""The small table with the bounds of what was sent and not acknowledged."""


@dataclass(slots=True)
class _Delivery:
    """Delivery to one upstream."""

    config: UpstreamConfig
    task_id: str
    sender: Sender[Any] | None = None
    """None until its consumer is durable."""


class LossFeed:
    """The ledger's entries that one upstream does not know yet."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self._name = name

    async def begin(self) -> None:
        """Keep entries until this upstream knows them."""
        await asyncio.to_thread(self._ledger.feed, self._name)

    async def untold(self) -> Sequence[Entry]:
        """In the order of their versions."""
        return self._ledger.untold(self._name)

    async def told(self, version: int) -> None:
        """It has all up to this version."""
        await asyncio.to_thread(self._ledger.told, self._name, version)


class Deliveries:
    """Delivers to all upstreams of the configuration.

    Args:
        device_id: The device's.
        buffer: Where readings are taken from.
        time: Gives readings their final time.
        spine: Errors, tasks, clocks.
        requeued: The dead letters on their way to an upstream.
    """

    def __init__(
        self,
        device_id: str,
        buffer: TinyDBBuffer,
        time: Timekeeping,
        spine: Spine,
        requeued: Callable[[str], Requeued],
    ) -> None:
        self._device_id = device_id
        self._buffer = buffer
        self._time = time
        self._spine = spine
        self._requeued = requeued
        self._configured: Sequence[UpstreamConfig] = ()
        self._running: dict[str, _Delivery] = {}

    def expect(self, upstreams: Sequence[UpstreamConfig]) -> None:
        """Tell of these upstreams from now on, though nothing is delivered to them yet."""
        self._configured = upstreams

    async def apply(self, upstreams: Sequence[UpstreamConfig]) -> None:
        """Deliver to these upstreams and no others; one whose configuration is the same goes on undisturbed."""
        wanted = {upstream.name: upstream for upstream in upstreams}
        self.expect(upstreams)
        for name, delivery in list(self._running.items()):
            if wanted.get(name) != delivery.config:
                if not await self._spine.tasks.end_task(delivery.task_id, _END_TIMEOUT_S):
                    _log.warning("upstream %s takes long to end: some readings may be sent twice", name)
                del self._running[name]
        await self._forget_removed(set(wanted))
        for name, upstream in wanted.items():
            if name not in self._running:
                run = partial(self._deliver, upstream)
                task_id = supervise(self._spine, "sync", name, run, layer=SYNC)
                self._running[name] = _Delivery(upstream, task_id)

    async def _deliver(self, config: UpstreamConfig) -> None:
        """Deliver to one upstream, until cancelled.

        Raises:
            DiskFault: The disk does not take the name of a new upstream.
        """
        consumer = await self._consumer(config.name)
        feed = LossFeed(self._buffer.database.ledger, config.name)
        losses = None
        extents = await self._extents(config, consumer)
        if config.options.tells_losses:
            losses = LossTeller(config.name, feed, self._identity_of, extents)
        sender = create_sender(
            config.name,
            config.options,
            self._device_id,
            RequeueingConsumer(consumer, self._requeued(config.name)),
            BufferDeadLetters(self._buffer),
            self._spine,
            self._time.correction(),
            losses,
            StoredBounds(self._buffer.state(_BOUNDS), config.name),
        )
        self._running[config.name].sender = sender
        if losses is not None:
            await feed.begin()
        await sender.run()

    async def _consumer(self, name: str) -> AsyncConsumer:
        """The consumer of an upstream. Ends only when it is made or not, also when cancelled.

        Else one that is just being made would come back after it was forgotten.
        """
        making = asyncio.create_task(asyncio.to_thread(self._buffer.consumer, name), name=f"consumer:{name}")
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait([making])
            raise

    async def _extents(self, config: UpstreamConfig, consumer: AsyncConsumer) -> ExtentTeller:
        """How far this upstream is.

        Raises:
            DiskFault: The disk refuses.
        """
        name, routed = config.name, config.options.route() is not None
        table = self._buffer.state(ROUTED)
        begins = await whole_from(table, name, consumer.newest_id, routed=routed)
        aside = SetAside(self._buffer.state(ASIDE), name)

        def look() -> list[Extent]:
            epochs = self._buffer.epochs
            return extents_of(name, consumer.reach, epochs, routed=routed, begins=begins, aside=aside)

        return ExtentTeller(look, aside)

    def _identity_of(self, record_id: int) -> tuple[str, str]:
        epochs = self._buffer.epochs
        own = next((each for each in reversed(epochs) if 0 < record_id >= each.first_seq), epochs[-1])
        return own.device_id, own.store_id

    async def _forget_removed(self, wanted: set[str]) -> None:
        """Keep nothing for an upstream that is configured no more: else its readings would stay for ever.

        One that comes back is sent everything that is still here; what it had is recognised by its keys.
        """
        database = self._buffer.database
        for name in set(database.consumers()) - wanted:
            _log.warning("upstream %s is not configured any more: nothing is kept for it", name)
            try:
                await asyncio.to_thread(database.forget_consumer, name)
                for table in (_BOUNDS, ROUTED, ASIDE):
                    await self._buffer.state(table).remove(name)
            except StoreError as error:
                await self._spine.errors.report(error, layer=STORAGE, operation="forget_upstream")

    async def drain(self, deadline_s: float) -> None:
        """Deliver what can be delivered in that time."""
        async with asyncio.TaskGroup() as group:
            for sender in self._senders():
                group.create_task(sender.drain(deadline_s), name=f"drain:{sender.name}")

    def backlog(self) -> int | None:
        """Readings that some upstream has not acknowledged; None while there is no upstream that knows."""
        senders = self._senders()
        if not senders or len(senders) < len(self._running):
            return None
        return max(sender.status.backlog for sender in senders)

    def _senders(self) -> list[Sender[Any]]:
        return [delivery.sender for delivery in self._running.values() if delivery.sender is not None]

    def status(self) -> list[UpstreamStatus]:
        """How each that is configured does, in the order of the file."""
        return [_status(config, self._running.get(config.name)) for config in self._configured]


def _status(config: UpstreamConfig, delivery: _Delivery | None) -> UpstreamStatus:
    sender = None if delivery is None else delivery.sender
    if sender is None:
        return UpstreamStatus(name=config.name, driver=config.driver, state="starting")
    status = sender.status
    return UpstreamStatus(
        name=config.name,
        driver=config.driver,
        state=status.state,
        backlog=status.backlog,
        in_flight=status.in_flight,
        delivered=status.delivered,
        set_aside=status.dead_letters,
        last_delivery=status.last_delivery,
        oldest=status.oldest,
        last_error=status.last_error,
        holding_back=status.holding_back,
    )
