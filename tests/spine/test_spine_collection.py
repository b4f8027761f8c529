import asyncio
from datetime import UTC, datetime

import pytest

from agent.spine import collection as collection_module
from agent.spine import collection_loop
from collectors import (
    CollectedData,
    CollectionStatus,
    ErrorType,
    EventType,
    IDataSource,
    TaskStatus,
)
from collectors.metadata_keys import ACK_TOKEN
from collectors.mocks import MockDataSource
from tests.rigs.collection_manager import manager


def sample(source_id="soil"):
    return CollectedData(
        source_id=source_id,
        timestamp=datetime.now(UTC),
        data_format="json",
        collection_method="test",
        raw_data=b"{}",
    )


class Scripted(IDataSource):
    """A source that does what its script says: one list of items a connection, ending with an error or not."""

    def __init__(self, *connections, source_id="soil"):
        self.connections = list(connections)
        self.source_id = source_id
        self.connects = self.disconnects = self.closed = 0

    async def connect(self):
        self.connects += 1
        if not self.connections:
            await asyncio.Event().wait()
        if isinstance(self.connections[0], Exception):
            raise self.connections.pop(0)

    async def disconnect(self):
        self.disconnects += 1

    async def collect(self):
        raise NotImplementedError

    async def collect_stream(self):
        try:
            for item in self.connections.pop(0):
                if isinstance(item, Exception):
                    raise item
                yield sample(self.source_id)
        finally:
            self.closed += 1

    def get_source_id(self):
        return self.source_id


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_it_never_gives_up_and_reports_each_change_once():
    source = Scripted(
        ConnectionError("no such port"),
        ConnectionError("no such port"),
        ConnectionError("no such port"),
        [1, 2, ConnectionError("unplugged")],
        ConnectionError("unplugged"),
        [3],
    )
    async with manager() as collection:
        await collection.register_source(source, {})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").state == "stopped")
        assert [error.message for error in collection.errors] == ["no such port", "unplugged"]
        assert [error.operation for error in collection.errors] == ["connect", "collect"]
        link = collection.link("soil")
        assert (link.frames, link.failures, link.last_error) == (3, 5, None)
        # Doubling while it fails; the drop within stable_s goes on where the attempts were, at first_s least.
        assert collection.clock.waits == [1, 2, 4, 8, 8]
        assert source.connects == source.disconnects == 6
        assert source.closed == 2


class Pluggable(Scripted):
    def __init__(self, *connections, plugged):
        super().__init__(*connections)
        self.plugged = plugged
        self.watches = 0

    async def reappeared(self):
        self.watches += 1
        await self.plugged()


async def never(_delay_s=0.0):
    await asyncio.Event().wait()


async def test_what_is_plugged_in_again_need_not_wait_for_the_next_attempt():
    came_back = asyncio.Event()
    source = Pluggable(ConnectionError("unplugged"), [1], plugged=came_back.wait)
    async with manager(sleep=never) as collection:
        await collection.register_source(source, {})
        await collection.start_collection("soil")
        await until(lambda: source.watches == 1)
        assert source.connects == 1
        came_back.set()
        await until(lambda: collection.link("soil").state == "stopped")
    assert source.connects == 2
    assert len(asyncio.all_tasks()) == 1


async def test_the_back_off_goes_on_when_nothing_comes_back_or_nobody_can_tell(caplog):
    async def broken():
        raise OSError("no /dev")

    for plugged in (never, broken):
        source = Pluggable(ConnectionError("unplugged"), [1], plugged=plugged)
        async with manager() as collection:
            await collection.register_source(source, {})
            await collection.start_collection("soil")
            await until(lambda: collection.link("soil").state == "stopped")
            assert collection.clock.waits == [1]
        assert source.connects == 2
    assert [record.getMessage() for record in caplog.records if "tell" in record.getMessage()] == [
        "source soil: does not tell when it is back: no /dev"
    ]


