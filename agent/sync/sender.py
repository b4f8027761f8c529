"""The sender: brings what the buffer holds to one upstream, for ever, and says what it is doing.

Rules:

1. A batch's bounds are frozen when it is taken. A resend is the same pack, byte for byte.
2. A batch is acknowledged to the buffer when every reading in it was acknowledged by the upstream, or set
   aside as a dead letter, durably. Nothing else moves the cursor.
3. Packs go out oldest first. After a lost connection everything unacknowledged goes again, oldest first,
   before anything new: what arrives is in order, apart from repetitions. (Where the other end may take later
   packs of a window and refuse an earlier one for now, order needs a window of one. HTTP has that.)
4. After a connection or a failure one pack goes alone; only its acknowledgement opens the window. So a server
   that refuses what it gets sees one attempt, not a window full of them. The pieces of a pack that was too
   large go one by one, too, and batches are smaller for a while.
5. What the other end will never take is set aside and blocks nobody. When that happens to several in a row,
   the fault is more likely the address or the format: each further one costs a back-off first, so that a
   mistake in the configuration cannot turn a whole backlog into dead letters quickly.
6. Everything is bounded: one pack more than the window is prepared, each wait has an end.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from agent.spine.backoff import Backoff, BackoffPolicy
from agent.spine.errors import SYNC, describe
from agent.sync.batches import B, Consumer
from agent.sync.dead_letters import DeadLetterBox, undelivered
from agent.sync.outbox import Item, Outbox
from agent.sync.packing import Packer, Parcel, parcels
from agent.sync.upstream import LinkLost, Paused, Rejected, RetryLater, TooLarge, Upstream, UpstreamError

if TYPE_CHECKING:
    from datetime import datetime

    from agent.spine.spine import Spine

_log = logging.getLogger(__name__)

REJECTED_IN_A_ROW_MAX = 3
RETRY_AFTER_MAX_S = 3600.0
"""A server that asks for more is asked again after this time: readings may have waited long enough."""
_THREAD_READINGS_MIN = 50
"""Larger batches are encoded off the loop (at 4 us a reading, 50 keep it 0.2 ms)."""
_GROWTH = 20
"""After a pack that was too large, batches grow again by a twentieth an acknowledgement."""
_IDLE_WAIT_S = 1.0
_LINGER_SLICE_S = 0.25
"""How soon a lingering sender notices that it should drain."""


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How readings are gathered into batches."""

    batch_readings: int = 1000
    batch_bytes: int = 48 * 1024
    """Bytes of stored documents in a batch. A pack is smaller when compressed (6 to 8 bytes a value)."""
    linger_s: float = 1.0
    """How long readings may gather before a batch that is not full is sent."""


