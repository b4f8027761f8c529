"""The spine: what every manager needs, handed around as one thing."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agent.spine.errors import ErrorFlow, describe
from agent.spine.events import EventEmitter
from agent.spine.tasks import TaskTracker
from collectors.clock import Clock, SystemClock
from collectors.enums import TaskStatus


@dataclass(frozen=True)
class Spine:
    """Events, errors, tasks, time and chance of one running program."""

    events: EventEmitter
    errors: ErrorFlow
    tasks: TaskTracker
    group: asyncio.TaskGroup
    clock: Clock
    rng: random.Random

    def start(
        self, task_type: str, work: Coroutine[Any, Any, Any], *, layer: str, subject: str
    ) -> tuple[str, asyncio.Task[None]]:
        """Run work in the background: tracked, named, and unable to bring down its siblings.

        Args:
            task_type: What the tracker calls it, such as "collection".
            work: What to run; what it returns becomes the task's result.
            layer: The layer its failure is reported under.
            subject: What it is about, for the name of the asyncio task.

        Returns:
            The id by which the tracker knows it, and the asyncio task.

        Raises:
            RuntimeError: The program is ending.
        """
        task_id = self.tasks.open(task_type)
        run = self._run(task_id, work, layer, task_type, subject)
        try:
            running = self.group.create_task(run, name=f"{task_type}:{subject}")
        except RuntimeError as error:
            run.close()
            work.close()
            self.tasks.fail(task_id, describe(error))
            raise
        running.add_done_callback(lambda _: work.close())  # if cancelled before its first step
        self.tasks.attach(task_id, running)
        return task_id, running

    async def _run(
        self, task_id: str, work: Coroutine[Any, Any, Any], layer: str, task_type: str, subject: str
    ) -> None:
        await self.tasks.update_status(task_id, TaskStatus.RUNNING)
        try:
            result = await work
        except Exception as error:  # noqa: BLE001 (reported; it must not end its siblings)
            self.tasks.fail(task_id, describe(error))
            await self.errors.report(
                error, layer=layer, operation=task_type, critical=True, subject=subject, task_id=task_id
            )
        else:
            self.tasks.complete(task_id, result)


@asynccontextmanager
async def open_spine(
    *, clock: Clock | None = None, rng: random.Random | None = None, close_timeout_s: float = 5.0
) -> AsyncIterator[Spine]:
    """A spine with a task group of its own.

    On leaving, what still runs is cancelled and awaited for `close_timeout_s`; event handlers get a second
    to finish, or that time if it is shorter. What the block itself raises leaves as it is, in no group.
    """
    clock = clock or SystemClock()
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        events = EventEmitter(group)
        spine = Spine(
            events=events,
            errors=ErrorFlow(clock, events),
            tasks=TaskTracker(clock),
            group=group,
            clock=clock,
            rng=rng or random.Random(),  # noqa: S311 (jitter needs no secrecy)
        )
        try:
            yield spine
        except Exception as error:  # noqa: BLE001 (raised again below, outside of the group)
            failure = error
        finally:
            await spine.tasks.cancel_all(close_timeout_s)
            await events.close(min(1.0, close_timeout_s))
    if failure is not None:
        raise failure
