"""The sender: brings what the buffer holds to one upstream, for ever, and says what it is doing.

Rules:

1. A batch's bounds are frozen when it is taken. A resend is the same pack, byte for byte.
2. A batch is acknowledged to the buffer when every reading in it was acknowledged by the upstream, or set
   aside as a dead letter, durably. Nothing else moves the cursor.
3. In each lane packs go out oldest first (`agent.sync.schedule` says which lane is next). After a lost connection
   everything unacknowledged goes again, oldest first, before anything new of its lane: what arrives of a lane is
   in order, apart from repetitions. (Where the other end may take later
   packs of a window and refuse an earlier one for now, order needs a window of one. HTTP has that.)
4. After a connection or a failure one pack goes alone; only its acknowledgement opens the window. So a server
   that refuses what it gets sees one attempt, not a window full of them. The pieces of a pack that was too
   large go one by one, too, and batches are smaller for a while.
5. What the other end will never take is set aside and blocks nobody. Where it may be because of some readings only, a batch is
   cut to find them, within bounds; the others arrive. When that happens to several in a row,
   the fault is more likely the address or the format: each further one costs a back-off first, so that a
   mistake in the configuration cannot turn a whole backlog into dead letters quickly.
6. A pack at which the other end breaks the connection again and again, alone, is cut as if it were too large: some
   end the connection instead of saying why. A single reading that does so ten times is suspected: others are tried in
   its stead. Once one of them got through, it is tried again, and is set aside if the connection breaks once more; for
   if nothing gets through, the link is at fault and no reading. Time-outs, and links that fall silent, count for nothing.
7. Everything is bounded: of each lane one pack more than the window is prepared, each wait has an end.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Generic

from agent.spine.cancellation import is_being_cancelled
from agent.spine.errors import SYNC, describe
from agent.sync.batches import B, Consumer
from agent.sync.feeder import Feeder, SendOptions, Timing
from agent.sync.outbox import Item, Outbox
from agent.sync.schedule import Schedule, SchedulePolicy
from agent.sync.setting_aside import SettingAside
from agent.sync.standing import Standing
from agent.sync.status import SenderStatus
from agent.sync.upstream import (
    LinkLost,
    Paused,
    Rejected,
    RetryLater,
    TooLarge,
    Unanswered,
    Upstream,
    UpstreamError,
)

if TYPE_CHECKING:
    from agent.spine.backoff import BackoffPolicy
    from agent.spine.spine import Spine
    from agent.sync.dead_letters import DeadLetterBox
    from agent.sync.frozen import FrozenBounds
    from agent.sync.losses import LossTeller
    from agent.sync.packing import Packer
    from agent.sync.routes import Route
    from agent.sync.upstream import Pack

_log = logging.getLogger(__name__)

REJECTED_IN_A_ROW_MAX = 3
_LIMIT_LOOK_S = 60.0
"""What waits for room under a limit looks again after this time."""
_CONCLUDE_S = 1.0
"""How long what is under way may take to say what came of it, once the connection is lost."""
_STATE_LOOK_S = 0.25
"""How often a draining sender looks whether delivery still works."""


class Sender(Generic[B]):
    """Delivers one consumer's readings to one upstream.

    Args:
        name: The upstream's name in the configuration.
        consumer: Where batches come from.
        upstream: Where they go.
        spine: Errors, clock, chance and tasks of the program.
        packer: Makes the packs; its limit should be the upstream's.
        retry: The numbers of the back-off.
        dead_letters: Where what cannot be delivered is set aside.
        options: How readings are gathered into batches.
        timing: Gives readings their final time.
        losses: Tells the other end what will never come.
        policy: How lanes share the link, and what the other end takes.
        route: What the other end wants; None is everything.
        connect_interval_s: At most one attempt to connect in this time.
        frozen: Keeps the bounds of what was sent over a restart.
    """

    def __init__(
        self,
        name: str,
        consumer: Consumer[B],
        upstream: Upstream,
        spine: Spine,
        *,
        packer: Packer,
        retry: BackoffPolicy,
        dead_letters: DeadLetterBox,
        options: SendOptions,
        timing: Timing,
        losses: LossTeller | None = None,
        policy: SchedulePolicy | None = None,
        route: Route | None = None,
        connect_interval_s: float = 0.0,
        frozen: FrozenBounds | None = None,
    ) -> None:
        self.name = name
        self._losses = losses
        self._consumer = consumer
        self._upstream = upstream
        self._spine = spine
        self._standing = Standing(name, upstream, retry, spine.clock, spine.rng)
        self._outbox: Outbox[B] = Outbox()
        self._wake = asyncio.Event()
        self._schedule = Schedule(policy or SchedulePolicy())
        self._feeder = Feeder(
            consumer, self._outbox, self._wake, packer, options, timing, self._on_fault, route
        )
        self._letters: SettingAside[B] = SettingAside(name, dead_letters, spine.clock, self._hold, self._wake)
        self._settled = asyncio.Event()
        self._connect_interval_s = connect_interval_s
        self._connected_s = -inf
        self._frozen = frozen
        self._restored = frozen is None
        self._bounds_told = False
        self._window = 1
        self._beside = 0
        """Messages in flight that are in no lane."""
        self._rejected_in_a_row = 0
        self._delivered = 0
        self._set_aside = 0
        self._last_delivery: datetime | None = None

    @property
    def status(self) -> SenderStatus:
        """How delivery does now."""
        first = next(iter(self._outbox), None)
        backlog = self._consumer.backlog
        measured = None if first is None else first.parcel.t
        return SenderStatus(
            name=self.name,
            state=self._standing.state,
            since=self._standing.since,
            backlog=backlog,
            in_flight=self._outbox.readings,
            delivered=self._delivered,
            dead_letters=self._set_aside,
            last_delivery=self._last_delivery,
            last_error=self._standing.last_error,
            oldest=None if measured is None else datetime.fromtimestamp(measured, UTC),
            holding_back=self._standing.holding_back,
        )

    async def run(self) -> None:
        """Deliver until cancelled. Whatever fails, it is reported and tried again."""
        try:
            while True:
                try:
                    await self._keep_bounds()
                    await self._feeder.skip_unwanted(self._standing.hold_left_s)
                    self._standing.enter(
                        "connecting" if self._standing.error is None else self._standing.state
                    )
                    await self._session()
                except UpstreamError as error:
                    if is_being_cancelled():
                        raise asyncio.CancelledError from error
                    await self._hold(error)
                except Exception as error:  # a bug or a sick disk must not end delivery: it is reported
                    if is_being_cancelled():
                        raise asyncio.CancelledError from error
                    await self._spine.errors.report(
                        error, layer=SYNC, operation="deliver", critical=True, upstream=self.name
                    )
                    await self._hold(RetryLater(f"unexpected: {describe(error)}"), quietly=True)
        finally:
            for batch in self._outbox.empty():
                self._consumer.release(batch)
            self._standing.enter("stopped")

    async def _on_fault(self, error: Exception) -> None:
        """Something cannot be taken from the buffer."""
        self._standing.last_error = describe(error)
        await self._spine.errors.report(
            error, layer=SYNC, operation="take", critical=True, upstream=self.name
        )

    async def _keep_bounds(self) -> None:
        """At first, take what was sent before the restart as it was; then note what is sent and not acknowledged."""
        if self._frozen is None:
            return
        if not self._restored:
            self._restored = True
            await self._feeder.restore(self._frozen.load())
            return
        try:
            await self._frozen.save(self._outbox.sent_bounds())
        except (
            RuntimeError,
            OSError,
        ) as error:  # a disk that refuses costs repetitions, if we are killed; never delivery
            if not self._bounds_told:
                self._bounds_told = True
                await self._spine.errors.report(
                    error, layer=SYNC, operation="keep_bounds", upstream=self.name
                )
        else:
            self._bounds_told = False

    async def drain(self, deadline_s: float) -> bool:
        """Send what is there without lingering; True once nothing is left, False when it would not go.

        Gives up as soon as delivery fails: a shutdown should not wait for a server that is away.
        """
        self._feeder.hurry = self._schedule.hurry = True
        self._wake.set()
        try:
            async with asyncio.timeout(deadline_s):
                while self._consumer.backlog:
                    if self._standing.state not in {"connected", "connecting"}:
                        return False
                    self._settled.clear()
                    try:
                        async with asyncio.timeout(_STATE_LOOK_S):
                            await self._settled.wait()
                    except TimeoutError:
                        continue  # look at the state again
        except TimeoutError:
            return not self._consumer.backlog
        finally:
            self._feeder.hurry = self._schedule.hurry = False
            if self._restored:
                await self._keep_bounds()
        return True

    # One connection

    async def _session(self) -> None:
        """Connect and deliver until the connection is lost; never returns, but raises LinkLost."""
        self._window = 1
        self._wake.set()
        sends: set[asyncio.Task[None]] = set()
        letters: set[asyncio.Task[None]] = set()
        try:
            since_s = self._spine.clock.monotonic_s() - self._connected_s
            await asyncio.sleep(max(0.0, self._connect_interval_s - since_s))
            self._connected_s = self._spine.clock.monotonic_s()
            await self._upstream.connect()
            self._standing.linked = True
            self._feeder.linked()
            if self._upstream.lasting:
                self._standing.established()
            if self._standing.error is None or not self._consumer.backlog:
                self._standing.recovered()
            async with asyncio.TaskGroup() as group:
                lost = group.create_task(self._watch(), name=f"sync-watch:{self.name}")
                feed = self._feeder.run(lambda: self._upstream.max_in_flight + 1)
                feeder = group.create_task(feed, name=f"sync-feed:{self.name}")
                beside = [lost, feeder]
                if self._losses is not None:
                    telling = self._losses.run(self._send_beside)
                    beside.append(group.create_task(telling, name=f"sync-losses:{self.name}"))
                try:
                    error = await self._pump(group, sends, letters, lost)
                    if lost.done() and sends:  # each knows best what the loss had to do with it
                        await asyncio.wait(set(sends), timeout=_CONCLUDE_S)
                finally:
                    for task in (*beside, *sends, *letters):
                        task.cancel()
        finally:
            self._standing.linked = False
            try:
                await self._upstream.disconnect()
            finally:
                self._outbox.link_lost()
                self._schedule.link_lost()
        raise error

    async def _watch(self) -> None:
        await self._upstream.lost()
        self._wake.set()

    async def _pump(
        self,
        group: asyncio.TaskGroup,
        sends: set[asyncio.Task[None]],
        letters: set[asyncio.Task[None]],
        lost: asyncio.Task[None],
    ) -> LinkLost:
        """Deal with outcomes and launch what may go; returns why when the connection is lost."""
        while True:
            self._wake.clear()
            ended = LinkLost(f"{self._upstream.name}: the connection was lost") if lost.done() else None
            for item in self._outbox:
                if item.has_outcome:
                    error = await self._deal_with(item)
                    ended = error if isinstance(error, LinkLost) else ended
            if ended is not None:
                return ended
            self._letters.await_all(self._outbox, group, letters)
            left_s = self._standing.hold_left_s
            if left_s <= 0:
                left_s = self._launch(group, sends)
            try:
                async with asyncio.timeout(left_s if left_s < inf else None):
                    await self._wake.wait()
            except TimeoutError:
                continue  # the hold is over, or there is room under a limit

    def _launch(self, group: asyncio.TaskGroup, sends: set[asyncio.Task[None]]) -> float:
        """Send what may go; how long until more may, when time alone brings it (seconds, else infinite)."""
        window = 1 if self._outbox.has_delicate else min(self._window, self._upstream.max_in_flight)
        while True:
            waiting = {
                lane: (item, item.parcel.pack)
                for lane, item in self._outbox.first_waiting().items()
                if item.parcel.pack is not None
            }
            now_s = self._spine.clock.monotonic_s()
            heads = {lane: pack.load for lane, (_, pack) in waiting.items()}
            lane, wait_s = self._schedule.choose(now_s, heads, window)
            if lane is None:
                return wait_s
            item, pack = waiting[lane]
            self._schedule.sent(now_s, lane, pack.load, heads)
            item.in_flight, item.sent_s = True, now_s
            item.alone = window == 1 and not self._beside
            task = group.create_task(self._send(item, pack), name=f"sync-send:{self.name}:{pack.first}")
            sends.add(task)
            task.add_done_callback(sends.discard)

    async def _send_beside(self, pack: Pack) -> None:
        """Send what is in no lane, within the limits of the other end."""
        now_s = self._spine.clock.monotonic_s
        while (wait_s := self._schedule.beside_wait_s(now_s(), pack.load)) > 0:  # noqa: ASYNC110 (time makes room, nobody tells)
            await asyncio.sleep(min(wait_s, _LIMIT_LOOK_S))
        self._schedule.beside(self._spine.clock.monotonic_s(), pack.load)
        self._beside += 1
        for item in self._outbox:
            item.alone = False  # should the connection break now, nobody knows at which of them
        try:
            await self._upstream.send(pack)
        finally:
            self._beside -= 1

    async def _send(self, item: Item[B], pack: Pack) -> None:
        now_s = self._spine.clock.monotonic_s
        try:
            await self._upstream.send(pack)
            item.delivered = True
            self._schedule.acknowledged(now_s(), item.lane, pack.load, item.sent_s)
        except UpstreamError as error:
            item.error = error
            self._schedule.failed(item.lane, pack.load)
            if isinstance(error, RetryLater) and (
                isinstance(error, Unanswered) or not isinstance(error, LinkLost)
            ):
                self._schedule.overloaded(now_s())
        except Exception as error:  # noqa: BLE001 (a bug in one upstream: reported, and the pack stays)
            item.error = RetryLater(f"unexpected: {describe(error)}")
            self._schedule.failed(item.lane, pack.load)
            await self._spine.errors.report(
                error, layer=SYNC, operation="send", critical=True, upstream=self.name
            )
        item.in_flight = False  # when cancelled, the connection is gone: `link_lost` sees to it
        self._wake.set()

    # Outcomes

    async def _deal_with(self, item: Item[B]) -> UpstreamError | None:
        """Act on what became of one parcel; returns the error when the parcel stays where it is."""
        error = item.error
        if isinstance(error, LinkLost):
            return error  # stays with the parcel until the connection is closed
        item.error = None
        if item.letter_durable:
            await self._put_aside(item)
        elif item.delivered:
            self._accepted(item)
        elif item.parcel.fault:
            return await self._letters.write(item, item.parcel.fault)
        elif isinstance(error, TooLarge) and item.parcel.count > 1:
            await self._cut(item)
            self._feeder.shrink(item.parcel.count // 2)
        elif isinstance(error, Rejected) and error.in_part and item.may_be_searched:
            item.taken.searches += 1
            await self._cut(item)
        elif isinstance(error, TooLarge):
            return await self._refused(item, f"one reading alone is too large: {error}")
        elif isinstance(error, Rejected):
            return await self._refused(item, str(error))
        elif error is not None:
            await self._hold(error)
            return error
        return None

    async def _cut(self, item: Item[B]) -> None:
        """Two pieces take the place of a parcel."""
        batch, records = item.taken.batch, item.parcel.records
        pieces = await self._feeder.pack(batch.device_id, batch.store_id, records, halve=True)
        self._outbox.replace(item, pieces)
        self._wake.set()

    async def _refused(self, item: Item[B], reason: str) -> UpstreamError | None:
        """Set a parcel aside that the upstream will never take; slow down when it takes none at all."""
        self._rejected_in_a_row += 1
        unheard = await self._letters.write(item, reason)
        if self._rejected_in_a_row >= REJECTED_IN_A_ROW_MAX:
            count = self._rejected_in_a_row
            await self._hold(Paused(f"{count} batches in a row were refused for good: {reason}"))
        return unheard

    def _accepted(self, item: Item[B]) -> None:
        now = self._spine.clock
        if not self._upstream.lasting and (self._standing.error is not None or self._delivered == 0):
            self._standing.established()
        self._window = self._upstream.max_in_flight
        self._rejected_in_a_row = 0
        self._feeder.grow()
        self._outbox.got_through()
        self._delivered += item.parcel.count
        item.taken.arrived += item.parcel.count
        self._last_delivery = now.now()
        self._settle(item)
        self._standing.recovered()

    def _settle(self, item: Item[B]) -> None:
        batch = self._outbox.settle(item)
        if batch is not None:
            self._consumer.ack(batch)
        self._feeder.made_room(item.lane)
        self._settled.set()
        self._wake.set()

    async def _put_aside(self, item: Item[B]) -> None:
        """A parcel's dead letter is durable: the parcel has found its end."""
        first, last, count = item.parcel.first, item.parcel.last, item.parcel.count
        self._set_aside += count
        self._standing.last_error = (
            f"readings {first} to {last} ({count}) were set aside: {item.letter_reason}"
        )
        if self._losses is not None:
            try:
                await self._losses.set_aside(item.taken.batch.store_id, first, last, count)
            except (RuntimeError, OSError) as error:  # it is told all the same, and the letter is durable
                await self._spine.errors.report(error, layer=SYNC, operation="note_aside", upstream=self.name)
        self._settle(item)
        await self._spine.errors.report(
            Rejected(self._standing.last_error), layer=SYNC, operation="deliver", upstream=self.name
        )

    async def _hold(self, error: UpstreamError, *, quietly: bool = False) -> None:
        """Send nothing for a while, and say why when that is news."""
        self._window = 1
        if self._standing.failed(error) and not quietly:
            await self._spine.errors.report(error, layer=SYNC, operation="deliver", upstream=self.name)
