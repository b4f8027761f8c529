"""Silence and garbage: bookkeeping against a model, and how the collection manager tells them."""

import asyncio
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agent.spine.hearing import GARBAGE_RUN, SENSORS_MAX, Hearing
from collectors import CollectedData, ErrorType, IDataSource
from collectors.interfaces import Listening
from collectors.metadata_keys import SENSOR
from tests.rigs.collection_manager import manager

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.sampled_from([None, "a", "b", "c"])),
        st.tuples(st.just("wait"), st.integers(0, 40)),
        st.tuples(st.sampled_from(["begin", "end", "look"]), st.none()),
    ),
    max_size=40,
)


@given(EVENTS)
def test_silence_is_what_a_model_says_and_told_once(events):
    """The model has a clock of its own, which stands while the link is down."""
    normal, now, listened, up, heard, hearing = 30, 1000.0, 0.0, False, {}, Hearing()
    silent, silent_sensors = False, set()
    for kind, what in events:
        if kind == "wait":
            now += what
            listened += what if up else 0
        elif kind == "begin" and not up:
            up = True
            hearing.begin(now)
        elif kind == "end" and up:
            up = False
            hearing.end(now)
        elif kind == "hear" and up:
            assert hearing.hear(now, what) == (silent or what in silent_sensors)
            silent = False
            silent_sensors.discard(what)
            heard[None] = listened
            heard[what] = listened
        elif kind == "look":
            quiet = listened - heard.get(None, 0.0) > normal
            fallen = {name for name, at in heard.items() if name is not None and listened - at > normal}
            news, sensors = hearing.look(now, normal)
            if not up:
                assert (news, sensors) == (False, [])
            elif quiet:
                assert (news, sensors) == (not silent, [])
                silent = True
            else:
                assert not news
                assert set(sensors) == fallen - silent_sensors
                silent_sensors |= fallen
        assert hearing.silent == silent
        assert set(hearing.silent_sensors) == silent_sensors


def test_sensors_are_watched_up_to_a_number():
    hearing = Hearing()
    hearing.begin(0)
    for number in range(SENSORS_MAX + 10):
        hearing.hear(1, f"s{number}")
    hearing.hear(100, None)
    _, fallen = hearing.look(100, 30)
    assert len(fallen) == SENSORS_MAX


@given(st.lists(st.booleans(), max_size=60))
def test_garbage_is_a_run_of_it(samples):
    hearing, run, is_garbage = Hearing(), 0, False
    for number, good in enumerate(samples):
        run = 0 if good else run + 1
        changed = hearing.judge(None if good else f"reason {number}")
        assert hearing.garbage == (run >= GARBAGE_RUN)
        assert changed == (hearing.garbage != is_garbage)
        is_garbage = hearing.garbage
        if is_garbage:
            assert hearing.garbage_reason == f"reason {number}"


class Whisperer(IDataSource):
    """Says what a test tells it to, and knows what is usual for it."""

    def __init__(self, usual_s=None):
        self.inbox = asyncio.Queue()
        self.usual_s = usual_s

    def get_source_id(self):
        return "hall"

    def usual_silence_s(self):
        return self.usual_s

    def explain_silence(self):
        return "is its battery empty?"

    async def connect(self):
        pass

    async def disconnect(self):
        pass

    async def collect(self):
        item = await self.inbox.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def collect_stream(self):
        while True:
            yield await self.collect()


def said(raw=b"x", sensor=None):
    metadata = {} if sensor is None else {SENSOR: sensor}
    return CollectedData(
        source_id="hall",
        timestamp=datetime(2026, 7, 1, tzinfo=UTC),
        data_format="json",
        collection_method="test",
        raw_data=raw,
        metadata=metadata,
    )


