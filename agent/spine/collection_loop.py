"""One collection task: the loop that connects, collects, hands on, and begins anew when anything fails."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from agent.spine.backoff import Backoff
from agent.spine.cancellation import is_being_cancelled
from agent.spine.errors import COLLECTION, describe
from agent.spine.hearing import Hearing
from agent.spine.spine import Spine
from collectors.enums import EventType
from collectors.interfaces import IDataSource, Reappearing
from collectors.metadata_keys import ACK_TOKEN, SENSOR
from collectors.models import CollectedData, SystemEvent
from collectors.registration import SourceRegistration

_log = logging.getLogger(__name__)

Sink = Callable[[CollectedData], Awaitable[str | None]]
"""Takes one sample; returns why it was garbage, None when it was not. While it waits, the source waits: that is the
back-pressure."""

Sleep = Callable[[float], Awaitable[None]]
"""Waits that many seconds."""

LinkState = Literal["connecting", "connected", "failing", "stopped"]

LINK_DOWN, SILENT, GARBAGE = "link_down", "silent", "garbage"
"""What can be wrong with a source: the detail `condition` of an error that is about one of these."""

CLOSE_TIMEOUT_S = 5.0
"""A source that cannot disconnect within this time is left behind, and that is logged."""
_FAIR_ITEMS = 16
"""After so many samples without a pause the event loop gets its turn: neither a source with a full queue nor
a sink with room need ever wait. What else goes on (handing one batch to an upstream takes ten turns) is as slow
as these turns are long."""


@dataclass(slots=True)
class SourceLink:
    """How a source is doing, for people to look at."""

    source_id: str
    state: LinkState
    since: datetime
    """When it came into this state."""
    last_error: str | None = None
    frames: int = 0
    """Samples since it was registered."""
    failures: int = 0
    """Failed attempts, lost connections, invalid samples and samples the sink did not take."""
    last_data: datetime | None = None
    """The time of the newest sample."""

    def change(self, state: LinkState, now: datetime) -> None:
        """Note a state; `since` is when it was new."""
        if state != self.state:
            self.state = state
            self.since = now


@dataclass(slots=True)
class CollectedSource:
    """A registered source, its link, and what was collected from it."""

    source: IDataSource
    registration: SourceRegistration
    link: SourceLink
    backoff: Backoff
    hearing: Hearing = field(default_factory=Hearing)
    successes: int = 0
    processing_s: float = 0.0
    last_collection: datetime | None = None


class CollectionLoop:
    """The loop that never gives up on a source.

    Args:
        spine: Events, errors, time.
        sink: Takes every sample.
        sleep: Waits between attempts and between polls.
        entry: The source.
    """

    def __init__(self, spine: Spine, sink: Sink, sleep: Sleep, entry: CollectedSource) -> None:
        self.task_id = ""
        self._spine = spine
        self._sink = sink
        self._sleep = sleep
        self._entry = entry
        self._source = entry.source
        self._source_id = entry.link.source_id
        self._unfair = 0
        self._sink_fails = False
        self._told: tuple[str, int] | None = None
        """The failure that was reported last, and the samples until then."""
        self._good_news_due = False

    async def run(self) -> int:
        """Collect until the source has no more, or cancellation; the number of samples since it was registered."""
        while True:
            try:
                await self._session()
            except Exception as error:
                if is_being_cancelled():
                    # What a driver raises as it cleans up must not take the place of the cancellation.
                    _log.warning("source %s: %s, while it was stopped", self._source_id, describe(error))
                    raise asyncio.CancelledError from error
                await self._failed(error)
            else:
                return self._entry.link.frames
            await self._pause(self._entry.backoff.delay_s(self._spine.clock.monotonic_s()))

    async def _pause(self, delay_s: float) -> None:
        """Wait for so long, or until what was unplugged is plugged in again."""
        if not isinstance(self._source, Reappearing):
            await self._sleep(delay_s)
            return
        async with asyncio.TaskGroup() as group:
            waits = {
                group.create_task(self._back_off(delay_s), name=f"back-off:{self._source_id}"),
                group.create_task(self._reappeared(self._source), name=f"reappeared:{self._source_id}"),
            }
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _back_off(self, delay_s: float) -> None:
        await self._sleep(delay_s)

    async def _reappeared(self, source: Reappearing) -> None:
        try:
            await source.reappeared()
        except Exception as error:  # noqa: BLE001 (whatever a driver raises: the back-off goes on)
            _log.warning("source %s: does not tell when it is back: %s", self._source_id, describe(error))
            await asyncio.Event().wait()

    async def _session(self) -> None:
        """One connection, from connect to disconnect; returns when the source has no more."""
        registration = self._entry.registration
        try:
            await self._connect()
            if registration.interval_s is None:
                await self._stream()
            else:
                await self._poll(registration.interval_s)
        finally:
            self._entry.hearing.end(self._spine.clock.monotonic_s())
            await self._disconnect()
        if registration.when_stream_ends == "reconnect":
            raise ConnectionError("the stream ended")

    async def _connect(self) -> None:
        limit_s = self._entry.registration.connect_timeout_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                await self._source.connect()
        except TimeoutError as error:
            if limit.expired():
                raise ConnectionError(f"not connected within {limit_s:g} s") from error
            raise
        self._entry.backoff.established(self._spine.clock.monotonic_s())
        if self._good_news_due:
            self._good_news_due = False
            _log.info("source %s is connected again", self._source_id)
        self._entry.link.last_error = None
        self._entry.link.change("connected", self._spine.clock.now())
        self._entry.hearing.begin(self._spine.clock.monotonic_s())

    async def _stream(self) -> None:
        stream = self._source.collect_stream()
        try:
            async for data in stream:
                if self._spine.events.has_subscribers(EventType.COLLECTION_START):
                    self._tell(EventType.COLLECTION_START)
                await self._accept(data)
        finally:
            if inspect.isasyncgen(stream):
                # Left to the garbage collector, its clean-up would come at any time, or never.
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await stream.aclose()

    async def _poll(self, interval_s: float) -> None:
        due_s = self._spine.clock.monotonic_s()
        while True:
            if self._spine.events.has_subscribers(EventType.COLLECTION_START):
                self._tell(EventType.COLLECTION_START)
            try:
                data = await self._source.collect()
            except ValueError as error:  # this sample is bad; the connection is not
                await self._spoiled(error, "collect")
            else:
                await self._accept(data)
            now_s = self._spine.clock.monotonic_s()
            due_s += interval_s
            if due_s < now_s:  # too slow: leave out what was missed instead of catching up in a burst
                due_s += (now_s - due_s) // interval_s * interval_s + interval_s
            await self._sleep(due_s - now_s)

    async def _accept(self, data: CollectedData) -> None:
        entry, clock = self._entry, self._spine.clock
        begun_s = clock.monotonic_s()
        entry.link.frames += 1
        entry.link.last_data = data.timestamp
        if entry.hearing.hear(begun_s, data.metadata.get(SENSOR)):
            _log.info("source %s is heard again", self._source_id)
        if self._spine.events.has_subscribers(EventType.COLLECTION_COMPLETE):
            self._tell(EventType.COLLECTION_COMPLETE, size_bytes=len(data.raw_data))
        try:
            garbage = await self._sink(data)
        except Exception as error:
            if ACK_TOKEN in data.metadata:
                # Acknowledgements leave in order, so the one missing here would hold up all later ones for
                # ever. Only a new connection brings the sample again.
                raise
            # What takes the samples has failed, not the source: reconnecting would not help.
            await self._not_taken(error)
        else:
            self._sink_fails = False
            if entry.hearing.judge(garbage):
                await self._judged()
            entry.successes += 1
            entry.processing_s += clock.monotonic_s() - begun_s
            entry.last_collection = data.timestamp
        self._unfair += 1
        if self._unfair >= _FAIR_ITEMS:
            self._unfair = 0
            await asyncio.sleep(0)

    async def _disconnect(self) -> None:
        limit = asyncio.timeout(CLOSE_TIMEOUT_S)
        try:
            async with limit:
                await self._source.disconnect()
        except asyncio.CancelledError:
            # In a task that is being cancelled, Python before 3.11.3 (Debian 12 has 3.11.2) lets the time-out's
            # own cancellation out instead of a TimeoutError. The task's goes on after this in either case.
            if not limit.expired():
                raise
            _log.warning("source %s: disconnect failed: TimeoutError", self._source_id)
        except Exception as error:  # noqa: BLE001 (logged; the next connect shows whether it matters)
            # What is wrong with the link was reported; that it cannot even be closed goes to the log.
            _log.warning("source %s: disconnect failed: %s", self._source_id, describe(error))

    async def _failed(self, error: Exception) -> None:
        """Count a failure; report it when it is news: another error, or the first one since something came.

        A device that is silent is connected again and again, and each time as silent as before.
        """
        link = self._entry.link
        message = describe(error)
        news = self._told != (message, link.frames)
        link.failures += 1
        link.last_error = message
        operation = "collect" if link.state == "connected" else "connect"
        self._entry.link.change("failing", self._spine.clock.now())
        if news:
            self._told = message, link.frames
            self._good_news_due = True
            await self._report(error, operation, condition=LINK_DOWN)

    async def _spoiled(self, error: Exception, operation: str) -> None:
        self._entry.link.failures += 1
        self._entry.link.last_error = describe(error)
        hearing = self._entry.hearing
        hearing.hear(self._spine.clock.monotonic_s(), None)
        await self._report(error, operation, condition=GARBAGE)
        if hearing.judge(describe(error)):
            await self._judged()

    async def _not_taken(self, error: Exception) -> None:
        first, self._sink_fails = not self._sink_fails, True
        self._entry.link.failures += 1
        self._entry.link.last_error = describe(error)
        if first:
            await self._report(error, "deliver", critical=True)

    async def _judged(self) -> None:
        """What the source says has turned into garbage, or is good again."""
        hearing = self._entry.hearing
        if not hearing.garbage:
            _log.info("source %s sends good data again", self._source_id)
            return
        message = f"nothing but garbage: {hearing.garbage_run} samples in a row, the newest: {hearing.garbage_reason}"
        await self._report(ValueError(message), "decode", condition=GARBAGE)

    async def _report(
        self, error: Exception, operation: str, *, critical: bool = False, condition: str | None = None
    ) -> None:
        await self._spine.errors.report(
            error,
            layer=COLLECTION,
            operation=operation,
            critical=critical,
            source_id=self._source_id,
            task_id=self.task_id,
            condition=condition,
        )

    def _tell(self, event_type: EventType, **data: object) -> None:
        self._spine.events.publish(
            SystemEvent(
                event_type=event_type,
                timestamp=self._spine.clock.now(),
                source="collection_manager",
                data={"source_id": self._source_id, "task_id": self.task_id, **data},
            )
        )
