"""What all layers share: errors, events, tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collectors.enums import ErrorType, EventType, TaskStatus
    from collectors.models import ErrorInfo, SystemEvent, TaskInfo

EventHandler = Callable[["SystemEvent"], Awaitable[Any] | Any]
"""A subscriber: a plain function, or an async one."""


class IErrorHandler(ABC):
    """Handles errors."""

    @abstractmethod
    async def handle_error(self, error: ErrorInfo) -> None:
        """Handle one error.

        Raises:
            RuntimeError: Handling failed.
        """

    @abstractmethod
    def can_handle(self, error_type: ErrorType) -> bool:
        """Whether this handler takes errors of that type."""


class IEventEmitter(ABC):
    """Tells subscribers what happened."""

    @abstractmethod
    async def emit(self, event: SystemEvent) -> None:
        """Tell all subscribers of the event's type. A subscriber that raises or blocks harms nobody."""

    @abstractmethod
    async def subscribe(self, event_type: EventType, handler: EventHandler) -> str:
        """Subscribe to a type of event; returns a subscription id."""

    @abstractmethod
    async def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription.

        Raises:
            KeyError: There is no such subscription.
        """


class ITaskTracker(ABC):
    """Knows every asynchronous operation."""

    @abstractmethod
    async def create_task(self, task_type: str) -> str:
        """Begin to track a task (such as "collection"); returns a unique id.

        Raises:
            ValueError: The type is empty.
        """

    @abstractmethod
    async def update_status(self, task_id: str, status: TaskStatus) -> None:
        """Set a task's status.

        Raises:
            KeyError: There is no such task.
        """

    @abstractmethod
    async def update_progress(self, task_id: str, progress: float) -> None:
        """Set a task's progress, 0.0 to 1.0.

        Raises:
            KeyError: There is no such task.
            ValueError: The progress is out of range.
        """

    @abstractmethod
    async def get_task_info(self, task_id: str) -> TaskInfo:
        """All that is known about a task.

        Raises:
            KeyError: There is no such task.
        """

    @abstractmethod
    async def cancel_task(self, task_id: str) -> None:
        """Mark a task as cancelled. Harmless for one that has ended.

        Raises:
            KeyError: There is no such task.
        """
