"""What a receiver takes for a pack."""

from __future__ import annotations

import pytest

from agent.receiver.packs import PackTooLarge, unpack
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