async def test_a_silent_source_is_told_once_with_what_may_be_behind_it():
    async with manager() as collection:
        source = Whisperer()
        assert isinstance(source, Listening)
        await collection.register_source(source, {"silent_after_s": 60.0})
        await collection.start_collection("hall")
        await heard(collection, source, said())
        collection.clock.seconds += 59
        await collection.look_for_silence("hall")
        assert not collection.errors
        collection.clock.seconds += 2
        await collection.look_for_silence("hall")
        await collection.look_for_silence("hall")
        (error,) = collection.errors
        assert error.message == "silent: nothing came for 60 s, though the link is up: is its battery empty?"
        assert (error.error_type, error.operation, error.details["condition"]) == (
            ErrorType.CONNECTION,
            "listen",
            "silent",
        )
        assert collection.hearing("hall").silent
        await heard(collection, source, said())
        assert not collection.hearing("hall").silent


async def test_one_sensor_of_many_is_missed():
    async with manager() as collection:
        source = Whisperer()
        await collection.register_source(source, {"silent_after_s": 7200.0})
        await collection.start_collection("hall")
        for number in range(15):
            await heard(collection, source, said(sensor=f"s{number}"))
        collection.clock.seconds += 7201
        await heard(collection, source, said(sensor="s0"))
        await collection.look_for_silence("hall")
        messages = [error.message for error in collection.errors]
        assert messages[:2] == ["s1 is silent: nothing came for 2 h", "s2 is silent: nothing came for 2 h"]
        assert messages[-1] == "4 further sensors are silent"
        assert len(messages) == 11
        assert collection.hearing("hall").silent_sensors == [f"s{number}" for number in range(1, 15)]
        await heard(collection, source, said(sensor="s1"))
        assert "s1" not in collection.hearing("hall").silent_sensors


async def test_what_the_source_has_learned_counts_where_nothing_is_configured():
    async with manager() as collection:
        source = Whisperer()
        await collection.register_source(source, {})
        await collection.start_collection("hall")
        await heard(collection, source, said())
        collection.clock.seconds += 1e6
        await collection.look_for_silence("hall")
        assert not collection.errors
        source.usual_s = 40.0
        await collection.look_for_silence("hall")
        assert "nothing came for 40 s" in collection.errors[0].message


async def test_a_link_that_is_down_is_no_silence():
    async with manager() as collection:
        source = Whisperer()
        await collection.register_source(source, {"silent_after_s": 1.0})
        await collection.start_collection("hall")
        await heard(collection, source, said())
        collection.clock.seconds += 100
        await collection.look_for_silence("hall")
        assert collection.hearing("hall").silent
        source.inbox.put_nowait(ConnectionError("unplugged"))
        await reported(collection, 2)
        assert [error.details["condition"] for error in collection.errors] == ["silent", "link_down"]
        await connected(collection)
        await collection.look_for_silence("hall")
        assert collection.hearing("hall").silent, "a new connection makes it no less silent"
        assert len(collection.errors) == 2, "and that is no news"


async def test_nothing_but_garbage_is_told_once_and_when_it_ends(caplog):
    caplog.set_level("INFO", "agent")

    async def sink(data):
        return None if data.raw_data == b"good" else "not JSON"

    async with manager(sink) as collection:
        source = Whisperer()
        await collection.register_source(source, {})
        await collection.start_collection("hall")
        for _ in range(GARBAGE_RUN - 1):
            await heard(collection, source, said())
        await heard(collection, source, said(b"good"))
        assert not collection.errors
        for _ in range(3 * GARBAGE_RUN):
            await heard(collection, source, said())
        (error,) = collection.errors
        assert error.message == f"nothing but garbage: {GARBAGE_RUN} samples in a row, the newest: not JSON"
        assert (error.error_type, error.details["condition"]) == (ErrorType.VALIDATION, "garbage")
        await heard(collection, source, said(b"good"))
        assert not collection.hearing("hall").garbage
        assert "sends good data again" in caplog.text


async def heard(collection, source, data):
    before = collection.link("hall").frames
    source.inbox.put_nowait(data)
    async with asyncio.timeout(5):
        while collection.link("hall").frames == before or source.inbox.qsize():
            await asyncio.sleep(0)
    await asyncio.sleep(0)


async def connected(collection):
    async with asyncio.timeout(5):
        while collection.link("hall").state != "connected":
            await asyncio.sleep(0)


async def reported(collection, count):
    async with asyncio.timeout(5):
        while len(collection.errors) < count:
            await asyncio.sleep(0)
