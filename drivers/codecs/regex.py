r"""A regular expression with named groups: for every line that is in no format.

    pattern = 'T=(?P<temperature>-?\d+\.\d)C( H=(?P<humidity>\d+)%)?'

reads `T=21.5C H=40%`. The whole line must match; a group that took no part has no value.

Python's regular expressions search back when they fail, and some patterns take for ever over a short line. So lines
have a bounded length, and a pattern that could take long over the longest one is refused when the configuration is
checked (`drivers.codecs.backtracking`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from drivers.codecs.backtracking import check_backtracking
from drivers.codecs.text import TextCodecConfig, text_codec

if TYPE_CHECKING:
    from drivers.codecs.model import Codec


class RegexConfig(TextCodecConfig):
    """A regular expression."""

    summary: ClassVar[str] = "a regular expression with named groups"
    example: ClassVar[str] = "codec = { type = \"regex\", pattern = 'T=(?P<temperature>-?[0-9.]+)C' }"

    type: Literal["regex"] = "regex"
    pattern: Annotated[str, Field(min_length=1, max_length=1000)]
    """What a line must match as a whole; each named group, `(?P<t>...)`, is a metric."""
    max_length: Annotated[int, Field(ge=1, le=1000)] = 120
    """The longest line, characters."""

    @model_validator(mode="after")
    def _gives_values_in_time(self) -> Self:
        """The pattern names groups, and is quick on every line.

        Raises:
            ValueError: It is no pattern, names no group, could take too long, or `texts` or `units` name no group.
        """
        try:
            groups = re.compile(self.pattern).groupindex
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"`pattern` is no regular expression: {error}") from None
        if not groups:
            raise ValueError("`pattern` must name a group for each value, such as (?P<temperature>[0-9.]+)")
        for key in ("texts", "units"):
            if unknown := sorted(set(getattr(self, key)) - set(groups)):
                raise ValueError(f"`{key}`: no group is named {', '.join(map(repr, unknown))}")
        check_backtracking(self.pattern, self.max_length)
        return self

    def codec(self) -> Codec:
        """The function that decodes."""
        pattern, longest = re.compile(self.pattern), self.max_length

        def split(text: str) -> dict[str, str]:
            if len(text) > longest:
                raise ValueError(f"a line of {len(text)} characters: `max_length` allows {longest}")
            match = pattern.fullmatch(text)
            if match is None:
                raise ValueError("the line does not match the pattern")
            return {name: value.strip() for name, value in match.groupdict().items() if value is not None}

        return text_codec(self, split)