async def test_another_error_is_news():
    source = Scripted(ConnectionError("no such port"), ConnectionError("permission denied"), [])
    async with manager() as collection:
        await collection.register_source(source, {})
        task_id = await collection.start_collection("soil")
        await until(lambda: collection.link("soil").state == "stopped")
        assert [error.message for error in collection.errors] == ["no such port", "permission denied"]
        info = await collection.spine.tasks.get_task_info(task_id)
        assert info.status is TaskStatus.COMPLETED


async def test_a_source_that_connects_and_stays_silent_is_told_once_until_something_comes(caplog):
    caplog.set_level("INFO")
    silent = ConnectionError("nothing for 30 s")
    source = Scripted([silent], [silent], [silent], [1, silent], [silent], [])
    async with manager() as collection:
        await collection.register_source(source, {})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").state == "stopped")
        assert [error.message for error in collection.errors] == ["nothing for 30 s"] * 2
        assert caplog.messages == ["source soil is connected again"] * 2
        assert collection.link("soil").failures == 5


async def test_link_and_status_while_it_fails():
    release = asyncio.Event()
    source = Scripted(ConnectionError("no such port"))
    async with manager() as collection:

        async def held(_seconds):
            await release.wait()

        collection._sleep = held
        await collection.register_source(source, {})
        assert collection.link("soil").state == "stopped"
        task_id = await collection.start_collection("soil")
        assert collection.link("soil").state == "connecting"
        assert await collection.get_task_status(task_id) is CollectionStatus.RUNNING
        await until(lambda: collection.link("soil").state == "failing")
        assert await collection.get_task_status(task_id) is CollectionStatus.ERROR
        assert collection.link("soil").last_error == "no such port"
        release.set()


async def test_connected_again_is_logged(caplog):
    caplog.set_level("INFO")
    source = Scripted(ConnectionError("no such port"), [1])
    async with manager() as collection:
        await collection.register_source(source, {})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").state == "stopped")
        assert caplog.messages == ["source soil is connected again"]


async def test_one_bad_source_does_not_touch_the_others():
    async with manager() as collection:
        bad = Scripted(*[ZeroDivisionError("bug in a driver")] * 50, source_id="bad")
        good = Scripted([1] * 100, source_id="good")
        for source in (bad, good):
            await collection.register_source(source, {})
            await collection.start_collection(source.source_id)
        await until(lambda: collection.link("good").frames == 100)
        await until(lambda: collection.link("bad").failures == 50)
        assert len(collection.errors) == 1


async def test_stream_that_ends_may_mean_that_the_link_was_lost():
    source = Scripted([1], [1], [1])
    async with manager() as collection:
        await collection.register_source(source, {"when_stream_ends": "reconnect"})
        await collection.start_collection("soil")
        await until(lambda: source.connects == 4)
        assert collection.link("soil").frames == 3
        assert collection.errors[0].message == "the stream ended"


async def test_sink_failure_is_not_the_sources_fault():
    async def full(_data):
        raise RuntimeError("the disk is full")

    source = Scripted([1] * 10)
    async with manager(sink=full) as collection:
        await collection.register_source(source, {})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").state == "stopped")
        assert source.connects == 1
        assert [(error.operation, error.is_critical) for error in collection.errors] == [("deliver", True)]
        statistics = await collection.get_statistics("soil")
        assert (statistics.success_count, statistics.failure_count) == (0, 10)


async def test_a_sample_whose_acknowledgement_would_be_missing_is_asked_for_again():
    """Acknowledgements leave in order: one that never comes would hold up all later ones for ever."""
    taken = []

    async def full_once(data):
        data.metadata[ACK_TOKEN] = len(taken)
        taken.append(data)
        if len(taken) == 1:
            raise RuntimeError("the disk is full")

    source = Scripted([1, 2], [1, 2])
    async with manager(sink=full_once) as collection:
        await collection.register_source(source, {})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").state == "stopped")
        assert (source.connects, source.closed, len(taken)) == (2, 2, 3)
        assert [error.message for error in collection.errors] == ["the disk is full"]
        statistics = await collection.get_statistics("soil")
        assert (statistics.success_count, statistics.failure_count) == (2, 1)


