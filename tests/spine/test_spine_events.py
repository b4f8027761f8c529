import asyncio
from datetime import UTC, datetime

import pytest

from agent.spine import EventEmitter, open_spine
from collectors import EventType, SystemEvent


def event(event_type=EventType.STORAGE_START, number=0):
    return SystemEvent(event_type=event_type, timestamp=datetime.now(UTC), source="test", data={"n": number})


async def test_emitting_never_waits_for_a_handler():
    async with open_spine(close_timeout_s=0.01) as spine:
        release = asyncio.Event()

        async def slow(_event):
            await release.wait()

        await spine.events.subscribe(EventType.STORAGE_START, slow)
        for number in range(10):
            await asyncio.wait_for(spine.events.emit(event(number=number)), 1)


async def test_slow_handler_loses_its_own_oldest_events_only(caplog):
    async with asyncio.TaskGroup() as group:
        emitter = EventEmitter(group, queue_max=3)
        release = asyncio.Event()
        slow_seen, quick_seen = [], []

        async def slow(told):
            await release.wait()
            slow_seen.append(told.data["n"])

        await emitter.subscribe(EventType.STORAGE_START, slow)
        await emitter.subscribe(EventType.STORAGE_START, lambda told: quick_seen.append(told.data["n"]))
        for number in range(10):
            emitter.publish(event(number=number))
            while len(quick_seen) <= number:
                await asyncio.sleep(0)
        assert quick_seen == list(range(10))
        assert emitter.dropped == 6  # the handler holds number 0, its queue the last three
        release.set()
        assert await emitter.drain(1)
        assert slow_seen == [0, 7, 8, 9]
        assert caplog.text.count("too slow") == 1


async def test_nobody_listening_is_known_without_an_event():
    async with open_spine() as spine:
        assert not spine.events.has_subscribers(EventType.STORAGE_START)
        first = await spine.events.subscribe(EventType.STORAGE_START, print)
        second = await spine.events.subscribe(EventType.STORAGE_START, print)
        await spine.events.unsubscribe(first)
        assert spine.events.has_subscribers(EventType.STORAGE_START)
        assert not spine.events.has_subscribers(EventType.STORAGE_COMPLETE)
        await spine.events.unsubscribe(second)
        assert not spine.events.has_subscribers(EventType.STORAGE_START)


async def test_failing_handler_is_logged_counted_and_goes_on(caplog):
    async with open_spine() as spine:
        seen = []

        def moody(told):
            seen.append(told.data["n"])
            if told.data["n"] == 0:
                raise RuntimeError("bad mood")

        await spine.events.subscribe(EventType.STORAGE_START, moody)
        for number in range(3):
            spine.events.publish(event(number=number))
        assert await spine.events.drain(1)
        assert seen == [0, 1, 2]
        assert spine.events.handler_failures == 1
        assert "bad mood" in caplog.text


async def test_same_handler_twice_is_told_twice():
    async with open_spine() as spine:
        seen = []
        for _ in range(2):
            await spine.events.subscribe(EventType.STORAGE_START, seen.append)
        spine.events.publish(event())
        assert await spine.events.drain(1)
        assert len(seen) == 2


async def test_unsubscribing_ends_a_blocked_handler():
    async with asyncio.TaskGroup() as group:
        emitter = EventEmitter(group)
        ended = asyncio.Event()

        async def blocked(_event):
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        subscription = await emitter.subscribe(EventType.STORAGE_START, blocked)
        emitter.publish(event())
        await asyncio.sleep(0)
        assert not await emitter.drain(0.01)
        await emitter.unsubscribe(subscription)
        await asyncio.wait_for(ended.wait(), 1)
    # The task group could end: no task is left behind.


async def test_closing_ends_blocked_handlers_and_silences_later_events():
    async with asyncio.TaskGroup() as group:
        emitter = EventEmitter(group)
        seen = []

        async def blocked(_event):
            await asyncio.Event().wait()

        await emitter.subscribe(EventType.STORAGE_START, blocked)
        await emitter.subscribe(EventType.STORAGE_COMPLETE, seen.append)
        emitter.publish(event())
        emitter.publish(event(EventType.STORAGE_COMPLETE))
        await emitter.close(0.01)
        assert len(seen) == 1
        emitter.publish(event(EventType.STORAGE_COMPLETE))
        assert await emitter.drain(1)
        assert len(seen) == 1


async def test_event_after_the_group_ended_is_lost_and_counted():
    async with asyncio.TaskGroup() as group:
        emitter = EventEmitter(group)
        await emitter.subscribe(EventType.STORAGE_START, print)
    emitter.publish(event())
    assert emitter.dropped == 1


async def test_handlers_run_in_named_tasks():
    async with open_spine() as spine:
        names = []

        async def note(_event):
            names.append(asyncio.current_task().get_name())

        await spine.events.subscribe(EventType.STORAGE_START, note)
        spine.events.publish(event())
        assert await spine.events.drain(1)
        assert names[0].startswith("events:")
        assert "note" in names[0]


async def test_queue_must_hold_something():
    async with asyncio.TaskGroup() as group:
        with pytest.raises(ValueError, match="queue_max"):
            EventEmitter(group, queue_max=0)


async def test_what_is_queued_for_an_ended_subscription_is_not_delivered():
    async with open_spine() as spine:
        seen = []
        ended = await spine.events.subscribe(EventType.STORAGE_START, seen.append)
        await spine.events.subscribe(EventType.STORAGE_COMPLETE, seen.append)
        spine.events.publish(event(EventType.STORAGE_START))
        spine.events.publish(event(EventType.STORAGE_COMPLETE))
        await spine.events.unsubscribe(ended)
        assert await spine.events.drain(1)
        assert [told.event_type for told in seen] == [EventType.STORAGE_COMPLETE]
