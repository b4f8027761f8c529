"""Every framing, with what tests need to know of it: what it can carry, and what must not lie between its frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from drivers.framing import FRAMINGS

if TYPE_CHECKING:
    from drivers.framing import FrameError, Framer, FramingConfig

PAUSE = None
"""In a list of chunks: the line is silent for longer than the framing's gap."""


def binary(**limits: int) -> st.SearchStrategy[bytes]:
    """Bytes of which many are those that framings use themselves."""
    special = st.sampled_from(
        [0, 1, 2, 3, 0x0A, 0x0D, 0x10, 0x3C, 0x3E, 0x55, 0x7D, 0xAA, 0xC0, 0xDB, 0xDC, 0xDD, 0xFF]
    )
    mixed = st.lists(special | st.integers(0, 255), **limits).map(bytes)
    return st.binary(**limits) | mixed


@dataclass
class Case:
    """A framing with its options."""

    options: dict[str, Any] | str
    payloads: st.SearchStrategy[bytes] = field(default_factory=lambda: binary(max_size=40))
    garbage: st.SearchStrategy[bytes] = field(default_factory=lambda: binary(max_size=80))
    """What can lie between two frames and costs neither."""
    behind_garbage: tuple[bytes | None, ...] = ()
    """What has to come between garbage and a frame so that the frame is found; PAUSE or bytes."""

    @property
    def config(self) -> FramingConfig:
        return FRAMINGS.choose(self.options)


def without(*marks: bytes, **limits: int) -> st.SearchStrategy[bytes]:
    return binary(**limits).filter(lambda data: not any(mark in data for mark in marks))


CASES: dict[str, Case] = {
    "lines": Case("lines", without(b"\n", b"\r", min_size=1, max_size=60), behind_garbage=(b"\n",)),
    "lines by aab": Case(
        {"type": "lines", "terminator": "aab"},
        without(b"a", b"b", min_size=1, max_size=60),
        behind_garbage=(b"aab",),
    ),
    "cobs, CRC-16": Case("cobs", behind_garbage=(b"\0",)),
    "cobs, CRC-32": Case({"type": "cobs", "crc": "crc32"}, behind_garbage=(b"\0",)),
    "cobs, unchecked": Case({"type": "cobs", "crc": "none"}, behind_garbage=(b"\0",)),
    "slip": Case("slip", binary(min_size=1, max_size=60), behind_garbage=(b"\xc0",)),
    "slip, CRC-16": Case({"type": "slip", "crc": "crc16"}, behind_garbage=(b"\xc0",)),
    "delimited": Case({"type": "delimited", "start": "<", "end": ">"}, without(b"<", b">", max_size=60)),
    "delimited, STX ETX, CRC-16": Case(
        {
            "type": "delimited",
            "start": "\x02",
            "end": "\x03",
            "escape": "\x7d",
            "escape_xor": 0x20,
            "crc": "crc16",
        },
        garbage=without(b"\x02", max_size=80),
    ),
    "delimited, DLE STX": Case(
        {"type": "delimited", "start": "\x10\x02", "end": "\x10\x03", "escape": "\x10"},
        garbage=without(b"\x10", max_size=80),
    ),
    "fixed": Case({"type": "fixed", "length": 7}, binary(min_size=7, max_size=7), behind_garbage=(PAUSE,)),
    "fixed, sync": Case(
        {"type": "fixed", "length": 7, "sync": [0xAA, 0x55]},
        binary(min_size=7, max_size=7),
        garbage=without(b"\xaa", max_size=80),
    ),
    "fixed, sync, CRC-16": Case(
        {"type": "fixed", "length": 7, "sync": [0xAA, 0x55], "crc": "crc16"}, binary(min_size=7, max_size=7)
    ),
    "length_prefixed": Case("length_prefixed", behind_garbage=(PAUSE,)),
    "length_prefixed, CRC-32": Case(
        {"type": "length_prefixed", "length_bytes": 4, "crc": "crc32"}, behind_garbage=(PAUSE,)
    ),
    "length_prefixed, sync": Case(
        {"type": "length_prefixed", "sync": [0xAA, 0xAB], "length_bytes": 1, "length_counts": "frame"},
        garbage=without(b"\xaa", max_size=80),
    ),
    "length_prefixed, sync, CRC-16": Case(
        {
            "type": "length_prefixed",
            "sync": [0xAA, 0xAA],
            "byteorder": "little",
            "length_counts": "payload_and_crc",
            "crc": "crc16",
        }
    ),
}
CHECKED = sorted(name for name in CASES if "CRC" in name)


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in pieces."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


def run(framer: Framer, chunks: list[bytes | None]) -> list[bytes | FrameError]:
    """Everything that comes out, to the end of the stream."""
    found: list[bytes | FrameError] = []
    for chunk in [*chunks, PAUSE]:
        found += framer.finish() if chunk is None else framer.feed(chunk)
    return found


def good(found: list[bytes | FrameError]) -> list[bytes]:
    """The frames of it."""
    return [item for item in found if isinstance(item, bytes)]
