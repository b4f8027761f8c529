"""Binary layouts: fixed fields with scaling and units, as C structs (packed) and data sheets have them.

    [source.codec]
    type = "struct"
    byteorder = "little"

    [[source.codec.layout]]
    prefix = "D"
    fields = [
        { name = "seq", type = "u32" },
        { name = "temperature", type = "i16", scale = 0.1, unit = "Cel", missing = -32768 },
    ]

reads `44 0c000000 d600` as seq 12 and 21.4 degrees. The layout is the first whose prefix the frame begins with and whose
size it has; a frame of any other size is refused. A value is raw x `scale` + `offset`.
"""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from collectors.models import INT_MAX, INT_MIN
from drivers.codecs.config import CodecConfig
from drivers.codecs.model import Decoded, excerpt
from drivers.framing.config import ByteString

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.codecs.model import Codec

_CODES = {
    "u8": "B",
    "i8": "b",
    "u16": "H",
    "i16": "h",
    "u32": "I",
    "i32": "i",
    "u64": "Q",
    "i64": "q",
    "f32": "f",
    "f64": "d",
    "bool": "?",
}
_F32 = struct.Struct("f")
_F32_MAX = 3.4028234663852886e38
FieldType = Literal[
    "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "bool", "text", "skip"
]
Value = bool | int | float | str
Finite = Annotated[float, Field(allow_inf_nan=False)]


class FieldConfig(BaseModel):
    """One field of a layout."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    name: Annotated[str, Field(min_length=1)] | None = None
    """The metric; `skip` needs none."""
    type: FieldType
    """What its bytes are."""
    length: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Bytes, of a `text` (UTF-8, ended by a zero or the length) or a `skip`."""
    scale: Finite = 1.0
    """The value is raw x `scale` + `offset`."""
    offset: Finite = 0.0
    """Added after scaling."""
    unit: str | None = None
    """By RFC 8428's registry where it has one."""
    missing: int | Finite | None = None
    """The raw value that says that there is none."""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        """Each type has its options.

        Raises:
            ValueError: One is missing, or makes no sense.
        """
        sized = self.type in {"text", "skip"}
        if sized is (self.length is None):
            raise ValueError(
                f"`length` {'is required for' if sized else 'belongs to text and skip, not to'} {self.type}"
            )
        if (self.type == "skip") is not (self.name is None):
            raise ValueError("`name` is required" if self.name is None else "a skip has no `name`")
        if (sized or self.type == "bool") and (self.scale, self.offset, self.missing) != (1.0, 0.0, None):
            raise ValueError(f"`scale`, `offset` and `missing` belong to numbers, not to {self.type}")
        if self.scale == 0:
            raise ValueError("`scale` must not be 0: every value would be the same")
        return self

    @property
    def code(self) -> str:
        """As the struct module writes it."""
        if self.type == "text":
            return f"{self.length}s"
        return f"{self.length}x" if self.type == "skip" else _CODES[self.type]

    def reader(self) -> Callable[[Any], Value | None]:
        """What makes a value of what struct gives; None for none."""
        if self.type in {"text", "bool"}:
            return _text if self.type == "text" else bool
        missing = self.missing
        scaled = _scaling(self)

        def read(raw: float) -> float | None:
            return None if raw == missing or not math.isfinite(raw) else scaled(raw)

        return read


def _scaling(field: FieldConfig) -> Callable[[float], float]:
    """Scales without the noise of binary fractions: 214 x 0.1 is 21.4, not 21.400000000000002."""
    scale, offset = field.scale, field.offset
    if field.type in {"f32", "f64"}:
        exact = _shortest if field.type == "f32" else float
        if (scale, offset) == (1.0, 0.0):
            return exact
        return lambda raw: exact(raw) * scale + offset
    if scale.is_integer() and offset.is_integer():
        return lambda raw: _in_64_bits(int(raw) * int(scale) + int(offset))
    places = max(-int(Decimal(repr(number)).as_tuple().exponent) for number in (scale, offset))
    return lambda raw: round(raw * scale + offset, places)


def _shortest(raw: float) -> float:
    """The number with the fewest digits that is the same 32-bit float: 21.4, not 21.399999618530273."""
    packed = _F32.pack(raw)
    for digits in range(6, 9):
        short = float(f"{raw:.{digits}g}")
        if abs(short) <= _F32_MAX and _F32.pack(short) == packed:
            return short
    return float(f"{raw:.9g}")


