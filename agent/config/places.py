"""On which line of a TOML text each key stands: `tomllib` does not say.

Asked only when something is wrong, of a text that `tomllib` has parsed: so this need not notice what is no TOML.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Path: TypeAlias = "tuple[str | int, ...]"
"""`("source", 1, "port")` is the key `port` of the second `[[source]]`."""

_TOKEN: Final = re.compile(
    r"""
    (?P<space>[ \t\r]+|\#[^\n]*)
    | (?P<newline>\n)
    | (?P<text>
        \"\"\"(?:[^"\\]|\\.|"(?!""))*?\"{3,5}
        | '''.*?'{3,5}
        | "(?:[^"\\\n]|\\.)*"
        | '[^'\n]*'
      )
    | (?P<mark>[][{}=,.])
    | (?P<bare>[^\s"'\#\[\]{}=,.]+)
    """,
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, of every key, table and item of an array."""
    return _Reading(list(_tokens(text))).places


def line_of(places: dict[Path, int], path: Sequence[str | int]) -> int | None:
    """Where a key stands; for one that is not there, the table that it is missing from."""
    for length in range(len(path), 0, -1):
        line = places.get(tuple(path[:length]))
        if line is not None:
            return line
    return None


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "space":
            yield _Token(kind, match[0], line)
        line += match[0].count("\n")
    yield _Token("end", "", line)


class _Reading:
    """Goes through the tokens once."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._arrays: dict[Path, int] = {}
        """How many tables each array of tables has so far."""
        self.places: dict[Path, int] = {}
        header: Path = ()
        while self._now.kind != "end":
            if self._now.kind == "newline":
                self._at += 1
            elif self._now.text == "[":
                header = self._header()
            else:
                self._entry(header)

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`; the path of the table that it begins."""
        line = self._now.line
        self._at += 1
        array = self._now.text == "["
        self._at += array
        path: Path = ()
        keys = self._keys()
        self._at += 1 + array
        for place, key in enumerate(keys, start=1):
            path = self._place((*path, key), line)
            if path in self._arrays and not (array and place == len(keys)):
                path = (*path, self._arrays[path] - 1)
        if array:
            count = self._arrays.get(path, 0)
            self._arrays[path] = count + 1
            path = self._place((*path, count), line)
        return path

    def _entry(self, table: Path) -> None:
        """`a.b = value`."""
        path, line = table, self._now.line
        for key in self._keys():
            path = self._place((*path, key), line)
        self._at += 1  # the equals sign
        self._value(path)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while self._now.kind in {"bare", "text"} or self._now.text == ".":
            if self._now.text != ".":
                keys.append(_key(self._now))
            self._at += 1
        return keys

    def _value(self, path: Path) -> None:
        if self._now.text == "[":
            self._array(path)
        elif self._now.text == "{":
            self._inline_table(path)
        else:
            while self._now.kind not in {"newline", "end"} and self._now.text not in {",", "]", "}"}:
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._now.text != "]":
            if self._now.kind == "newline" or self._now.text == ",":
                self._at += 1
                continue
            self._value(self._place((*path, index), self._now.line))
            index += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._now.text != "}":
            if self._now.kind == "newline" or self._now.text == ",":
                self._at += 1
                continue
            self._entry(path)
        self._at += 1

    def _place(self, path: Path, line: int) -> Path:
        self.places.setdefault(path, line)
        return path


def _key(token: _Token) -> str:
    if token.kind == "bare":
        return token.text
    import tomllib

    (key,) = tomllib.loads(f"{token.text} = 0")
    return key
