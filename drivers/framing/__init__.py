"""Framing: how frames are found in a stream of bytes. Pure: bytes in, frames out, no input or output.

A framer is fed whatever arrives, in pieces of any size. It gives back every intact frame once and in order,
and a `FrameError` for what was not one; after garbage it finds the next frame by itself. What comes out does
not depend on how the bytes were cut into pieces.

A framing is named in a configuration, `framing = "cobs"`, or with its options,
`framing = { type = "cobs", crc = "crc32" }`; other packages can bring further ones (`drivers.extensions`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny, WithJsonSchema

from drivers.choice import Choices
from drivers.extensions import FRAMINGS as GROUP
from drivers.framing.config import FramingConfig
from drivers.framing.model import ErrorKind, FrameCounts, FrameError, Framer

__all__ = [
    "FRAMINGS",
    "ErrorKind",
    "FrameCounts",
    "FrameError",
    "Framer",
    "FramingChoice",
    "FramingConfig",
]

FRAMINGS: Choices[FramingConfig] = Choices(
    "framing",
    {
        "cobs": "drivers.framing.cobs:CobsConfig",
        "delimited": "drivers.framing.delimited:DelimitedConfig",
        "fixed": "drivers.framing.fixed:FixedConfig",
        "length_prefixed": "drivers.framing.length_prefixed:LengthPrefixedConfig",
        "lines": "drivers.framing.lines:LinesConfig",
        "slip": "drivers.framing.slip:SlipConfig",
    },
    GROUP,
    FramingConfig,  # type: ignore[type-abstract] # never instantiated: what every framing is a subclass of
)
"""Every framing by its name."""

FramingChoice = Annotated[
    SerializeAsAny[FramingConfig], BeforeValidator(FRAMINGS.choose), WithJsonSchema({"x-choice": "framing"})
]
"""A framing as a field of a configuration: its name, or a table with its name as `type` and its options."""
