"""Parcels: what waits for its acknowledgement is held small, and is what it was when it is looked at again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.receiver.packs import unpack
from agent.sync.lanes import SendLane
from agent.sync.outbox import Outbox
from agent.sync.packing import Packer, Parcel, parcels
from buffer import BufferDB
from collectors.models import Reading
from tests.sync.memory_buffer import MemoryRecord

if TYPE_CHECKING:
    from pathlib import Path

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=3), leaves, max_size=3)
documents = st.dictionaries(st.sampled_from(["t", "values", "tags", "quality"]), values, max_size=4)


@settings(max_examples=50)
@given(st.lists(documents, min_size=1, max_size=5))
def test_a_parcel_gives_back_what_it_was_given(given: list[dict[str, Any]]) -> None:
    records = [MemoryRecord(3 * place + 1, document) for place, document in enumerate(given)]
    parcel = Parcel(records, None, "why")
    assert [(record.seq, record.document) for record in parcel.records] == [
        (record.seq, record.document) for record in records
    ]
    assert (parcel.first, parcel.last, parcel.count) == (records[0].seq, records[-1].seq, len(records))
    measured = given[0].get("t")
    assert parcel.t == (measured if isinstance(measured, (int, float)) else None)


def test_no_pack_is_larger_than_what_a_receiver_unpacks_however_well_it_is_compressed() -> None:
    long = {"source": "soil", "t": 1_790_000_000.0, "values": {"text": "x" * 1_000_000}}
    made = parcels(Packer(1 << 20), "d", "5a" * 16, [MemoryRecord(n, long) for n in range(1, 13)])
    packs = [parcel.pack for parcel in made]
    assert [reading.seq for pack in packs if pack for reading in unpack(pack.payload).readings] == [
        *range(1, 13)
    ]
    huge = [MemoryRecord(1, long | {"values": {"text": "x" * (9 << 20)}})]
    (parcel,) = parcels(Packer(16 << 20), "d", "5a" * 16, huge)
    assert "bytes uncompressed, the limit is" in parcel.fault


def test_half_of_a_surrogate_pair_stays_what_it_is() -> None:
    assert Parcel([MemoryRecord(1, {"source": "\ud800"})], None, "").records[0].document == {
        "source": "\ud800"
    }


def test_a_reading_with_more_values_than_a_message_may_have_takes_no_other_with_it() -> None:
    values = [3, 3, 120, 3]
    records = [
        MemoryRecord(n, {"source": "s", "t": 1.0, "values": {f"m{each}": 1.0 for each in range(count)}})
        for n, count in enumerate(values)
    ]
    found = parcels(Packer(48 * 1024, points_max=90), "d", "s", records)
    assert [record.seq for parcel in found if parcel.pack for record in parcel.records] == [0, 1, 3]
    (refused,) = (parcel for parcel in found if parcel.pack is None)
    assert "120 values, the limit is 90" in refused.fault


def test_what_waits_for_its_acknowledgement_is_bytes(tmp_path: Path) -> None:
    with BufferDB(tmp_path / "buffer") as buffer:
        buffer.insert_multiple(
            Reading(source="soil", t=1_751_000_000.0 + n, values={"temperature": n / 7}).to_document()
            for n in range(1000)
        )
        buffer.flush()
        batch = buffer.consumer("cloud").take(1000)
        assert batch is not None
        stored = batch.records
        outbox: Outbox[Any] = Outbox()
        pieces = parcels(Packer(48 * 1024), "d", batch.store_id, stored)
        outbox.add(batch, pieces, SendLane.LIVE)
        assert "records" not in vars(batch), "parsed records are still held"
        assert sum(sys.getsizeof(each) for piece in pieces for each in (piece._packed,)) < 30 * 1000
        assert [record.document for piece in pieces for record in piece.records] == [
            record.document for record in stored
        ]
        assert batch.records == stored
        assert outbox.readings == 1000
