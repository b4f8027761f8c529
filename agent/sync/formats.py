"""The wire formats by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.sync import senml

if TYPE_CHECKING:
    from agent.sync.packing import WireFormat

FormatName = Literal["senml", "influx", "thingsboard"]


@dataclass(frozen=True, slots=True)
class Format:
    """How readings become bytes, and what these are called."""

    encode: WireFormat
    content_type: str


def create_format(name: FormatName) -> Format:
    """The format of one upstream. What one needs is imported when it is used."""
    if name == "influx":
        from agent.sync import line_protocol

        return Format(line_protocol.encode, line_protocol.CONTENT_TYPE)
    if name == "thingsboard":
        from agent.sync import thingsboard

        return Format(thingsboard.ThingsBoardFormat(), thingsboard.CONTENT_TYPE)
    return Format(senml.encode, senml.CONTENT_TYPE)