def _in_64_bits(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise ValueError(f"the integer {value} does not fit 64 bits")
    return value


def _text(raw: bytes) -> str | None:
    try:
        return raw.partition(b"\0")[0].decode() or None
    except UnicodeDecodeError as error:
        raise ValueError(f"a text that is not UTF-8: {error.reason} at byte {error.start}") from None


class LayoutConfig(BaseModel):
    """The layout of one kind of frame."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    prefix: Annotated[ByteString, Field(max_length=16)] = b""
    """What such a frame begins with, before its fields."""
    fields: Annotated[list[FieldConfig], Field(min_length=1, max_length=1000)]
    """What is in the frame, in its order."""

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        """A reading has at least one value, and each name once.

        Raises:
            ValueError: It does not.
        """
        names = [field.name for field in self.fields if field.name is not None]
        if not names or len(set(names)) < len(names):
            raise ValueError("`fields` must name at least one metric, and none twice")
        return self


class StructConfig(CodecConfig):
    """Binary layouts."""

    summary: ClassVar[str] = "binary layouts: fields with scaling and units"
    example: ClassVar[str] = """\
[source.codec]
type = "struct"
byteorder = "little"
ignore = ["{"]

[[source.codec.layout]]
prefix = "D"
fields = [
    { name = "seq", type = "u32" },
    { name = "temperature", type = "i16", scale = 0.1, unit = "Cel", missing = -32768 },
]"""

    refuses_half: ClassVar[bool] = True

    type: Literal["struct"] = "struct"
    byteorder: Literal["big", "little"]
    """Whether the highest byte of a number comes first (`big`) or last."""
    layout: Annotated[list[LayoutConfig], Field(min_length=1, max_length=100)]
    """The layouts; the first one that a frame has the length and the prefix of counts."""
    ignore: Annotated[list[Annotated[ByteString, Field(min_length=1)]], Field(max_length=100)] = Field(
        default_factory=list
    )
    """Frames that begin with one of these say no reading: banners, answers."""

    @model_validator(mode="after")
    def _every_layout_is_reached(self) -> Self:
        """The first layout that fits is taken.

        Raises:
            ValueError: One is never taken, since one before it takes the same frames.
        """
        layouts = [_Layout(layout, self.byteorder) for layout in self.layout]
        for place, layout in enumerate(layouts):
            for before, other in enumerate(layouts[:place]):
                if layout.size == other.size and layout.prefix.startswith(other.prefix):
                    raise ValueError(
                        f"layout[{place}] is never used: layout[{before}] takes all frames of {layout.size} bytes"
                        f"{f' that begin with {layout.prefix!r}' if layout.prefix else ''}; give each its own `prefix`, and the longest prefix first"
                    )
        return self

    def codec(self) -> Codec:
        """The function that decodes."""
        layouts = [_Layout(layout, self.byteorder) for layout in self.layout]
        ignored = tuple(self.ignore)
        sizes = ", ".join(str(layout.size) for layout in layouts)

        def decode(raw: bytes) -> list[Decoded]:
            for layout in layouts:
                if len(raw) == layout.size and raw.startswith(layout.prefix):
                    return [layout.decoded(raw)]
            if ignored and raw.startswith(ignored):
                return []
            raise ValueError(f"{len(raw)} bytes fit no layout, which have {sizes}: {excerpt(raw)}")

        return decode


class _Layout:
    """A layout, made ready."""

    def __init__(self, config: LayoutConfig, byteorder: str) -> None:
        order = "<" if byteorder == "little" else ">"
        self.prefix = config.prefix
        self._struct = struct.Struct(order + "".join(field.code for field in config.fields))
        self.size = len(self.prefix) + self._struct.size
        self._readers = [
            (field.name, field.reader(), field.unit) for field in config.fields if field.name is not None
        ]

    def decoded(self, raw: bytes) -> Decoded:
        """The reading of a frame of the right size.

        Raises:
            ValueError: A text is none, a value is too large, or there is no value at all.
        """
        values: dict[str, Value] = {}
        units: dict[str, str] = {}
        parts = self._struct.unpack_from(raw, len(self.prefix))
        for (name, read, unit), part in zip(self._readers, parts, strict=True):
            try:
                value = read(part)
            except (ValueError, OverflowError) as error:
                raise ValueError(f"{name}: {error}: {excerpt(raw)}") from None
            if value is None:
                continue
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name}: the number is too large for a 64-bit float: {excerpt(raw)}")
            values[name] = value
            if unit is not None:
                units[name] = unit
        if not values:
            raise ValueError(f"no field has a value: {excerpt(raw)}")
        return Decoded(values, units=units)
