"""What the page tells those who write a receiver is what a device understands."""

from __future__ import annotations

import re
from pathlib import Path

from agent.sync.acknowledgement import digest
from agent.sync.awaiting import AwaitedPacks
from agent.sync.upstream import Pack, Rejected

PAGE = Path(__file__).resolve().parents[2] / "docs/receiver.md"


async def test_the_acknowledgement_on_the_page_names_packs():
    (example,) = re.findall(r"```json\n(.+?)```", PAGE.read_text(), re.DOTALL)
    first, second = (Pack("d", "s", 1, 2, 2, payload, "", None) for payload in (b"test", b"test2"))
    assert first.digest == digest(b"test")
    assert second.digest in example
    packs = AwaitedPacks("x")
    with packs.awaited(first) as one, packs.awaited(second) as other:
        packs.heard(example.encode())
        assert one.result() is None
        assert isinstance(other.exception(), Rejected)
