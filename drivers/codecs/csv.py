"""CSV with named columns: each line is a reading.

    columns = ["ms", "temperature", "", "state"], texts = ["state"]

names the columns of `1200,21.5,7,open`; a column without a name is left out. A line with fewer or more columns than
named is refused: part of one is as good as none. A text in double quotes may hold the delimiter (RFC 4180).
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from drivers.codecs.text import TextCodecConfig, text_codec

if TYPE_CHECKING:
    from drivers.codecs.model import Codec


class CsvConfig(TextCodecConfig):
    """CSV."""

    summary: ClassVar[str] = "CSV with named columns"
    example: ClassVar[str] = 'codec = { type = "csv", columns = ["ms", "temperature"], ignore = ["#"] }'

    type: Literal["csv"] = "csv"
    columns: Annotated[list[str], Field(min_length=1, max_length=1000)]
    """The metrics in their order; an empty name leaves a column out."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1, pattern=r"[^\r\n\"0-9.+-]")] = ","
    """What stands between two columns."""

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        """A reading has one value of a name.

        Raises:
            ValueError: A name is used twice, none is used, or `texts` or `units` name no column.
        """
        names = [name for name in self.columns if name]
        if not names or len(set(names)) < len(names):
            raise ValueError("`columns` must name at least one column, and none twice")
        for key in ("texts", "units"):
            if unknown := sorted(set(getattr(self, key)) - set(names)):
                raise ValueError(f"`{key}`: no column is named {', '.join(map(repr, unknown))}")
        return self

    def codec(self) -> Codec:
        """The function that decodes."""
        columns = self.columns

        def split(text: str) -> dict[str, str]:
            try:
                fields = next(csv.reader([text], delimiter=self.delimiter, strict=True), [])
            except csv.Error as error:
                raise ValueError(f"not CSV: {error}") from None
            if len(fields) != len(columns):
                raise ValueError(f"{len(fields)} columns instead of {len(columns)}")
            return {name: field.strip() for name, field in zip(columns, fields, strict=True) if name}

        return text_codec(self, split)
