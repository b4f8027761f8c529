"""A codec: one whole number, scaled. Pure: bytes in, values out, no input or output."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from drivers.codecs import CodecConfig, Decoded

if TYPE_CHECKING:
    from drivers.codecs import Codec

NUMBER = re.compile(rb"[+-]?[0-9]{1,15}")


class ScaledConfig(CodecConfig):
    """The codec as a configuration names it: `type` is its name, the other fields its options."""

    summary: ClassVar[str] = "one whole number, scaled"
    example: ClassVar[str] = (
        'codec = { type = "scaled", metric = "temperature", factor = 0.001, unit = "Cel" }'
    )

    type: Literal["scaled"] = "scaled"
    metric: Annotated[str, Field(min_length=1)]
    factor: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    unit: str | None = None

    def codec(self) -> Codec:
        """The function that decodes: ValueError, and nothing else, for bytes that are not in its format."""
        units = {} if self.unit is None else {self.metric: self.unit}

        def decode(raw: bytes) -> list[Decoded]:
            if NUMBER.fullmatch(raw) is None:
                raise ValueError(f"no whole number: {raw[:40]!r}")
            value = int(raw) * self.factor
            if not math.isfinite(value):
                raise ValueError(f"{raw!r} times {self.factor} is too large for a 64-bit float")
            return [Decoded({self.metric: value}, units=units)]

        return decode
