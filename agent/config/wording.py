"""What pydantic finds wrong, in the words of whoever wrote the file: where it stands, and what would be right."""

from __future__ import annotations

import math
import re
from inspect import isabstract
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel

from agent.config.errors import is_secret, key_path, shown, unknown_key
from collectors.units import is_duration, is_size, shown_duration, shown_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from agent.config.errors import Problem

    Part = str | int

_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bool_parsing": "should be true or false",
        "bool_type": "should be true or false",
        "date_type": "should be a date",
        "dict_type": "should be a table, such as { key = value }",
        "finite_number": "should be a finite number",
        "float_parsing": "should be a number",
        "float_type": "should be a number, without quotes",
        "int_from_float": "should be a whole number",
        "int_parsing": "should be a whole number",
        "int_type": "should be a whole number, without quotes",
        "missing": "is required",
        "model_attributes_type": "should be a table, such as { key = value }",
        "model_type": "should be a table, such as { key = value }",
        "path_type": 'should be a path, in quotes: "/var/lib/outstation"',
        "string_type": "should be a text, in quotes",
    }
)
_NOTHING_FOUND: Final = frozenset({"missing", "extra_forbidden", "unknown_key"})
_PATTERNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "^[A-Za-z0-9][A-Za-z0-9_.-]*$": (
            "should be of letters, digits, `_`, `.` and `-`, and begin with a letter or a digit"
        ),
        "^[0-9a-fA-F]{4}$": "should be four hexadecimal digits, as `lsusb` shows them",
        r"[^\r\n\"0-9.+-]": "should be one character, and none that numbers or quotes are made of",
    }
)
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "greater_than": ("gt", "should be greater than {}"),
        "greater_than_equal": ("ge", "should be greater than or equal to {}"),
        "less_than": ("lt", "should be less than {}"),
        "less_than_equal": ("le", "should be less than or equal to {}"),
    }
)
# How pydantic marks the branch of a union, the key of a mapping, or the validator it was in: not a key in the file.
_NOT_A_KEY: Final = re.compile(r"function-|constrained-|\[key\]|^(str|int|float|bool|none)$")


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    prefix: Sequence[Part],
    made: Callable[[Sequence[Part], str, str | None], Problem],
    also: Iterable[str] = (),
) -> list[Problem]:
    """Every problem in a pydantic error, with the key path as it stands in the file.

    Args:
        error: What pydantic found.
        model: What it checked against.
        prefix: Where the table stands.
        made: Makes a problem of path, message and value.
        also: Keys that the table can have beside those of the model.
    """
    problems: dict[str, Problem] = {}
    details = error.errors(include_url=False)
    for detail in details:
        if _follows_from_others(detail, details):
            continue
        parts, holder = _walk(model, detail["loc"])
        if detail["type"] == "union_tag_invalid":
            parts.append(detail["ctx"]["discriminator"].strip("'"))
        key = str(parts[-1]) if parts else ""
        path = [*prefix, *parts]
        where = key_path(path)
        if where in problems:
            continue
        hidden = any(isinstance(part, str) and is_secret(part) for part in parts[:-1])
        present = bool(parts) and not hidden and detail["type"] not in _NOTHING_FOUND
        value = shown(key, _found(detail)) if present else None
        known = [] if holder is None else _keys(holder)
        if holder is model:
            known += also
        problems[where] = made(path, _message(detail, key, known), value)
    return list(problems.values())


def _follows_from_others(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """Whether a list is too short only because what is in it is wrong."""
    loc = detail["loc"]
    return detail["type"] == "too_short" and any(
        other["loc"][: len(loc)] == loc and len(other["loc"]) > len(loc) for other in details
    )


def _found(detail: ErrorDetails) -> Any:
    if detail["type"] == "union_tag_invalid":
        return detail["ctx"]["tag"]
    return detail["input"]


def _message(detail: ErrorDetails, key: str, known: Sequence[str]) -> str:
    kind, given = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return unknown_key(key, known)
    if kind in {"list_type", "tuple_type"}:
        return f"should be a list: [{shown(key, given)}]"
    if isinstance(given, float) and not math.isfinite(given) and kind in _BOUNDS:
        return _WORDS["finite_number"]
    words = _WORDS.get(kind) or _MADE.get(kind, _as_it_is)(detail)
    return words.replace("Input should be", "should be").replace("String should", "should")


def _as_it_is(detail: ErrorDetails) -> str:
    return detail["msg"].removeprefix("Value error, ")


def _bounds(detail: ErrorDetails) -> str:
    name, text = _BOUNDS[detail["type"]]
    return text.format(_bound(detail["ctx"][name], detail["input"]))


def _pattern(detail: ErrorDetails) -> str:
    return _PATTERNS.get(detail["ctx"]["pattern"]) or _as_it_is(detail)


def _short(detail: ErrorDetails) -> str:
    least = detail["ctx"]["min_length"]
    return "should not be empty" if least == 1 else f"should have {least} entries or more"


def _long(detail: ErrorDetails) -> str:
    return f"should have {detail['ctx']['max_length']} entries or fewer"


def _literal(detail: ErrorDetails) -> str:
    given, expected = detail["input"], detail["ctx"]["expected"]
    quotes = ", in quotes" if not isinstance(given, str) and f"'{given}'" in expected else ""
    return f"should be {expected}{quotes}"


def _tag(detail: ErrorDetails) -> str:
    return f"should be {' or '.join(detail['ctx']['expected_tags'].rsplit(', ', 1))}"


_MADE: Final[Mapping[str, Callable[[ErrorDetails], str]]] = MappingProxyType(
    {
        **dict.fromkeys(_BOUNDS, _bounds),
        "bytes_too_short": _short,
        "literal_error": _literal,
        "string_pattern_mismatch": _pattern,
        "string_too_short": _short,
        "too_long": _long,
        "too_short": _short,
        "union_tag_invalid": _tag,
    }
)


def _bound(limit: float, given: object) -> str:
    """A limit, in units where the value has one."""
    if isinstance(given, str):
        if is_duration(given):
            return shown_duration(limit)
        if is_size(given):
            return shown_size(limit)
    return f"{limit:.15g}"


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _walk(model: type[BaseModel], loc: Sequence[Part]) -> tuple[list[Part], type[BaseModel] | None]:
    """The path as it stands in the file, and the model of the table that its last key is in, if that is known."""
    parts: list[Part] = []
    holder: type[BaseModel] | None = model
    inside: list[type[BaseModel]] = [model]
    for place, part in enumerate(loc):
        if isinstance(part, int):
            parts.append(part)
            continue
        tagged = _tagged(inside, part) if len(inside) > 1 else None
        if tagged is not None:
            inside = [tagged]
        if tagged is not None or _NOT_A_KEY.search(part):
            continue
        parts.append(part)
        holder = inside[0] if len(inside) == 1 else None
        field = None if holder is None else holder.model_fields.get(part)
        if field is not None and place < len(loc) - 1:
            inside = _models_in(field.annotation)
        elif field is None:
            inside = []
    return parts, holder


def _tagged(models: Iterable[type[BaseModel]], tag: str) -> type[BaseModel] | None:
    """Which of the models of a union a tag means."""
    for model in models:
        for field in model.model_fields.values():
            if tag in get_args(field.annotation):
                return model
    return None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (
            [] if isabstract(annotation) else [annotation]
        )  # a codec or framing: which one it is does not show here
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
