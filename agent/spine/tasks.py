"""The task tracker: knows every asynchronous operation, by a unique id, until well after it has ended.

Its memory is bounded: of the tasks that have ended only the newest are kept.
"""

import asyncio
import uuid
from collections import OrderedDict
from typing import Any

from collectors.clock import Clock
from collectors.enums import TaskStatus
from collectors.interfaces import ITaskTracker
from collectors.models import TaskInfo
from collectors.registration import check_progress, check_task_type

_ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


class TaskTracker(ITaskTracker):
    """The task tracker of the running program. A task that has ended stays as it ended.

    Args:
        clock: Stamps the tasks.
        ended_max: How many ended tasks are remembered.
    """

    def __init__(self, clock: Clock, *, ended_max: int = 1000) -> None:
        self._clock = clock
        self._ended_max = ended_max
        self._live: dict[str, TaskInfo] = {}
        self._ended: OrderedDict[str, TaskInfo] = OrderedDict()
        self._running: dict[str, asyncio.Task[Any]] = {}

    async def create_task(self, task_type: str) -> str:
        """Begin to track a task; returns a unique id.

        Raises:
            ValueError: The type is empty.
        """
        return self.open(task_type)

    async def update_status(self, task_id: str, status: TaskStatus) -> None:
        """Set a task's status.

        Raises:
            KeyError: There is no such task.
        """
        self._set_status(task_id, TaskStatus(status))

    async def update_progress(self, task_id: str, progress: float) -> None:
        """Set a task's progress, 0.0 to 1.0.

        Raises:
            KeyError: There is no such task.
            ValueError: The progress is out of range.
        """
        info = self._info(task_id)
        progress = check_progress(progress)
        if info.status not in _ENDED:
            info.progress = progress

    async def get_task_info(self, task_id: str) -> TaskInfo:
        """All that is known about a task.

        Raises:
            KeyError: There is no such task.
        """
        return self._info(task_id).model_copy()

    async def end_task(self, task_id: str, timeout_s: float) -> bool:
        """Cancel a task and wait for its end; False when it outlived the time. Harmless for one that has ended.

        Raises:
            KeyError: There is no such task.
        """
        running = self._running.get(task_id)
        await self.cancel_task(task_id)
        if running is None:
            return True
        _, pending = await asyncio.wait({running}, timeout=timeout_s)
        return not pending

    async def cancel_task(self, task_id: str) -> None:
        """Cancel a task: what runs it is told to stop. Harmless for one that has ended.

        Raises:
            KeyError: There is no such task.
        """
        info = self._info(task_id)
        if info.status in _ENDED:
            return
        running = self._running.get(task_id)
        self._set_status(task_id, TaskStatus.CANCELLED)
        if running is not None:
            running.cancel()

    def open(self, task_type: str) -> str:
        """As `create_task`, for callers that are not coroutines."""
        check_task_type(task_type)
        task_id = uuid.uuid4().hex
        self._live[task_id] = TaskInfo(
            task_id=task_id, task_type=task_type, status=TaskStatus.PENDING, created_at=self._clock.now()
        )
        return task_id

    def attach(self, task_id: str, running: asyncio.Task[Any]) -> None:
        """Say what runs a task, so that `cancel_task` reaches it and its end is noticed in any case.

        Raises:
            KeyError: There is no such task, or it has ended.
        """
        if task_id not in self._live:
            raise KeyError(f"no task {task_id!r} that has not ended")
        self._running[task_id] = running
        running.add_done_callback(lambda ended: self._settle(task_id, ended))

    def complete(self, task_id: str, result: Any = None) -> None:
        """End a task with its result.

        Raises:
            KeyError: There is no such task.
        """
        info = self._info(task_id)
        if info.status not in _ENDED:
            info.result = result
        self._set_status(task_id, TaskStatus.COMPLETED)

    def fail(self, task_id: str, error: str) -> None:
        """End a task with an error.

        Raises:
            KeyError: There is no such task.
        """
        info = self._info(task_id)
        if info.status not in _ENDED:
            info.error = error
        self._set_status(task_id, TaskStatus.FAILED)

    def list_tasks(self) -> list[TaskInfo]:
        """All that is known: ended tasks first, then live ones, each oldest first."""
        return [info.model_copy() for info in (*self._ended.values(), *self._live.values())]

    async def cancel_all(self, timeout_s: float) -> bool:
        """Cancel everything that runs and wait for its end; False when some outlived the time."""
        for task_id in list(self._running):
            await self.cancel_task(task_id)
        running = {task for task in self._running.values() if task is not asyncio.current_task()}
        if not running:
            return True
        _, pending = await asyncio.wait(running, timeout=timeout_s)
        return not pending

    def _info(self, task_id: str) -> TaskInfo:
        info = self._live.get(task_id) or self._ended.get(task_id)
        if info is None:
            raise KeyError(f"no task {task_id!r}")
        return info

    def _set_status(self, task_id: str, status: TaskStatus) -> None:
        info = self._info(task_id)
        if info.status in _ENDED:
            return
        now = self._clock.now()
        info.status = status
        if status is TaskStatus.RUNNING and info.started_at is None:
            info.started_at = now
        if status in _ENDED:
            info.completed_at = now
            if status is TaskStatus.COMPLETED:
                info.progress = 1.0
            self._ended[task_id] = self._live.pop(task_id)
            while len(self._ended) > self._ended_max:
                self._ended.popitem(last=False)

    def _settle(self, task_id: str, ended: asyncio.Task[Any]) -> None:
        """A task that was cancelled before its first step, or that nobody ended, ends here."""
        self._running.pop(task_id, None)
        if task_id not in self._live:
            return
        if ended.cancelled():
            self._set_status(task_id, TaskStatus.CANCELLED)
        elif (error := ended.exception()) is not None:
            self.fail(task_id, str(error) or type(error).__name__)
        else:
            self.complete(task_id)