async def test_waiting_sink_holds_the_source_back():
    release = asyncio.Event()
    taken = []

    async def slow(data):
        await release.wait()
        taken.append(data)

    async with manager(sink=slow) as collection:
        await collection.register_source(Scripted([1] * 10), {})
        await collection.start_collection("soil")
        for _ in range(50):
            await asyncio.sleep(0)
        assert collection.link("soil").frames == 1
        release.set()
        await until(lambda: len(taken) == 10)


async def test_source_that_is_always_ready_lets_others_run():
    turns = 0

    class Firehose(Scripted):
        async def collect_stream(self):
            while True:
                yield sample()

    async with manager() as collection:
        await collection.register_source(Firehose([]), {})
        task_id = await collection.start_collection("soil")
        for _ in range(20):
            await asyncio.sleep(0)
            turns += 1
        await asyncio.wait_for(collection.stop_collection(task_id), 5)
        assert turns == 20
        assert collection.link("soil").frames > 64


async def test_polling_keeps_its_schedule():
    class Slow(MockDataSource):
        async def collect(self):
            collection.clock.seconds += 0.25
            if self.calls["collect"] == 3:
                collection.clock.seconds += 33  # a hiccup
            return await super().collect()

    async with manager() as collection:
        await collection.register_source(Slow("soil"), {"interval_s": 10})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").frames >= 6)
        # 10 s apart whatever a sample takes; what was missed is left out, and the phase stays.
        assert collection.clock.waits[:6] == [9.75, 9.75, 9.75, 6.75, 9.75, 9.75]


async def test_bad_sample_does_not_end_polling():
    source = MockDataSource("soil")
    source.fail("collect", ValueError("checksum"), times=2)
    async with manager() as collection:
        await collection.register_source(source, {"interval_s": 1})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").frames == 3)
        assert source.calls["connect"] == 1
        assert [error.error_type for error in collection.errors] == [ErrorType.VALIDATION] * 2
        assert (await collection.get_statistics("soil")).failure_count == 2


async def test_lost_connection_ends_polling_and_reconnects():
    source = MockDataSource("soil")
    source.fail("collect", ConnectionError("unplugged"))
    async with manager() as collection:
        await collection.register_source(source, {"interval_s": 1})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").frames == 2)
        assert source.calls["connect"] == 2
        assert source.calls["disconnect"] == 1


async def test_connect_that_hangs_has_failed():
    async with manager() as collection:
        await collection.register_source(Scripted(), {"connect_timeout_s": 0.01})
        await collection.start_collection("soil")
        await until(lambda: collection.errors)
        assert collection.errors[0].message == "not connected within 0.01 s"
        assert collection.errors[0].error_type is ErrorType.CONNECTION


async def test_failing_disconnect_is_logged_and_does_not_matter(caplog):
    source = MockDataSource("soil", stream_length=1)
    source.fail("disconnect", ConnectionError("already gone"))
    async with manager() as collection:
        await collection.register_source(source, {})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").state == "stopped")
        assert "disconnect failed: already gone" in caplog.text
        assert collection.errors == []


async def test_hanging_disconnect_does_not_hold_up_the_stop(monkeypatch, caplog):
    monkeypatch.setattr(collection_loop, "CLOSE_TIMEOUT_S", 0.01)

    class Stuck(Scripted):
        async def disconnect(self):
            await asyncio.Event().wait()

    async with manager() as collection:
        await collection.register_source(Stuck(), {})
        task_id = await collection.start_collection("soil")
        await asyncio.sleep(0)
        await asyncio.wait_for(collection.stop_collection(task_id), 5)
        assert await collection.get_task_status(task_id) is CollectionStatus.STOPPED
        assert "disconnect failed: TimeoutError" in caplog.text


