"""The wire formats by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.sync import senml
from agent.sync.senml_text import encode_text

if TYPE_CHECKING:
    from agent.sync.packing import TextFormat, WireFormat

FormatName = Literal["senml", "influx", "thingsboard"]


@dataclass(frozen=True, slots=True)
class Format:
    """How readings become bytes, and what these are called."""

    encode: WireFormat
    content_type: str
    encode_text: TextFormat | None = None
    """The same from records as they are stored."""


def create_format(name: FormatName) -> Format:
    """The format of one upstream. What one needs is imported when it is used."""
    if name == "influx":
        from agent.sync import line_protocol

        return Format(line_protocol.encode, line_protocol.CONTENT_TYPE)
    if name == "thingsboard":
        from agent.sync import thingsboard

        return Format(thingsboard.ThingsBoardFormat(), thingsboard.CONTENT_TYPE)
    return Format(senml.encode, senml.CONTENT_TYPE, encode_text)
