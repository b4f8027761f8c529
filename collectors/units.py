"""Sizes and durations as people write them in a configuration: `2 GB`, `30 s`, `7 days`.

A bare number is bytes or seconds. Sizes with decimal prefixes are powers of 1000, with binary ones
(`KiB`, `MiB`, `GiB`) powers of 1024 (IEC 80000-13).
"""

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_QUANTITY = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)\s*")

_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}

_SECONDS = {
    "": 1.0,
    "ms": 0.001,
    "s": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
}


def _parse(text: str, units: dict[str, int] | dict[str, float], example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    factor = units.get(match["unit"].lower()) if match else None
    quantity = math.inf if match is None or factor is None else float(match["number"]) * factor
    if math.isinf(quantity):
        raise ValueError(f"not understood; write it like {example}")
    return quantity


def is_duration(text: str) -> bool:
    """Whether it is a duration with its unit."""
    match = _QUANTITY.fullmatch(text)
    return match is not None and match["unit"] != "" and match["unit"].lower() in _SECONDS


def is_size(text: str) -> bool:
    """Whether it is a size with its unit."""
    match = _QUANTITY.fullmatch(text)
    return match is not None and match["unit"] != "" and match["unit"].lower() in _BYTES


def shown_duration(seconds: float) -> str:
    """A duration in the largest unit in which it is a whole number: `30 days`."""
    for unit in ("days", "h", "min", "s"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g} {unit}"
    return f"{seconds * 1000:g} ms" if seconds else "0"


def shown_size(size_bytes: float) -> str:
    """A size in the largest unit in which it is a whole number: `64 KiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _BYTES[unit.lower()] == 0:
            return f"{size_bytes / _BYTES[unit.lower()]:g} {unit}"
    return f"{size_bytes:g} bytes" if size_bytes else "0"


def parse_size(value: Any) -> Any:
    """Bytes, from a number or a text such as `2 GB`; anything else is left for pydantic to refuse."""
    return round(_parse(value, _BYTES, '"2 GB" or "512 MiB"')) if isinstance(value, str) else value


def parse_duration(value: Any) -> Any:
    """Seconds, from a number or a text such as `7 days`; anything else is left for pydantic to refuse."""
    return _parse(value, _SECONDS, '"500 ms", "30 s" or "7 days"') if isinstance(value, str) else value


def parse_whole_seconds(value: Any) -> Any:
    """Like `parse_duration`, with a fraction of a second rounded up."""
    seconds = parse_duration(value)
    return math.ceil(seconds) if isinstance(seconds, float) and math.isfinite(seconds) else seconds


SizeText = Annotated[
    str,
    Field(pattern=r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]?\s*$", examples=["512 MiB", "2 GB"]),
]
"""A size as a text, for schemas."""

DurationText = Annotated[
    str,
    Field(
        pattern=r"^\s*[0-9]+(\.[0-9]+)?\s*([mM]?[sS]|[sS]econds?|[mM]in(utes?)?|[hH](ours?)?|[dD](ays?)?)?\s*$",
        examples=["500 ms", "30 s", "5 min", "7 days"],
    ),
]
"""A duration as a text, for schemas."""

Size = BeforeValidator(parse_size, json_schema_input_type=int | SizeText)
"""Lets a size be written with its unit."""

Duration = BeforeValidator(parse_duration, json_schema_input_type=float | DurationText)
"""Lets a duration be written with its unit."""

SizeBytes = Annotated[int, Size, Field(gt=0)]
"""A size in bytes, more than zero."""

DurationS = Annotated[float, Duration, Field(gt=0, allow_inf_nan=False)]
"""A duration in seconds, more than zero."""

WholeSeconds = Annotated[
    int, BeforeValidator(parse_whole_seconds, json_schema_input_type=float | DurationText), Field(ge=0)
]
"""A duration that a protocol carries in whole seconds, rounded up; zero is one."""
