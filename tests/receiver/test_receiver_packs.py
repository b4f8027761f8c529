"""What a receiver takes for a pack."""

from __future__ import annotations

import pytest

from agent.receiver.packs import REASON_LENGTH_MAX, PackTooLarge, Refused, unpack
from agent.sync.acknowledgement import digest
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


def test_why_a_pack_is_refused_is_said_briefly_whatever_is_in_it() -> None:
    name = "y" * 100_000
    twice = f'[{{"bn":"d:s/","bt":1,"seq":1,"store":"s","metric":"{name}","n":"a","v":1}},{{"metric":"{name}","n":"a","v":2}}]'
    with pytest.raises(NotSenML, match="occurs twice") as refused:
        unpack(twice.encode())
    reason = Refused("here", b"", str(refused.value)).reason
    assert reason.startswith("record 1: metric 'yyy")
    assert len(reason) == REASON_LENGTH_MAX + 1
    assert Refused("here", b"", "no JSON").reason == "no JSON"
