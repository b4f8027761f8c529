"""What is wrong with a configuration, told so that it can be put right: where, what, and the remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collectors.suggestion import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_SECRET_KEY = re.compile(r"passw|token|secret|credential|(^|_)key$", re.IGNORECASE)
_SECRET_FILE = re.compile(r"_file$")
_HIDDEN = "a secret, not shown"
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@/\s]*@")
_VALUE_CHARS_MAX = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the key path, what stands there, and what would be right."""

    where: str
    """The key path in its file; `file` for what is wrong with a file as a whole."""
    message: str
    value: str | None = None
    place: str | None = None
    """File and line."""

    def __str__(self) -> str:
        found = "" if self.value is None else f" (found {self.value})"
        if self.place is None:
            return f"{self.where}: {self.message}{found}"
        where = "" if self.where == "file" else f"{self.where}: "
        return f"{self.place}: {where}{self.message}{found}"


class ConfigurationError(ValueError):
    """A configuration that cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem], source: str) -> None:
        self.problems = tuple(problems)
        self.source = source
        self.secret_files: tuple[Path, ...] = ()
        """The files of secrets that it names, as far as it could be read: it may become right when one of them changes."""
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = [f"{source}: {count}", *(f"  {problem}" for problem in self.problems)]
        super().__init__("\n".join(lines))


def shown(key: str, value: Any) -> str:
    """A value as a message may show it: short, and never a secret."""
    shown_value = _without_secrets(key, value)
    text = _HIDDEN if shown_value is _HIDDEN else _URL_PASSWORD.sub(r"\1:***@", repr(shown_value))
    return text if len(text) <= _VALUE_CHARS_MAX else text[: _VALUE_CHARS_MAX - 1] + "…"


def _without_secrets(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key) and not _SECRET_FILE.search(key):
        return _HIDDEN
    if isinstance(value, dict):
        return {name: _without_secrets(str(name), item) for name, item in value.items()}
    return [_without_secrets(key, item) for item in value] if isinstance(value, list) else value


def key_path(parts: Iterable[str | int]) -> str:
    """`source[1].port` for ("source", 1, "port")."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Says that a key is not known here, and which one was probably meant."""
    names = sorted(known)
    meant = nearest(key, names)
    if meant is not None:
        return f"is not a key here; did you mean `{meant}`?"
    return f"is not a key here; the keys are {', '.join(names)}"


def unknown_choice(what: str, known: Iterable[str], given: str) -> str:
    """Says that a name is not among the choices, and which one was probably meant."""
    names = sorted(known)
    meant = nearest(given, names)
    hint = f"; did you mean `{meant}`?" if meant is not None else ""
    return f"there is no such {what}; there are {', '.join(names)}{hint}"


def _message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, key = detail["type"], str(detail["loc"][-1]) if detail["loc"] else ""
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        if len(detail["loc"]) > 1:
            return "is not a key here"
        return unknown_key(key, (field.alias or name for name, field in model.model_fields.items()))
    message = detail["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "should be").replace("String should", "should")


# How pydantic marks the branch of a union, the key of a mapping, or the validator it was in:
# not a key in the user's file.
_NOT_A_KEY = re.compile(r"function-|constrained-|\[key\]|^(str|int|float|bool|none)$")


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    prefix: Sequence[str | int],
    made: Callable[[Sequence[str | int], str, str | None], Problem],
) -> list[Problem]:
    """Every problem in a pydantic error, with the key path as it stands in the file.

    Args:
        error: What pydantic found.
        model: What it checked against.
        prefix: Where the table stands.
        made: Makes a problem of path, message and value.
    """
    problems: dict[str, Problem] = {}
    for detail in error.errors(include_url=False):
        parts = [part for part in detail["loc"] if isinstance(part, int) or not _NOT_A_KEY.search(part)]
        where = key_path([*prefix, *parts])
        key = str(parts[-1]) if parts else ""
        present = detail["type"] not in {"missing", "extra_forbidden"} and parts
        value = shown(key, detail["input"]) if present else None
        if where not in problems:
            problems[where] = made([*prefix, *parts], _message(detail, model), value)
    return list(problems.values())
