"""What is wrong with a configuration, told so that it can be put right: where, what, and the remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collectors.suggestion import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


_SECRET_KEY = re.compile(r"passw|token|secret|credential|(^|_)key$", re.IGNORECASE)
_SECRET_FILE = re.compile(r"_file$")
_HIDDEN = "a secret, not shown"
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@/\s]*@")
_THINGSBOARD_TOKEN = re.compile(r"(/api/v1/)[^/'\"]+")
"""Its device API has the access token in the path."""
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


def is_secret(key: str) -> bool:
    """Whether what stands at a key may be a secret."""
    return _SECRET_KEY.search(key) is not None and _SECRET_FILE.search(key) is None


def shown(key: str, value: Any) -> str | None:
    """A value as a message may show it: short, as TOML, and never a secret. None: there is nothing to show."""
    if is_secret(key):
        return None if isinstance(value, dict) else _HIDDEN
    text = _THINGSBOARD_TOKEN.sub(r"\1***", _URL_PASSWORD.sub(r"\1:***@", _toml(value)))
    return text if len(text) <= _VALUE_CHARS_MAX else text[: _VALUE_CHARS_MAX - 1] + "…"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{name} = {shown(str(name), item) or '...'}" for name, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def key_path(parts: Iterable[str | int]) -> str:
    """`source[1].port` for ("source", 1, "port")."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def unknown_key(key: str, known: Iterable[str], what: str = "key") -> str:
    """Says that a key is not known here, and which one was probably meant."""
    names = sorted(known)
    meant = nearest(key, names)
    if meant is not None:
        return f"is not a {what} here; did you mean `{meant}`?"
    return f"is not a {what} here; the {what}s are {', '.join(names)}" if names else f"is not a {what} here"


def unknown_choice(what: str, known: Iterable[str], given: str) -> str:
    """Says that a name is not among the choices, and which one was probably meant."""
    names = sorted(set(known))
    meant = nearest(given, names)
    hint = f"; did you mean `{meant}`?" if meant is not None else ""
    return f"there is no such {what}; there are {', '.join(names)}{hint}"
