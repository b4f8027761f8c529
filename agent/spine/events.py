"""Events: who wants to know what happens is told, and can harm nobody by it.

Each handler has a bounded queue and, while there is something in it, a task of its own. `emit` only puts
into queues: it never waits for a handler. A handler that raises is logged and counted; one that blocks
fills its own queue, loses its own oldest events (counted), and nothing else.

A handler that subscribed to several types has one queue, so it sees all events in the order of emission.
A plain function runs on the event loop and must return at once, as anything on the loop must.
"""

import asyncio
import inspect
import logging
import uuid
from collections import deque

from collectors.enums import EventType
from collectors.interfaces import EventHandler, IEventEmitter
from collectors.models import SystemEvent

_log = logging.getLogger(__name__)


class _Subscriber:
    """One handler, its queue, and the task that delivers while the queue is not empty."""

    def __init__(self, handler: EventHandler, group: asyncio.TaskGroup, queue_max: int) -> None:
        self.handler = handler
        self.name = getattr(handler, "__qualname__", type(handler).__name__)
        self.subscriptions: set[str] = set()
        self.dropped = 0
        self.failures = 0
        self.task: asyncio.Task[None] | None = None
        self._group = group
        self._queue: deque[tuple[str, SystemEvent]] = deque(maxlen=queue_max)

    def offer(self, subscription_id: str, event: SystemEvent) -> None:
        if len(self._queue) == self._queue.maxlen:
            if not self.dropped:
                _log.warning("event handler %s is too slow; its oldest events are dropped", self.name)
            self.dropped += 1
        self._queue.append((subscription_id, event))
        if self.task is None:
            self._start()

    def cancel(self) -> None:
        self._queue.clear()
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def _start(self) -> None:
        delivery = self._deliver()
        try:
            self.task = self._group.create_task(delivery, name=f"events:{self.name}")
        except RuntimeError:  # the group has ended or is ending: nobody is there to be told
            delivery.close()
            self.dropped += len(self._queue)
            self._queue.clear()
        else:
            self.task.add_done_callback(self._ended)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self.task = None
        if self._queue:
            self._start()

    async def _deliver(self) -> None:
        while self._queue:
            subscription_id, event = self._queue.popleft()
            if subscription_id not in self.subscriptions:
                continue
            try:
                outcome = self.handler(event)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:  # noqa: BLE001 (logged and counted; it harms nobody else)
                self.failures += 1
                _log.exception("event handler %s failed on %s", self.name, event.event_type)


class EventEmitter(IEventEmitter):
    """The event emitter of the running program.

    Args:
        group: Where the tasks that run handlers live.
        queue_max: How many events a handler may be behind.
    """

    def __init__(self, group: asyncio.TaskGroup, *, queue_max: int = 1000) -> None:
        if queue_max < 1:
            raise ValueError(f"queue_max must be at least 1, not {queue_max}")
        self._group = group
        self._queue_max = queue_max
        self._by_type: dict[EventType, dict[str, _Subscriber]] = {}
        self._types: dict[str, EventType] = {}
        self._by_handler: dict[EventHandler, _Subscriber] = {}
        self._closed = False

    @property
    def dropped(self) -> int:
        """How many events the present handlers lost because they were too slow."""
        return sum(subscriber.dropped for subscriber in self._by_handler.values())

    @property
    def handler_failures(self) -> int:
        """How often the present handlers raised."""
        return sum(subscriber.failures for subscriber in self._by_handler.values())

    def has_subscribers(self, event_type: EventType) -> bool:
        """Whether anybody listens. Ask before making an event on a hot path."""
        return event_type in self._by_type

    def publish(self, event: SystemEvent) -> None:
        """As `emit`, for callers that are not coroutines: it never waits."""
        subscribers = self._by_type.get(event.event_type)
        if subscribers is None or self._closed:
            return
        for subscription_id, subscriber in subscribers.items():
            subscriber.offer(subscription_id, event)

    async def emit(self, event: SystemEvent) -> None:
        """Put the event into the queue of every subscriber of its type. Never waits for a handler."""
        self.publish(event)

    async def subscribe(self, event_type: EventType, handler: EventHandler) -> str:
        """Subscribe to a type of event; returns a subscription id.

        Raises:
            ValueError: There is no such type, or the handler cannot be called.
        """
        if not callable(handler):
            raise ValueError(f"an event handler must be callable, not {handler!r}")
        event_type = EventType(event_type)
        subscriber = self._by_handler.get(handler)
        if subscriber is None:
            subscriber = self._by_handler[handler] = _Subscriber(handler, self._group, self._queue_max)
        subscription_id = uuid.uuid4().hex
        subscriber.subscriptions.add(subscription_id)
        self._types[subscription_id] = event_type
        # Replaced, not changed: a handler may subscribe while its event is being published.
        self._by_type[event_type] = {**self._by_type.get(event_type, {}), subscription_id: subscriber}
        return subscription_id

    async def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; what is still queued for it is not delivered.

        Raises:
            KeyError: There is no such subscription.
        """
        event_type = self._types.pop(subscription_id, None)
        if event_type is None:
            raise KeyError(f"no subscription {subscription_id!r}")
        remaining = dict(self._by_type[event_type])
        subscriber = remaining.pop(subscription_id)
        if remaining:
            self._by_type[event_type] = remaining
        else:
            del self._by_type[event_type]
        subscriber.subscriptions.discard(subscription_id)
        if not subscriber.subscriptions:
            del self._by_handler[subscriber.handler]
            subscriber.cancel()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every handler has had every event; False when some are still at it after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                while tasks := self._tasks():
                    await asyncio.wait(tasks)
        except TimeoutError:
            return False
        return True

    async def close(self, timeout_s: float = 1.0) -> None:
        """Give handlers a last moment, then end them. Events emitted later go nowhere."""
        await self.drain(timeout_s)
        self._closed = True
        tasks = self._tasks()
        for subscriber in self._by_handler.values():
            subscriber.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def _tasks(self) -> set[asyncio.Task[None]]:
        current = asyncio.current_task()
        return {
            subscriber.task
            for subscriber in self._by_handler.values()
            if subscriber.task is not None and subscriber.task is not current
        }
