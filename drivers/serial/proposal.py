"""What a device speaks, by what it was heard to say. Pure: bytes in, framing and codec out."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from drivers.codecs import CODECS
from drivers.framing import FRAMINGS, FrameError

GOOD_LEAST: Final = 2
GOOD_SHARE: Final = 0.8
"""So much of what came must be good: the first frame may lack its beginning, and the last its end."""
COLUMNS_MAX: Final = 32
_LINES_CODECS: Final = ("json", "nmea", "key_value", "plain")


class Spoken(NamedTuple):
    """What a device speaks."""

    framing: Any
    """As a configuration has it: a name, or a table."""
    codec: Any
    frames: int
    notes: list[str]


def recognise(heard: bytes) -> Spoken | None:
    """What it is that was heard; None when it is nothing that is known."""
    lines = _frames("lines", heard)
    if lines is not None:
        for name in _LINES_CODECS:
            if _good(CODECS.choose(name).codec(), lines):
                return Spoken("lines", name, len(lines), [])
        columns = _columns(lines)
        if columns is not None:
            return Spoken("lines", columns, len(lines), ["name the columns, and the units"])
    for crc in ("crc16", "crc32"):
        framing = {"type": "cobs", "crc": crc}
        frames = _frames(framing, heard)
        if frames is None:
            continue
        if _good(CODECS.choose("json").codec(), frames):
            return Spoken(framing, "json", len(frames), [])
        return Spoken(
            framing, _layout(len(frames[0])), len(frames), ["say what the bytes of a frame are: `layout`"]
        )
    return None


def _frames(framing: Any, heard: bytes) -> list[bytes] | None:
    """The frames of a framing, if most of what came are some."""
    framer = FRAMINGS.choose(framing).framer()
    found = framer.feed(heard)
    frames = [frame for frame in found if not isinstance(frame, FrameError)]
    if len(frames) < GOOD_LEAST or len(frames) < GOOD_SHARE * len(found):
        return None
    return frames[1:] if len(frames) > GOOD_LEAST else frames


def _good(decode: Any, frames: list[bytes]) -> bool:
    good = 0
    for frame in frames:
        try:
            good += bool(decode(frame))
        except ValueError:
            continue
    return good >= GOOD_SHARE * len(frames) and good > 0


def _columns(lines: list[bytes]) -> dict[str, Any] | None:
    """A CSV codec for lines that all have the same number of numbers."""
    for delimiter in (",", ";", "\t", " "):
        count = len(lines[-1].split(delimiter.encode()))
        if not 1 < count <= COLUMNS_MAX:
            continue
        names = [f"column{place + 1}" for place in range(count)]
        options = {"type": "csv", "columns": names}
        if delimiter != ",":
            options["delimiter"] = delimiter
        try:
            decode = CODECS.choose(options).codec()
        except ValueError:
            continue
        if _good(decode, lines):
            return options
    return None


def _layout(size: int) -> dict[str, Any]:
    """A binary codec that takes frames of this size, until somebody says what is in them."""
    fields: list[dict[str, Any]] = [{"name": "byte0", "type": "u8"}]
    if size > 1:
        fields.append({"type": "skip", "length": size - 1})
    return {"type": "struct", "byteorder": "little", "layout": [{"fields": fields}]}
