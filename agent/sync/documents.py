"""Whether documents from outside are those of readings, checked many at once.

The same rules as `Reading.from_document`, in a third of the time: no object is made, and the documents stay
exactly as they were sent.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Required

from pydantic import (
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12, and brings it along

from collectors.enums import ClockQuality, Lane, QualityFlag
from collectors.models import INT_MAX, INT_MIN, Name

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Value = StrictBool | Annotated[StrictInt, Field(ge=INT_MIN, le=INT_MAX)] | _Number | StrictStr
_Count = Annotated[StrictInt, Field(ge=0, le=INT_MAX)]


class _Document(TypedDict, total=False):
    """What `Reading.to_document` gives."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic configures a TypedDict
    source: Required[Name]
    t: Required[_Number]
    values: Required[Annotated[dict[Name, _Value], Field(min_length=1)]]
    units: dict[str, str]
    tags: dict[str, str]
    quality: dict[str, tuple[QualityFlag, str]]
    indicators: dict[Name, _Number]
    clock: ClockQuality
    t_error: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
    t_sensor: _Number
    t_arrived: _Number
    boot: _Count
    up: _Count
    lane: Lane
    origin: tuple[Name, Annotated[StrictInt, Field(ge=1, le=65535)], Name]


_DOCUMENTS = TypeAdapter(Annotated[list[_Document], FailFast()])
_ENTRIES_MAX = 1_000
"""Of one field that is looked at in one go: each may have faults, and each fault takes memory."""


def first_fault(documents: Sequence[dict[str, Any]]) -> tuple[int, str] | None:
    """The place of the first document that is not one of a reading, and why; None when all are."""
    if not any(_is_large(field) for document in documents for field in document.values()):
        return _first_fault(documents)
    for place, document in enumerate(documents):
        fault = _first_fault(list(_pieces(document)))
        if fault is not None:
            return place, fault[1]
    return None


def _pieces(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same as documents of which no field has many entries: all are those of readings, or it is not."""
    large = {name: iter(field.items()) for name, field in document.items() if _is_large(field)}
    small = document | {name: dict(islice(entries, _ENTRIES_MAX)) for name, entries in large.items()}
    yield small
    for name, entries in large.items():
        while more := dict(islice(entries, _ENTRIES_MAX)):
            yield small | {name: more}


def _is_large(field: object) -> bool:
    return type(field) is dict and len(field) > _ENTRIES_MAX


def _first_fault(documents: Sequence[dict[str, Any]]) -> tuple[int, str] | None:
    try:
        _DOCUMENTS.validate_python(documents)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        place, *inside = detail["loc"]
        return int(place), f"{'.'.join(str(part) for part in inside)}: {detail['msg']}"
    return None
