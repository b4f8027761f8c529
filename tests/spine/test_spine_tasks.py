import asyncio

import pytest

from agent.spine import TaskTracker, open_spine
from collectors import SystemClock, TaskStatus
from collectors.mocks import MockErrorHandler


async def ended(spine, task_id):
    async with asyncio.timeout(5):
        while (info := await spine.tasks.get_task_info(task_id)).completed_at is None:
            await asyncio.sleep(0)
    return info


async def test_only_the_newest_ended_tasks_are_remembered():
    tracker = TaskTracker(SystemClock(), ended_max=2)
    live = await tracker.create_task("live")
    ids = [await tracker.create_task("short") for _ in range(4)]
    for task_id in ids:
        tracker.complete(task_id, "done")
    assert [info.task_id for info in tracker.list_tasks()] == [ids[2], ids[3], live]
    with pytest.raises(KeyError):
        await tracker.get_task_info(ids[0])
    assert (await tracker.get_task_info(ids[3])).result == "done"


async def test_failure_in_the_background_is_reported_and_harms_no_sibling():
    async with open_spine() as spine:
        handler = MockErrorHandler()
        spine.errors.add_handler(handler)
        release = asyncio.Event()

        async def fail():
            raise ZeroDivisionError("division by zero")

        async def survive():
            await release.wait()
            return 7

        sibling, _ = spine.start("sync", survive(), layer="sync", subject="cloud")
        failing, _ = spine.start("sync", fail(), layer="sync", subject="broken")
        info = await ended(spine, failing)
        assert (info.status, info.error) == (TaskStatus.FAILED, "division by zero")
        release.set()
        info = await ended(spine, sibling)
        assert (info.status, info.result, info.progress) == (TaskStatus.COMPLETED, 7, 1.0)
        assert [(e.layer_name, e.details["subject"], e.is_critical) for e in handler.errors] == [
            ("sync", "broken", True)
        ]


async def test_cancelling_a_task_reaches_what_runs_it():
    async with open_spine() as spine:
        cleaned = []

        async def work():
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(asyncio.current_task().get_name())

        task_id, running = spine.start("sync", work(), layer="sync", subject="cloud")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await spine.tasks.cancel_task(task_id)
        await asyncio.wait({running}, timeout=1)
        assert cleaned == ["sync:cloud"]
        info = await spine.tasks.get_task_info(task_id)
        assert (info.status, info.error) == (TaskStatus.CANCELLED, None)
        await spine.tasks.cancel_task(task_id)


async def test_task_cancelled_before_its_first_step_is_settled():
    async with open_spine() as spine:
        ran = []

        async def work():
            ran.append(1)

        task_id, running = spine.start("sync", work(), layer="sync", subject="cloud")
        running.cancel()
        assert (await ended(spine, task_id)).status is TaskStatus.CANCELLED
        assert not ran


async def test_leaving_the_spine_cancels_what_runs():
    async with open_spine() as spine:
        task_id, _ = spine.start("sync", asyncio.Event().wait(), layer="sync", subject="cloud")
        await asyncio.sleep(0)
    assert (await spine.tasks.get_task_info(task_id)).status is TaskStatus.CANCELLED


async def test_nothing_starts_in_a_program_that_has_ended():
    async with open_spine() as spine:
        pass

    async def work():
        pass

    with pytest.raises(RuntimeError):
        spine.start("sync", work(), layer="sync", subject="cloud")
    assert [info.status for info in spine.tasks.list_tasks()] == [TaskStatus.FAILED]


async def test_what_nobody_ends_is_ended_by_its_asyncio_task():
    async with asyncio.TaskGroup() as group:
        tracker = TaskTracker(SystemClock())
        good, bad = await tracker.create_task("a"), await tracker.create_task("b")

        async def work():
            pass

        async def fail():
            raise ValueError

        loop = asyncio.get_running_loop()
        tracker.attach(good, group.create_task(work()))
        tracker.attach(bad, loop.create_task(fail()))
        with pytest.raises(KeyError):
            tracker.attach("unknown", loop.create_task(work()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await tracker.get_task_info(good)).status is TaskStatus.COMPLETED
        info = await tracker.get_task_info(bad)
        assert (info.status, info.error) == (TaskStatus.FAILED, "ValueError")


async def test_cancelling_everything_says_whether_all_ended():
    async with open_spine(close_timeout_s=0.05) as spine:
        stubborn = asyncio.Event()

        async def work():
            while not stubborn.is_set():
                try:
                    await stubborn.wait()
                except asyncio.CancelledError:
                    if stubborn.is_set():
                        raise

        spine.start("sync", work(), layer="sync", subject="stubborn")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not await spine.tasks.cancel_all(0.01)
        stubborn.set()
        assert await spine.tasks.cancel_all(1)
