"""Every delivery ends in one way, and its source is told only then."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from agent.held import Held
from agent.intake import Intake
from agent.processors.decode import Decode
from agent.spine.metadata import MetadataParser
from agent.spine.processing import ProcessingManager
from agent.spine.spine import open_spine
from agent.spine.storage import StorageManager
from buffer import BufferFull
from collectors import metadata_keys as keys
from collectors.clock import SystemClock
from collectors.interfaces import IProcessor, IStorageBackend
from collectors.models import CollectedData, Origin, ProcessingResult, Reading
from tests.rigs.codecs import without_options


@dataclass
class State:
    rows: dict[str, Any]

    def items(self):
        return list(self.rows.items())

    def get(self, key):
        return self.rows.get(key)

    async def put(self, key, value):
        self.rows[key] = value


@dataclass
class MemoryBuffer(IStorageBackend):
    """Durable only when the test says so."""

    tables: dict[str, list[bytes]] = field(default_factory=lambda: {"readings": [], "dead_letters": []})
    durable: dict[str, int] = field(default_factory=lambda: {"readings": 0, "dead_letters": 0})
    rows: dict[str, Any] = field(default_factory=dict)
    room_free: asyncio.Event = field(default_factory=asyncio.Event)
    room_asked: set[str] = field(default_factory=set)
    capacity: int = 10**9
    fault: Exception | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def state(self, name):
        return State(self.rows)

    def append(self, documents, *, table="readings", vouched=False):
        rows = self.tables[table]
        if len(rows) + len(documents) > self.capacity:
            raise BufferFull("no room")
        rows.extend(documents)
        return range(len(rows) - len(documents) + 1, len(rows) + 1)

    async def room(self, *, table="readings"):
        self.room_asked.add(table)
        await self.room_free.wait()

    def durable_id(self, table="readings"):
        return self.durable[table]

    async def wait_durable(self, last_id, *, table="readings"):
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        async with self.changed:
            await self.changed.wait_for(lambda: self.durable[table] >= last_id)

    async def commit(self, table="readings"):
        async with self.changed:
            self.durable[table] = len(self.tables[table])
            self.changed.notify_all()

    async def visit_recent(self, n, visit, *, table="readings"):
        for seq, row in list(enumerate(self.tables[table], start=1))[-n:]:
            visit(seq, from_json(row))

    async def connect(self): ...
    async def disconnect(self): ...
    async def store(self, data): ...
    async def query(self, criteria): ...
    async def delete(self, location_id): ...

    def get_backend_id(self):
        return "buffer"


class Source:
    def __init__(self):
        self.acknowledged = []
        self.news = asyncio.Condition()

    def acknowledge(self, token):
        self.acknowledged.append(token)


ORIGIN = Origin(client="c", packet=1, payload_hash="ab")


@dataclass
class Give(IProcessor):
    readings: list[Reading]

    async def process(self, data):
        return ProcessingResult(success=True, processed_data=self.readings)

    def get_processor_name(self):
        return "give"

    def validate_input(self, data):
        return True


@asynccontextmanager
async def intake(buffer: MemoryBuffer, *, give: list[Reading] | None = None):
    async with open_spine() as spine:
        processing, storage = ProcessingManager(spine), StorageManager(spine)
        await storage.register_backend(buffer, {})
        pipeline = await processing.create_pipeline("plain")
        await pipeline.add_step(Decode(without_options), 0)
        if give is not None:
            await pipeline.add_step(Give(give), 1)
        source = Source()
        taking = Intake(
            parser=MetadataParser(),
            processing=processing,
            storage=storage,
            buffer=buffer,
            backend_id="buffer",
            pipeline_of=lambda _: "plain",
            held=Held(buffer, buffer.append, SystemClock().monotonic_s),
            holding={},
            clock=SystemClock(),
        )
        taking.acknowledgements.give_to("hall", source)
        await taking.load()
        spine.start("acknowledge", taking.acknowledgements.run(), layer="storage", subject="test")
        yield taking, source


def message(
    packet: int, payload: bytes = b'{"t":1.5}', *, redelivered: bool = False, **more
) -> CollectedData:
    return CollectedData(
        source_id="hall",
        timestamp=SystemClock().now(),
        data_format="json",
        collection_method="mqtt",
        raw_data=payload,
        metadata={
            keys.ACK_TOKEN: packet,
            keys.ORIGIN: Origin(client="c", packet=packet, payload_hash=payload.hex()),
            keys.REDELIVERED: redelivered,
            **more,
        },
    )


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_message_is_acknowledged_only_when_durable():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, source):
        for packet in (1, 2, 3):
            await taking(message(packet))
        await settle()
        assert source.acknowledged == []
        await buffer.commit()
        await taking.acknowledgements.settled()
        assert source.acknowledged == [1, 2, 3]
    assert from_json(buffer.tables["readings"][0])["origin"] == ["c", 1, b'{"t":1.5}'.hex()]


async def test_garbage_is_a_dead_letter_and_acknowledged_when_that_is_durable():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, source):
        await taking(message(1, b"{oops"))
        await taking(message(2))
        await buffer.commit()
        await settle()
        assert source.acknowledged == []  # in the order they came, as MQTT asks for
        await buffer.commit("dead_letters")
        await taking.acknowledgements.settled()
        assert source.acknowledged == [1, 2]
        assert taking.dead_letters == {"hall": 1}
    letter = from_json(buffer.tables["dead_letters"][0])
    assert letter["stage"] == "decode"
    assert letter["raw"] == "e29vcHM="
    assert letter["reason"]


async def test_a_frame_error_is_a_dead_letter_of_the_framing():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, _):
        await taking(message(1, b"xx", **{keys.FRAME_ERROR: "line too long"}))
    letter = from_json(buffer.tables["dead_letters"][0])
    assert (letter["stage"], letter["reason"]) == ("framing", "line too long")


async def test_what_a_rule_drops_is_acknowledged_in_its_turn():
    buffer = MemoryBuffer()
    async with intake(buffer, give=[]) as (taking, source):
        await taking(message(1))
        await taking.acknowledgements.settled()
        assert source.acknowledged == [1]
    assert buffer.tables == {"readings": [], "dead_letters": []}


async def test_a_redelivery_is_acknowledged_and_not_stored_again():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, source):
        await taking(message(7))
        await taking(message(7, redelivered=True))
        await settle()
        assert source.acknowledged == []
        await buffer.commit()
        await taking.acknowledgements.settled()
        assert source.acknowledged == [7, 7]
        assert taking.recognised == {"hall": 1}
    assert len(buffer.tables["readings"]) == 1


async def test_a_redelivery_is_recognised_after_a_restart():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, _):
        await taking(message(7))
        await taking(message(8, b"{oops"))
        await buffer.commit()
        await buffer.commit("dead_letters")
    async with intake(buffer) as (taking, source):
        await taking(message(7, redelivered=True))
        await taking(message(8, b"{oops", redelivered=True))
        await taking.acknowledgements.settled()
        assert source.acknowledged == [7, 8]
    assert [len(rows) for rows in buffer.tables.values()] == [1, 1]


async def test_another_message_with_the_same_packet_id_is_stored():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, _):
        await taking(message(7))
        await taking(message(7))  # not marked: the broker used the id again
        await taking(message(7, b'{"t":2}', redelivered=True))
    assert len(buffer.tables["readings"]) == 3


async def test_a_new_session_redelivers_nothing():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, _):
        await taking(message(7))
        await taking(message(1, **{keys.NEW_SESSION: True}))
        await taking(message(7, redelivered=True))
    assert len(buffer.tables["readings"]) == 3


async def test_a_full_buffer_makes_the_source_wait():
    buffer = MemoryBuffer(capacity=1)
    async with intake(buffer) as (taking, source):
        await taking(message(1))
        second = asyncio.create_task(taking(message(2)))
        await settle()
        assert not second.done()
        buffer.capacity = 2
        buffer.room_free.set()
        await second
        await buffer.commit()
        await taking.acknowledgements.settled()
        assert source.acknowledged == [1, 2]


async def test_dead_letters_wait_for_room_among_dead_letters():
    buffer = MemoryBuffer(capacity=0)
    async with intake(buffer) as (taking, _):
        waiting = asyncio.create_task(taking(message(1, b"{oops")))
        await settle()
        assert not waiting.done()
        assert buffer.room_asked == {"dead_letters"}
        buffer.capacity = 1
        buffer.room_free.set()
        await waiting


async def test_acknowledging_begins_anew_after_a_failure_without_a_further_message():
    buffer = MemoryBuffer(fault=RuntimeError("sick"))
    async with intake(buffer) as (taking, source):
        await taking(message(1))
        await settle()  # `intake` runs it once: it has failed
        again = asyncio.create_task(taking.acknowledgements.run())
        await settle()
        await buffer.commit()
        await taking.acknowledgements.settled()
        assert source.acknowledged == [1]
        again.cancel()


async def test_a_message_of_many_readings_is_handed_over_in_pieces(monkeypatch):
    monkeypatch.setattr("agent.intake._PIECE_RECORDS", 2)
    buffer = MemoryBuffer(capacity=2)
    async with intake(buffer) as (taking, source):
        taken = asyncio.create_task(taking(message(1, b'[{"t":1},{"t":2},{"t":3},{"t":4},{"t":5}]')))
        await settle()
        assert len(buffer.tables["readings"]) == 2  # a bound that no message is too large for
        assert not taken.done()
        buffer.capacity = 5
        buffer.room_free.set()
        await taken
        await settle()
        assert source.acknowledged == []
        await buffer.commit()
        await taking.acknowledgements.settled()
        assert source.acknowledged == [1]


async def test_a_message_of_which_a_part_was_kept_is_kept_when_it_comes_again():
    payload = b'[{"t":1},{"t":2},{"t":3}]'
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, _):
        await taking(message(7, payload))
    for cut in (1, 2, 3):
        kept = MemoryBuffer()
        kept.append(buffer.tables["readings"][:cut])  # killed between two commits
        await kept.commit()
        async with intake(kept) as (taking, _):
            await taking(message(7, payload, redelivered=True))
        values = [from_json(row)["values"]["t"] for row in kept.tables["readings"][cut:]]
        assert values == ([] if cut == 3 else [1, 2, 3])


async def test_a_former_session_is_not_learnt_again_after_a_restart():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, _):
        await taking(message(7))
        await taking(message(8, b"{oops"))
        await taking(message(1, **{keys.NEW_SESSION: True}))
    async with intake(buffer) as (taking, _):
        await taking(message(7, redelivered=True))
        await taking(message(8, b"{oops", redelivered=True))
        await taking(message(1, redelivered=True))
        assert taking.recognised == {"hall": 1}
    assert len(buffer.tables["readings"]) == 3
    assert len(buffer.tables["dead_letters"]) == 2


async def test_a_broker_that_uses_identifiers_again_is_distrusted_after_a_restart_too():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, _):
        await taking(message(1))
        await taking(message(1, b'{"t":2}'))
    async with intake(buffer) as (taking, _):
        await taking(message(1, b'{"t":2}', redelivered=True))
        assert taking.recognised == {}
    assert len(buffer.tables["readings"]) == 3


async def test_a_message_of_many_readings_leaves_the_loop_to_others():
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    buffer = MemoryBuffer()
    many = [Reading(source="hall", t=1.0, values={"n": n}, origin=ORIGIN) for n in range(10_000)]
    async with intake(buffer, give=many) as (taking, _):
        serving = asyncio.create_task(others())
        await taking(message(1))
        serving.cancel()
    assert turns >= 19  # a turn after every 500
    kept = [from_json(row) for row in buffer.tables["readings"]]
    assert [row["values"]["n"] for row in kept] == list(range(10_000))
    assert [place for place, row in enumerate(kept) if "origin" in row] == [9_999]


async def test_a_message_of_too_many_readings_is_a_dead_letter_that_names_the_limit():
    buffer = MemoryBuffer()
    async with intake(buffer) as (taking, _):
        await taking(message(1, b"[" + b",".join([b'{"a":1}'] * 10_001) + b"]"))
        assert taking.dead_letters == {"hall": 1}
    assert "one message may hold 10000 at most" in from_json(buffer.tables["dead_letters"][0])["reason"]
    assert buffer.tables["readings"] == []
