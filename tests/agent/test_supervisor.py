import asyncio
from contextlib import asynccontextmanager

from agent.spine.backoff import BackoffPolicy
from agent.spine.spine import open_spine
from agent.supervisor import supervise
from collectors.enums import ErrorType, TaskStatus
from collectors.interfaces import IErrorHandler

QUICK = BackoffPolicy(first_s=0.001, base_s=0.001, cap_s=0.002, stable_s=60)


class Handler(IErrorHandler):
    def __init__(self):
        self.errors = []

    def can_handle(self, error_type: ErrorType) -> bool:
        return True

    async def handle_error(self, error) -> None:
        self.errors.append(error)


@asynccontextmanager
async def watched_spine():
    async with open_spine() as spine:
        handler = Handler()
        spine.errors.add_handler(handler)
        yield spine, handler


async def test_what_fails_is_started_again_and_reported_once():
    runs = 0
    done = asyncio.Event()

    async def flaky() -> None:
        nonlocal runs
        runs += 1
        if runs < 5:
            raise RuntimeError("the same every time")
        done.set()

    async with watched_spine() as (spine, handler):
        task_id = supervise(spine, "sync", "cloud", flaky, layer="sync", policy=QUICK)
        await done.wait()
        while (await spine.tasks.get_task_info(task_id)).status is TaskStatus.RUNNING:
            await asyncio.sleep(0)
        assert (await spine.tasks.get_task_info(task_id)).status is TaskStatus.COMPLETED
    assert runs == 5
    assert [error.message for error in handler.errors] == ["the same every time"]
    assert handler.errors[0].layer_name == "sync"


async def test_another_failure_is_news():
    done = asyncio.Event()
    failures = iter(["a", "a", "b", "b", "a"])

    async def flaky() -> None:
        message = next(failures, None)
        if message is None:
            done.set()
            return
        raise RuntimeError(message)

    async with watched_spine() as (spine, handler):
        supervise(spine, "sync", "cloud", flaky, layer="sync", policy=QUICK)
        await done.wait()
    assert [error.message for error in handler.errors] == ["a", "b", "a"]


async def test_one_that_fails_leaves_the_others_alone():
    alive = asyncio.Event()

    async def broken() -> None:
        raise OSError("for ever")

    async def healthy() -> None:
        await asyncio.sleep(0.02)
        alive.set()
        await asyncio.Event().wait()

    async with watched_spine() as (spine, _):
        supervise(spine, "a", "broken", broken, layer="sync", policy=QUICK)
        task_id = supervise(spine, "b", "healthy", healthy, layer="sync", policy=QUICK)
        await alive.wait()
        assert (await spine.tasks.get_task_info(task_id)).status is TaskStatus.RUNNING


async def test_what_fails_while_it_is_stopped_is_not_started_again(caplog):
    runs = 0
    running = asyncio.Event()

    async def untidy() -> None:
        nonlocal runs
        runs += 1
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the link is gone")

    async with watched_spine() as (spine, handler):
        task_id = supervise(spine, "sync", "cloud", untidy, layer="sync", policy=QUICK)
        await running.wait()
        assert await spine.tasks.end_task(task_id, 5)
        assert (await spine.tasks.get_task_info(task_id)).status is TaskStatus.CANCELLED
    assert runs == 1
    assert handler.errors == []
    assert "sync cloud: the link is gone, while it was stopped" in caplog.text
