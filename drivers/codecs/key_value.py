"""Names with values: `temperature=21.5 humidity=40`, `t:21.5;rh:40`.

Pairs are separated by white space, commas or semicolons, unless `separator` says by what. A name that comes twice
is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from drivers.codecs.text import TextCodecConfig, text_codec

if TYPE_CHECKING:
    from drivers.codecs.model import Codec

_SEPARATORS = re.compile(r"[,;\s]+")


class KeyValueConfig(TextCodecConfig):
    """Names with values."""

    summary: ClassVar[str] = "names with values, such as t=21.5 rh=40"
    example: ClassVar[str] = 'codec = { type = "key_value", assign = ":", units = { t = "Cel" } }'

    type: Literal["key_value"] = "key_value"
    assign: Annotated[str, Field(min_length=1, max_length=4)] = "="
    """What stands between a name and its value."""
    separator: Annotated[str, Field(min_length=1, max_length=4)] | None = None
    """What stands between two pairs; unset, white space, commas and semicolons do."""

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        """A pair is not cut at what stands between its name and its value.

        Raises:
            ValueError: It would be, so that no line could ever be read.
        """
        cut = _SEPARATORS.search(self.assign) if self.separator is None else self.separator in self.assign
        if cut:
            between = "white space, commas and semicolons" if self.separator is None else "`separator`"
            raise ValueError(f"`assign` {self.assign!r} holds what separates pairs ({between})")
        return self

    def codec(self) -> Codec:
        """The function that decodes."""
        assign, separator = self.assign, self.separator

        def split(text: str) -> dict[str, str]:
            named: dict[str, str] = {}
            pairs = _SEPARATORS.split(text) if separator is None else text.split(separator)
            for pair in pairs:
                if not pair or pair.isspace():
                    continue
                name, found, value = pair.partition(assign)
                name = name.strip()
                if not found or not name:
                    raise ValueError(f"{pair[:40]!r} is no NAME{assign}VALUE")
                if name in named:
                    raise ValueError(f"two values are named {name[:40]!r}")
                named[name] = value.strip()
            return named

        return text_codec(self, split)