@dataclass(frozen=True, slots=True)
class SenderStatus:
    """How delivery to one upstream does."""

    name: str
    state: str
    """stopped, connecting, connected, retrying (time mends it) or paused (the operator must act)."""
    since: datetime
    backlog: int
    in_flight: int
    """Readings that are taken from the buffer and not yet acknowledged."""
    delivered: int
    dead_letters: int
    """Readings set aside."""
    last_delivery: datetime | None
    last_error: str | None
    oldest: float | None
    """When the oldest reading on its way was measured (seconds UTC)."""
    holding_back: str | None
    """Why the backlog is not being delivered now, in one line; None while it is."""


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
    ) -> None:
        self.name = name
        self._consumer = consumer
        self._upstream = upstream
        self._spine = spine
        self._packer = packer
        self._backoff = Backoff(retry, spine.rng)
        self._dead_letters = dead_letters
        self._options = options
        self._outbox: Outbox[B] = Outbox()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._settled = asyncio.Event()
        self._window = 1
        self._hold_until_s = 0.0
        self._readings_max = options.batch_readings
        self._rejected_in_a_row = 0
        self._draining = False
        self._linked = False
        self._state = "stopped"
        self._since = spine.clock.now()
        self._error: UpstreamError | None = None
        self._last_error: str | None = None
        self._delivered = 0
        self._set_aside = 0
        self._last_delivery: datetime | None = None

    def start(self) -> tuple[str, asyncio.Task[None]]:
        """Run in the background; returns the id by which the task tracker knows it, and the task."""
        return self._spine.start("sync", self.run(), layer=SYNC, subject=self.name)

    @property
    def status(self) -> SenderStatus:
        """How delivery does now."""
        first = next(iter(self._outbox), None)
        backlog = self._consumer.backlog
        measured = first.parcel.records[0].document.get("t") if first else None
        return SenderStatus(
            name=self.name,
            state=self._state,
            since=self._since,
            backlog=backlog,
            in_flight=self._outbox.readings,
            delivered=self._delivered,
            dead_letters=self._set_aside,
            last_delivery=self._last_delivery,
            last_error=self._last_error,
            oldest=measured if isinstance(measured, (int, float)) else None,
            holding_back=self._holding_back(),
        )

    async def run(self) -> None:
        """Deliver until cancelled. Whatever fails, it is reported and tried again."""
        try:
            while True:
                self._enter("connecting" if self._error is None else self._state)
                try:
                    await self._session()
                except UpstreamError as error:
                    await self._hold(error)
                except Exception as error:  # noqa: BLE001 (a bug or a sick disk must not end delivery: it is reported)
                    await self._spine.errors.report(
                        error, layer=SYNC, operation="deliver", critical=True, upstream=self.name
                    )
                    await self._hold(RetryLater(f"unexpected: {describe(_innermost(error))}"), quietly=True)
                await asyncio.sleep(self._hold_left_s())
        finally:
            for batch in self._outbox.empty():
                self._consumer.release(batch)
            self._enter("stopped")

    async def drain(self, deadline_s: float) -> bool:
        """Send what is there without lingering; True once nothing is left, False when it would not go.

        Gives up as soon as delivery fails: a shutdown should not wait for a server that is away.
        """
        self._draining = True
        try:
            async with asyncio.timeout(deadline_s):
                while self._consumer.backlog:
                    if self._state not in {"connected", "connecting"}:
                        return False
                    self._settled.clear()
                    try:
                        async with asyncio.timeout(_LINGER_SLICE_S):
                            await self._settled.wait()
                    except TimeoutError:
                        continue  # look at the state again
        except TimeoutError:
            return not self._consumer.backlog
        finally:
            self._draining = False
        return True

    # One connection

    async def _session(self) -> None:
        """Connect and deliver until the connection is lost; never returns, but raises LinkLost."""
        self._window = 1
        self._wake.set()
        sends: set[asyncio.Task[None]] = set()
        try:
            await self._upstream.connect()
            self._linked = True
            if self._upstream.lasting:
                self._backoff.established(self._spine.clock.monotonic_s())
            if self._error is None or not self._consumer.backlog:
                self._recovered()
            async with asyncio.TaskGroup() as group:
                lost = group.create_task(self._watch(), name=f"sync-watch:{self.name}")
                feeder = group.create_task(self._feed(), name=f"sync-feed:{self.name}")
                try:
                    error = await self._pump(group, sends, lost)
                finally:
                    for task in (lost, feeder, *sends):
                        task.cancel()
        finally:
            self._linked = False
            await self._upstream.disconnect()
            for item in self._outbox:
                item.forget_link()
        raise error

    async def _watch(self) -> None:
        await self._upstream.lost()
        self._wake.set()

    async def _pump(
        self, group: asyncio.TaskGroup, sends: set[asyncio.Task[None]], lost: asyncio.Task[None]
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
            left_s = self._hold_left_s()
            if left_s <= 0:
                self._launch(group, sends)
            try:
                async with asyncio.timeout(left_s if left_s > 0 else None):
                    await self._wake.wait()
            except TimeoutError:
                continue  # the hold is over

    def _launch(self, group: asyncio.TaskGroup, sends: set[asyncio.Task[None]]) -> None:
        window = 1 if self._outbox.has_pieces else min(self._window, self._upstream.max_in_flight)
        while self._outbox.in_flight < window:
            item = self._outbox.next_waiting()
            if item is None or item.parcel.pack is None:
                return
            item.in_flight = True
            task = group.create_task(self._send(item), name=f"sync-send:{self.name}:{item.parcel.pack.first}")
            sends.add(task)
            task.add_done_callback(sends.discard)

    async def _send(self, item: Item[B]) -> None:
        assert item.parcel.pack is not None
        try:
            await self._upstream.send(item.parcel.pack)
            item.delivered = True
        except UpstreamError as error:
            item.error = error
        except Exception as error:  # noqa: BLE001 (a bug in one upstream: reported, and the pack stays)
            item.error = RetryLater(f"unexpected: {describe(error)}")
            await self._spine.errors.report(
                error, layer=SYNC, operation="send", critical=True, upstream=self.name
            )
        finally:
            item.in_flight = False
            self._wake.set()

    # Outcomes

    async def _deal_with(self, item: Item[B]) -> UpstreamError | None:
        """Act on what became of one parcel; returns the error when the parcel stays where it is."""
        error, item.error = item.error, None
        if item.delivered:
            self._accepted(item)
        elif item.parcel.fault:
            return await self._put_aside(item, item.parcel.fault)
        elif isinstance(error, TooLarge):
            pack = item.parcel.pack
            if pack is None or pack.count == 1:
                return await self._put_aside(item, f"one reading alone is too large: {error}")
            pieces = await self._pack(pack.device_id, pack.store_id, item.parcel, halve=True)
            self._outbox.replace(item, pieces)
            self._readings_max = pack.count // 2
            self._wake.set()
        elif isinstance(error, Rejected):
            self._rejected_in_a_row += 1
            unheard = await self._put_aside(item, str(error))
            if self._rejected_in_a_row >= REJECTED_IN_A_ROW_MAX:
                count = self._rejected_in_a_row
                await self._hold(Paused(f"{count} batches in a row were refused for good: {error}"))
            return unheard
        elif error is not None:
            if not isinstance(error, LinkLost):
                await self._hold(error)
            return error
        return None

    def _accepted(self, item: Item[B]) -> None:
        now = self._spine.clock
        if not self._upstream.lasting and (self._error is not None or self._delivered == 0):
            self._backoff.established(now.monotonic_s())
        self._window = self._upstream.max_in_flight
        self._rejected_in_a_row = 0
        grown = self._readings_max + 1 + self._readings_max // _GROWTH
        self._readings_max = min(self._options.batch_readings, grown)
        self._delivered += len(item.parcel.records)
        self._last_delivery = now.now()
        self._settle(item)
        self._recovered()

    def _settle(self, item: Item[B]) -> None:
        batch = self._outbox.settle(item)
        if batch is not None:
            self._consumer.ack(batch)
        self._room.set()
        self._settled.set()
        self._wake.set()

    async def _put_aside(self, item: Item[B], reason: str) -> UpstreamError | None:
        """Make dead letters of a parcel's readings; it stays when they cannot be kept."""
        batch = item.taken.batch
        letter = undelivered(
            item.parcel.records,
            upstream=self.name,
            device_id=batch.device_id,
            store_id=batch.store_id,
            reason=reason,
            t=self._spine.clock.now().timestamp(),
        )
        try:
            await self._dead_letters.put(letter)
        except (RuntimeError, OSError) as error:
            failure = RetryLater(f"cannot set a batch aside ({reason}): {describe(error)}")
            await self._hold(failure)
            return failure
        first, last = item.parcel.records[0].seq, item.parcel.records[-1].seq
        count = len(item.parcel.records)
        self._set_aside += count
        self._last_error = f"readings {first} to {last} ({count}) were set aside: {reason}"
        self._settle(item)
        await self._spine.errors.report(
            Rejected(self._last_error), layer=SYNC, operation="deliver", upstream=self.name
        )
        return None

    async def _hold(self, error: UpstreamError, *, quietly: bool = False) -> None:
        """Send nothing for a while, and say why when that is news."""
        paused = isinstance(error, Paused)
        news = self._error is None or isinstance(self._error, Paused) is not paused
        self._window = 1
        if not news and self._hold_left_s() > 0:
            return  # the rest of a window that failed as one
        self._hold_until_s = asyncio.get_running_loop().time() + self._delay_s(error)
        self._error, self._last_error = error, describe(error)
        self._enter("paused" if paused else "retrying")
        if news and not quietly:
            await self._spine.errors.report(error, layer=SYNC, operation="deliver", upstream=self.name)

    def _delay_s(self, error: UpstreamError) -> float:
        policy, chance = self._backoff.policy, self._spine.rng
        if isinstance(error, RetryLater) and error.retry_after_s is not None:
            # The server knows best; a quarter more, at chance, so that not all come back at once.
            asked_s = min(error.retry_after_s, RETRY_AFTER_MAX_S)
            return asked_s + chance.uniform(0, policy.base_s + asked_s / 4)
        now_s = self._spine.clock.monotonic_s()
        delay_s = self._backoff.delay_s(now_s)
        if self._upstream.lasting and self._linked and not isinstance(error, LinkLost):
            self._backoff.established(now_s)  # the connection itself still stands
        if isinstance(error, Paused):
            return max(delay_s, chance.uniform(policy.cap_s / 2, policy.cap_s))
        return delay_s

    def _recovered(self) -> None:
        if self._error is not None:
            _log.info("sync: %s delivers again", self.name)
        self._error = None
        self._enter("connected")

    # Batches

    async def _feed(self) -> None:
        """Keep one pack more prepared than may be in flight."""
        while True:
            while len(self._outbox) > self._upstream.max_in_flight:
                self._room.clear()
                await self._room.wait()
            batch = await self._next_batch()
            try:
                whole = Parcel(batch.records, None)
                pieces = await self._pack(batch.device_id, batch.store_id, whole)
            except BaseException:
                self._consumer.release(batch)
                raise
            self._outbox.add(batch, pieces)
            self._wake.set()

    async def _pack(
        self, device_id: str, store_id: str, parcel: Parcel, *, halve: bool = False
    ) -> list[Parcel]:
        records = parcel.records
        if len(records) < _THREAD_READINGS_MIN:
            return parcels(self._packer, device_id, store_id, records, halve=halve)
        return await asyncio.to_thread(parcels, self._packer, device_id, store_id, records, halve=halve)

    async def _next_batch(self) -> B:
        """The next batch: at once when it would be full, else when its readings have lingered."""
        loop = asyncio.get_running_loop()
        while True:
            if not await self._consumer.wait(_IDLE_WAIT_S):
                continue
            until_s = loop.time() + self._options.linger_s
            while self._available() < self._readings_max and not self._draining:
                left_s = until_s - loop.time()
                if left_s <= 0:
                    break
                await asyncio.sleep(min(left_s, _LINGER_SLICE_S))
            batch = await self._consumer.take(self._readings_max, self._options.batch_bytes)
            if batch is not None:
                return batch
            await asyncio.sleep(_LINGER_SLICE_S)  # ids that were no readings; never spin on them

    def _available(self) -> int:
        return self._consumer.backlog - self._outbox.readings

    # State

    def _hold_left_s(self) -> float:
        return self._hold_until_s - asyncio.get_running_loop().time()

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._since = self._spine.clock.now()

    def _holding_back(self) -> str | None:
        if self._state == "stopped":
            return "delivery is stopped"
        if self._error is None:
            return None if self._state == "connected" else f"connecting to {self._upstream.name}"
        left_s = self._hold_left_s()
        when = f"next try in {left_s:.0f} s" if left_s > 0.5 else "trying now"  # noqa: PLR2004 (rounds to 0)
        return f"{describe(self._error)}; {when}"


def _innermost(error: BaseException) -> BaseException:
    """The first real error in nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