@pytest.mark.parametrize("cleans_up", ["with an error", "for ever"])
async def test_a_stream_that_does_not_end_well_is_stopped_all_the_same(monkeypatch, caplog, cleans_up):
    monkeypatch.setattr(collection_loop, "CLOSE_TIMEOUT_S", 0.01)

    class Untidy(Scripted):
        async def collect_stream(self):
            connects.append(self)
            try:
                yield sample()
                await asyncio.Event().wait()
            finally:
                if cleans_up == "with an error":
                    raise OSError("the port is gone")
                await asyncio.Event().wait()

    async def full(_):
        taken.set()
        await asyncio.Event().wait()

    connects, taken = [], asyncio.Event()
    async with manager() as collection:
        collection._sink = full
        await collection.register_source(Untidy([1]), {})
        task_id = await collection.start_collection("soil")
        await taken.wait()
        await asyncio.wait_for(collection.stop_collection(task_id), 5)
        assert await collection.get_task_status(task_id) is CollectionStatus.STOPPED
        assert len(connects) == 1
        assert collection.errors == []
        assert "source soil: " in caplog.text


async def test_driver_that_ignores_cancellation_is_reported(monkeypatch):
    monkeypatch.setattr(collection_module, "_STOP_TIMEOUT_S", 0.01)
    release = asyncio.Event()

    class Stubborn(Scripted):
        async def connect(self):
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

    async with manager() as collection:
        await collection.register_source(Stubborn(), {})
        task_id = await collection.start_collection("soil")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await collection.stop_collection(task_id)
        assert "did not stop" in collection.errors[0].message
        release.set()


async def test_stream_is_closed_when_it_is_left():
    async with manager() as collection:
        source = Scripted([1, 1])

        async def cancelled(_data):
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        collection._sink = cancelled
        await collection.register_source(source, {})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").state == "stopped")
        assert (source.closed, source.disconnects) == (1, 1)


async def test_cancelling_through_the_tracker_stops_the_collection():
    async with manager() as collection:
        await collection.register_source(Scripted(), {})
        task_id = await collection.start_collection("soil")
        await collection.spine.tasks.cancel_task(task_id)  # before its first step
        await until(lambda: collection.link("soil").state == "stopped")
        assert await collection.get_task_status(task_id) is CollectionStatus.STOPPED
        await collection.start_collection("soil")


async def test_ended_tasks_are_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr(collection_module, "_ENDED_TASKS_MAX", 3)
    async with manager() as collection:
        await collection.register_source(Scripted(*[[]] * 10), {})
        ids = []
        for _ in range(6):
            ids.append(await collection.start_collection("soil"))
            await until(lambda: collection.link("soil").state == "stopped")
        with pytest.raises(KeyError):
            await collection.get_task_status(ids[0])
        assert await collection.get_task_status(ids[-1]) is CollectionStatus.STOPPED
        assert len(collection._runs) <= 4


async def test_nobody_listening_means_no_event_is_made(monkeypatch):
    def refuse(**_):
        raise AssertionError("an event was made")

    monkeypatch.setattr(collection_loop, "SystemEvent", refuse)
    async with manager() as collection:
        await collection.register_source(Scripted([1] * 5), {})
        await collection.start_collection("soil")
        await until(lambda: collection.link("soil").state == "stopped")
        assert collection.link("soil").frames == 5
        assert collection.errors == []


async def test_events_name_the_source_and_the_task():
    seen = []
    async with manager() as collection:
        await collection.spine.events.subscribe(EventType.COLLECTION_COMPLETE, seen.append)
        await collection.register_source(Scripted([1]), {})
        task_id = await collection.start_collection("soil")
        await until(lambda: seen)
        assert seen[0].data == {"source_id": "soil", "task_id": task_id, "size_bytes": 2}


async def test_closing_stops_everything():
    async with manager() as collection:
        for source_id in ("soil", "hall"):
            await collection.register_source(Scripted(source_id=source_id), {})
            await collection.start_collection(source_id)
        await collection.close()
        assert [collection.link(each).state for each in ("soil", "hall")] == ["stopped", "stopped"]


async def test_a_source_that_waits_by_itself_is_tried_again_sooner():
    source = Scripted(*[ConnectionError("no adapter")] * 6)
    async with manager() as collection:
        await collection.register_source(source, {"retry_cap_s": 3.0})
        await collection.start_collection("soil")
        async with asyncio.timeout(5):
            while source.connects < 7:
                await asyncio.sleep(0)
        assert collection.clock.waits == [1, 2, 3, 3, 3, 3]
