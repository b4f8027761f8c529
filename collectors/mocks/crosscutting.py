"""Mocks of what all layers share, and the error flow that the mock managers go through."""

import asyncio
import inspect
import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from collectors.enums import ErrorType, EventType, TaskStatus
from collectors.interfaces import EventHandler, IErrorHandler, IEventEmitter, ITaskTracker
from collectors.mocks.faults import Faults
from collectors.models import ErrorInfo, SystemEvent, TaskInfo
from collectors.registration import check_progress, check_task_type

_ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


class MockErrorHandler(Faults, IErrorHandler):
    """Keeps the errors it is given.

    Args:
        error_types: The types it can handle; all of them by default.
    """

    def __init__(self, error_types: Iterable[ErrorType] = tuple(ErrorType)) -> None:
        super().__init__()
        self.error_types = frozenset(error_types)
        self.errors: list[ErrorInfo] = []
        """What it handled, in order."""

    async def handle_error(self, error: ErrorInfo) -> None:
        """Keep the error.

        Raises:
            RuntimeError: If so injected.
        """
        self._enter("handle_error")
        self.errors.append(error)

    def can_handle(self, error_type: ErrorType) -> bool:
        """Whether it is one of the types given at construction."""
        return error_type in self.error_types


class MockEventEmitter(Faults, IEventEmitter):
    """Keeps the events and calls the subscribers one after the other, within `emit`.

    Args:
        patience_s: A handler that takes longer is cancelled.
    """

    def __init__(self, patience_s: float = 0.05) -> None:
        super().__init__()
        self.patience_s = patience_s
        self.events: list[SystemEvent] = []
        """What was emitted, in order, subscribed to or not."""
        self.handler_errors: list[Exception] = []
        """What handlers raised; a TimeoutError for one that was cancelled."""
        self._subscriptions: dict[str, tuple[EventType, EventHandler]] = {}
        self._numbers = itertools.count(1)

    def emitted(self, event_type: EventType) -> list[SystemEvent]:
        """The events of a type, in order."""
        return [event for event in self.events if event.event_type is event_type]

    async def emit(self, event: SystemEvent) -> None:
        """Keep the event and tell every subscriber of its type."""
        self._enter("emit")
        self.events.append(event)
        for event_type, handler in list(self._subscriptions.values()):
            if event_type is event.event_type:
                try:
                    await self._call(handler, event)
                except Exception as error:  # noqa: BLE001 (kept for the test to see; it harms nobody else)
                    self.handler_errors.append(error)

    async def subscribe(self, event_type: EventType, handler: EventHandler) -> str:
        """Subscribe to a type of event; returns a subscription id.

        Raises:
            ValueError: There is no such type, or the handler cannot be called.
        """
        self._enter("subscribe")
        if not callable(handler):
            raise ValueError(f"an event handler must be callable, not {handler!r}")
        subscription_id = f"subscription-{next(self._numbers)}"
        self._subscriptions[subscription_id] = (EventType(event_type), handler)
        return subscription_id

    async def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription.

        Raises:
            KeyError: There is no such subscription.
        """
        self._enter("unsubscribe")
        if self._subscriptions.pop(subscription_id, None) is None:
            raise KeyError(f"no subscription {subscription_id!r}")

    async def _call(self, handler: EventHandler, event: SystemEvent) -> None:
        outcome = handler(event)
        if inspect.isawaitable(outcome):
            async with asyncio.timeout(self.patience_s):
                await outcome


class MockTaskTracker(Faults, ITaskTracker):
    """Keeps every task for ever. A task that has ended stays as it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[str, TaskInfo] = {}
        """Everything that was ever tracked."""
        self._numbers = itertools.count(1)

    async def create_task(self, task_type: str) -> str:
        """Begin to track a task; returns a unique id.

        Raises:
            ValueError: The type is empty.
        """
        self._enter("create_task")
        check_task_type(task_type)
        task_id = f"task-{next(self._numbers)}"
        self.tasks[task_id] = TaskInfo(
            task_id=task_id, task_type=task_type, status=TaskStatus.PENDING, created_at=datetime.now(UTC)
        )
        return task_id

    async def update_status(self, task_id: str, status: TaskStatus) -> None:
        """Set a task's status.

        Raises:
            KeyError: There is no such task.
        """
        self._enter("update_status")
        self._end(task_id, TaskStatus(status))

    async def update_progress(self, task_id: str, progress: float) -> None:
        """Set a task's progress, 0.0 to 1.0.

        Raises:
            KeyError: There is no such task.
            ValueError: The progress is out of range.
        """
        self._enter("update_progress")
        info = self._info(task_id)
        progress = check_progress(progress)
        if info.status not in _ENDED:
            info.progress = progress

    async def get_task_info(self, task_id: str) -> TaskInfo:
        """All that is known about a task.

        Raises:
            KeyError: There is no such task.
        """
        self._enter("get_task_info")
        return self._info(task_id).model_copy()

    async def cancel_task(self, task_id: str) -> None:
        """Mark a task as cancelled. Harmless for one that has ended.

        Raises:
            KeyError: There is no such task.
        """
        self._enter("cancel_task")
        self._end(task_id, TaskStatus.CANCELLED)

    def finish(self, task_id: str, *, result: Any = None, error: str | None = None) -> None:
        """End a task with its result, or with an error.

        Raises:
            KeyError: There is no such task.
        """
        info = self._info(task_id)
        if info.status not in _ENDED:
            info.result, info.error = result, error
            self._end(task_id, TaskStatus.COMPLETED if error is None else TaskStatus.FAILED)

    def _info(self, task_id: str) -> TaskInfo:
        try:
            return self.tasks[task_id]
        except KeyError:
            raise KeyError(f"no task {task_id!r}") from None

    def _end(self, task_id: str, status: TaskStatus) -> None:
        info = self._info(task_id)
        if info.status in _ENDED:
            return
        now = datetime.now(UTC)
        info.status = status
        if status is TaskStatus.RUNNING and info.started_at is None:
            info.started_at = now
        if status in _ENDED:
            info.completed_at = now
        if status is TaskStatus.COMPLETED:
            info.progress = 1.0


