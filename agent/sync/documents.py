"""Whether documents from outside are those of readings, checked many at once.

The same rules as `Reading.from_document`, in a third of the time: no object is made, and the documents stay
exactly as they were sent.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Required

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError
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


_DOCUMENTS = TypeAdapter(list[_Document])


def first_fault(documents: Sequence[dict[str, Any]]) -> tuple[int, str] | None:
    """The place of the first document that is not one of a reading, and why; None when all are."""
    try:
        _DOCUMENTS.validate_python(documents)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        place, *inside = detail["loc"]
        return int(place), f"{'.'.join(str(part) for part in inside)}: {detail['msg']}"
    return None
