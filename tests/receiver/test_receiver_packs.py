"""What a receiver takes for a pack."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from agent.receiver.packs import REASON_LENGTH_MAX, PackTooLarge, Refused, unpack
from agent.sync.acknowledgement import digest
from agent.sync.documents import first_fault
from agent.sync.senml import NotSenML
from tests.receiver.packs import payload


def test_a_pack_is_bounded_before_it_takes_memory() -> None:
    with pytest.raises(PackTooLarge):
        unpack(payload(count=9), bytes_max=100)
    with pytest.raises(PackTooLarge):
        unpack(payload(count=2000), bytes_max=100_000)
    assert unpack(payload(count=20)).digest == digest(payload(count=20))


@pytest.mark.parametrize("broken", [payload()[:-5], payload() + b"x", b"\x1f\x8bhello", b"\x1f\x8b"])
def test_broken_gzip_is_no_pack(broken: bytes) -> None:
    with pytest.raises(NotSenML, match="gzip"):
        unpack(broken)


READING = {"source": "s", "t": 1.0, "values": {"m": 0}}
SOUND = dict.fromkeys(map(str, range(10_000)), 1)


@pytest.mark.parametrize(
    ("documents", "fault"),
    [
        ([READING] + [{**READING, "values": {"m": []}}] * 10_000, (1, "values.m.bool: ")),
        ([READING, {**READING, "values": {name: [] for name in SOUND}}], (1, "values.0.bool: ")),
        ([READING, {**READING, "values": SOUND | {"last": []}}], (1, "values.last.bool: ")),
        ([READING, {**READING, "values": SOUND, "tags": {name: [] for name in SOUND}}], (1, "tags.0: ")),
        ([READING, {**READING, "values": SOUND, "tags": dict.fromkeys(SOUND, "x")}, READING], None),
    ],
    ids=["readings", "values", "the last value", "tags", "none"],
)
def test_nothing_but_faults_takes_little_memory(documents: list[Any], fault: tuple[int, str] | None) -> None:
    tracemalloc.start()
    try:
        found = first_fault(documents)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == fault or (found and fault and found[0] == fault[0] and found[1].startswith(fault[1]))
    assert peak_bytes < 6e6


def test_why_a_pack_is_refused_is_said_briefly_whatever_is_in_it() -> None:
    name = "y" * 100_000
    twice = f'[{{"bn":"d:s/","bt":1,"seq":1,"store":"s","metric":"{name}","n":"a","v":1}},{{"metric":"{name}","n":"a","v":2}}]'
    with pytest.raises(NotSenML, match="occurs twice") as refused:
        unpack(twice.encode())
    reason = Refused("here", b"", str(refused.value)).reason
    assert reason.startswith("record 1: metric 'yyy")
    assert len(reason) == REASON_LENGTH_MAX + 1
    assert Refused("here", b"", "no JSON").reason == "no JSON"