class Surroundings:
    """What a mock manager reports to: events, tasks and error handlers, all of them mocks by default.

    Give several managers the same surroundings to see what they do together.
    """

    def __init__(
        self,
        *,
        events: IEventEmitter | None = None,
        tasks: MockTaskTracker | None = None,
        handlers: Iterable[IErrorHandler] = (),
    ) -> None:
        self.events = events or MockEventEmitter()
        self.tasks = tasks or MockTaskTracker()
        self.handlers = list(handlers)
        self.errors: list[ErrorInfo] = []
        """Every error that was reported, in order."""

    async def tell(self, event_type: EventType, source: str, **data: Any) -> None:
        """Emit an event."""
        await self.events.emit(
            SystemEvent(event_type=event_type, timestamp=datetime.now(UTC), source=source, data=data)
        )

    async def report(
        self,
        error: Exception,
        *,
        layer: str,
        operation: str,
        error_type: ErrorType,
        critical: bool = False,
        **details: Any,
    ) -> ErrorInfo:
        """Take an error through the flow: ErrorInfo, every handler that can handle it, ERROR_OCCURRED."""
        if isinstance(error, ConnectionError):
            error_type = ErrorType.CONNECTION
        elif isinstance(error, ValueError) and error_type is not ErrorType.CONFIGURATION:
            error_type = ErrorType.VALIDATION
        info = ErrorInfo(
            error_type=error_type,
            timestamp=datetime.now(UTC),
            layer_name=layer,
            operation=operation,
            message=str(error) or type(error).__name__,
            details={"exception": type(error).__name__, **details},
            is_critical=critical,
        )
        self.errors.append(info)
        for handler in self.handlers:
            try:
                if handler.can_handle(info.error_type):
                    await handler.handle_error(info)
            except Exception as failure:  # noqa: BLE001 (noted in the error; the next handler has its turn)
                info.details.setdefault("handler_errors", []).append(str(failure))
        await self.tell(EventType.ERROR_OCCURRED, layer, error=info.message, info=info)
        return info
